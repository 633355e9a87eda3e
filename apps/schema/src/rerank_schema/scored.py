"""The common result of every matcher: scores of source against target columns, and what speaks for a pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rerank_schema.tables import Column

Evidence = Callable[[int, int], Mapping[str, float]]


def _nothing(source: int, target: int) -> Mapping[str, float]:
    return {}


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of all pairs.

    Parameters
    ----------
    scores
        Shape (n_source, n_target); NaN where a pair is no candidate.
    evidence
        ``f(source, target)`` -> named similarities behind the score, for reasons and decisions.
    words
        Evidence name -> how a reason says it.
    """

    scores: NDArray[np.floating]
    evidence: Evidence = _nothing
    words: Mapping[str, str] = field(default_factory=dict)

    def top(self, k: int) -> list[list[int]]:
        """Return each source column's best target positions, best first; ties in target order."""
        keys = np.where(np.isnan(self.scores), -np.inf, self.scores)
        out: list[list[int]] = []
        for row, key in zip(self.scores, keys, strict=True):
            k_row = min(k, len(row))
            if k_row == 0:
                out.append([])
                continue
            nearest = np.argpartition(-key, k_row - 1)[:k_row] if k_row < len(row) else np.arange(len(row))
            floor = key[nearest].min()
            pool = np.flatnonzero(key >= floor) if np.isfinite(floor) else np.flatnonzero(np.isfinite(key))
            order = pool[np.argsort(-key[pool], kind="stable")][:k_row]
            out.append(order.tolist())
        return out


class Matcher(Protocol):
    """Scores the pairs of two column sets."""

    @property
    def name(self) -> str: ...

    def score(self, sources: Sequence[Column], targets: Sequence[Column]) -> Scored: ...

    def fingerprint(self) -> str: ...


def from_pairs(pairs: Mapping[tuple[int, int], float], n_source: int, n_target: int) -> Scored:
    """Make a result from scored candidate pairs."""
    scores = np.full((n_source, n_target), np.nan)
    for (s, t), score in pairs.items():
        scores[s, t] = score
    return Scored(scores)

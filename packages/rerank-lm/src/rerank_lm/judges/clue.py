"""CLUE: an answer is judged by how its reasoning moved the hidden state.

Source: CLUE, "Non-parametric verification from experience via hidden-state clustering" (2025). With dh the change of
all layers' hidden states from the start to the end of the reasoning, an answer's score is its distance to the mean
change of failures minus that to the mean change of successes, averaged over layers. Nothing is trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from rerank_core.reranker import digest
from rerank_core.strategies.judges import Pair
from rerank_core.types import FloatArray
from rerank_lm.backends.base import BackEnd, Capability, Message, Prompt
from rerank_lm.judges.base import Options, TextJudge, text_of


@dataclass(frozen=True)
class Centroids:
    """Mean changes of successes and failures, each (n_layers, n_dimensions)."""

    success: NDArray[np.float64]
    failure: NDArray[np.float64]

    @classmethod
    def fit(cls, changes: NDArray, correct: Sequence[bool]) -> Centroids:
        """Average labelled changes, shape (n, n_layers, n_dimensions).

        Raises
        ------
        ValueError
            When one of the two classes is empty.
        """
        right = np.asarray(correct, dtype=bool)
        if not right.any() or right.all():
            raise ValueError("CLUE needs at least one success and one failure")
        values = np.asarray(changes, dtype=np.float64)
        return cls(values[right].mean(0), values[~right].mean(0))

    def score(self, changes: NDArray) -> FloatArray:
        """Return ``d(failure) - d(success)``, shape (n,); positive is nearer to the successes."""
        values = np.asarray(changes, dtype=np.float64)
        to_success = np.linalg.norm(values - self.success, axis=-1).mean(-1)
        to_failure = np.linalg.norm(values - self.failure, axis=-1).mean(-1)
        return np.asarray(to_failure - to_success, dtype=np.float64)


def top_majority(answers: Sequence[str], scores: FloatArray, k: int) -> str:
    """Return the most frequent answer among the ``k`` best-scored (top-maj@k); a tie goes to the better score."""
    order = np.argsort(-np.asarray(scores), kind="stable")[:k]
    votes = Counter(answers[i] for i in order)
    most = max(votes.values())
    return next(answers[i] for i in order if votes[answers[i]] == most)


@dataclass(frozen=True)
class ClueOptions(Options):
    """Marks around the reasoning."""

    start: str = "<think>"
    end: str = "</think>"


class Clue(TextJudge):
    """Scores candidates that are reasoning traces, given centroids from labelled ones."""

    name = "clue"
    needs = (Capability.HIDDEN,)
    options_type: ClassVar[type[Options]] = ClueOptions

    def __init__(self, backend: BackEnd, centroids: Centroids, options: ClueOptions | None = None) -> None:
        super().__init__(backend, options)
        self.centroids = centroids

    def fingerprint(self) -> str:
        """Return the digest with the centroids."""
        return digest(super().fingerprint(), self.centroids.success, self.centroids.failure)

    def score(self, pairs: Sequence[Pair]) -> FloatArray:
        """Return distances, shape (n_pairs,); NaN for a trace without both marks."""
        found = changes(self.backend, pairs, self.options)
        out = np.full(len(pairs), np.nan)
        for i, change in enumerate(found):
            if change is not None:
                out[i] = self.centroids.score(change[None])[0]
        self.report["fallback"] += int(np.isnan(out).sum())
        return out


def changes(backend: BackEnd, pairs: Sequence[Pair], options: ClueOptions | None = None) -> list[NDArray | None]:
    """Return each trace's change of hidden state, (n_layers, n_dimensions), or None where a mark is missing."""
    o = options or ClueOptions()
    traces = [text_of(p.item.content, "clue") for p in pairs]
    usable = [i for i, t in enumerate(traces) if o.start in t and o.end in t]
    asked = [Prompt((Message("user", f"{text_of(pairs[i].query, 'clue')}\n{traces[i]}"),), raw=True) for i in usable]
    out: list[NDArray | None] = [None] * len(pairs)
    if asked:
        for i, hidden in zip(usable, backend.hidden(asked, [(o.start, o.end)] * len(asked)), strict=True):
            out[i] = hidden.values[1].astype(np.float64) - hidden.values[0]
    return out

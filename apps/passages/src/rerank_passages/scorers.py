"""What scores (query, text) pairs, and loads its model when it is first asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from rerank_core.types import FloatArray

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class PairScores:
    """Scores of (query, text) pairs, which of them were cut, and the tokens read; each of shape (n_pairs,)."""

    scores: FloatArray
    truncated: NDArray[np.bool_]
    tokens: NDArray[np.int64]


class PairScorer(Protocol):
    """Scores (query, text) pairs one by one: a pair's score depends on nothing else."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores: ...

    def fingerprint(self) -> str: ...


@dataclass
class Lazy:
    """A scorer that is loaded when it is first asked."""

    make: Callable[[], PairScorer]
    _loaded: PairScorer | None = field(default=None, repr=False)

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores:
        """Score pairs."""
        return self._get().score(pairs)

    def fingerprint(self) -> str:
        """Return the scorer's digest."""
        return self._get().fingerprint()

    def _get(self) -> PairScorer:
        if self._loaded is None:
            self._loaded = self.make()
        return self._loaded

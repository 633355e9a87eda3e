"""The default matcher: names, samples, shared values and descriptions with equal weights, hubs corrected.

There is nothing to fit. Every signal is a similarity in [0, 1]; their mean is scaled locally, so that a target column
that resembles everything loses and scores compare between source columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rerank_core.reranker import digest
from rerank_schema.encode import Encoder
from rerank_schema.hubness import NEIGHBOURS, csls
from rerank_schema.lexical import Matrix
from rerank_schema.scored import Scored
from rerank_schema.signals import Signal, signals
from rerank_schema.structure import WEIGHT, with_tables
from rerank_schema.tables import Column

BLOCK = 512
ASKED = 64
"""Source columns whose signals are computed at once when evidence is asked for."""


@dataclass(frozen=True)
class FusedParams:
    """Parameters of the default matcher.

    Parameters
    ----------
    neighbours
        Neighbourhood of the hub correction; 0 switches it off.
    tables
        Weight of the affinity of tables; counts only where the target has several.
    without
        Signals to leave out, by name.
    """

    neighbours: int = NEIGHBOURS
    tables: float = WEIGHT
    without: tuple[str, ...] = ()


class Fused:
    """The default matcher."""

    name = "default"

    def __init__(self, encoder: Encoder, params: FusedParams = FusedParams()) -> None:
        self.encoder, self.params = encoder, params

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest(self.name, self.params, self.encoder.fingerprint())

    def score(self, sources: Sequence[Column], targets: Sequence[Column]) -> Scored:
        """Score all pairs."""
        if not sources or not targets:
            return Scored(np.zeros((len(sources), len(targets)), dtype=np.float32))
        used = [s for s in signals(sources, targets, self.encoder) if s.name not in self.params.without]
        mean = fuse(used, len(sources), len(targets))
        scores = csls(mean, self.params.neighbours) if self.params.neighbours else mean
        scores = with_tables(scores, sources, targets, self.params.tables)
        return Scored(scores, _Evidence(used, mean), {s.name: s.words for s in used})


def fuse(used: Sequence[Signal], n_source: int, n_target: int) -> Matrix:
    """Return the mean of the signals, shape (n_source, n_target), block by block."""
    out = np.zeros((n_source, n_target), dtype=np.float32)
    for start in range(0, n_source, BLOCK):
        stop = min(start + BLOCK, n_source)
        for signal in used:
            out[start:stop] += signal.rows(start, stop)
    out /= max(1, len(used))
    return out


class _Evidence:
    """Signal values of single pairs; keeps those of the last block of source columns asked for."""

    def __init__(self, used: Sequence[Signal], mean: Matrix) -> None:
        self.mean = mean
        self.names = (*(s.name for s in used), "similarity")
        self._used = used
        self._start = -1
        self._values: dict[str, Matrix] = {}

    def __call__(self, source: int, target: int) -> Mapping[str, float]:
        return _Pair(self, source, target)

    def signal(self, name: str, source: int, target: int) -> float:
        """Return one signal's value."""
        start = source - source % ASKED
        if start != self._start:
            stop = min(start + ASKED, len(self.mean))
            self._values = {s.name: s.rows(start, stop) for s in self._used}
            self._start = start
        return float(self._values[name][source - start, target])


@dataclass(frozen=True, slots=True)
class _Pair(Mapping[str, float]):
    """The evidence of one pair, computed when a value is asked for: decisions want the similarity alone."""

    whole: _Evidence
    source: int
    target: int

    def __getitem__(self, name: str) -> float:
        if name == "similarity":
            return float(self.whole.mean[self.source, self.target])
        if name not in self.whole.names:
            raise KeyError(name)
        return self.whole.signal(name, self.source, self.target)

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole.names)

    def __len__(self) -> int:
        return len(self.whole.names)

"""How many values two columns share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from rerank_schema.cleaning import Cleaned
from rerank_schema.lexical import Matrix

MAX_VALUES = 5_000
"""Most frequent distinct values looked at of one column."""


class Overlap:
    """Weighted share of a source column's values that a target column holds as well.

    A value weighs ``log(1 + count)`` in the source column, times ``log(1 + n / (1 + df))``, where df of the n target
    columns with values hold it: sharing "yes" with a third of all columns says little, sharing "adenocarcinoma" much.
    """

    def __init__(self, left: Sequence[Cleaned], right: Sequence[Cleaned]) -> None:
        place: dict[str, int] = {}
        holders: list[tuple[int, int]] = []
        for j, column in enumerate(right):
            holders += [(place.setdefault(v, len(place)), j) for v in set(_texts(column))]
        rows, columns = zip(*holders, strict=True) if holders else ((), ())
        shape = (len(place), len(right))
        self._holds = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)
        filled = max(1, sum(1 for c in right if c.values))
        df = np.asarray(self._holds.sum(axis=1)).ravel()
        rarity = np.log(1 + filled / (1 + df))
        unseen = float(np.log(1 + filled))
        self._weights = [_weights(c, place, rarity, unseen) for c in left]
        self._values = len(place)

    def rows(self, start: int, stop: int) -> Matrix:
        """Return the shares for some source columns, shape (stop - start, n_target)."""
        part = self._weights[start:stop]
        lengths = [0, *(len(w) for w in part)]
        matrix = sparse.csr_matrix(
            (
                np.array([x for w in part for x in w.values()], dtype=np.float32),
                np.array([k for w in part for k in w], dtype=np.int64),
                np.cumsum(lengths),
            ),
            shape=(len(part), self._values),
        )
        return np.asarray((matrix @ self._holds).todense(), dtype=np.float32)


def _texts(column: Cleaned) -> list[str]:
    if len(column.values) <= MAX_VALUES:
        return [str(v) for v in column.values]
    return [str(column.values[i]) for i in np.argsort(-column.counts, kind="stable")[:MAX_VALUES]]


def _weights(column: Cleaned, place: dict[str, int], rarity: np.ndarray, unseen: float) -> dict[int, float]:
    counts: dict[str, int] = {}
    for value, count in zip(column.values, column.counts.tolist(), strict=True):
        counts[str(value)] = counts.get(str(value), 0) + count
    if len(counts) > MAX_VALUES:
        counts = dict(sorted(counts.items(), key=lambda item: -item[1])[:MAX_VALUES])
    weight = {v: float(np.log1p(n) * (rarity[place[v]] if v in place else unseen)) for v, n in counts.items()}
    total = sum(weight.values())
    return {place[v]: w / total for v, w in weight.items() if v in place} if total > 0 else {}

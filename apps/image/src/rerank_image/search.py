"""Exact search in a large matrix of descriptors, block by block, and an approximate one that is rescored exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_image.arrays import Ids, Matrix

BLOCK = 4096


@dataclass(frozen=True)
class Hits:
    """Search results, best first.

    Parameters
    ----------
    ids
        Rows of the database, shape (n_queries, k).
    scores
        Inner products, shape (n_queries, k).
    """

    ids: Ids
    scores: Matrix


def blocks(n: int, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive blocks."""
    for start in range(0, n, size):
        yield start, min(n, start + size)


def search(
    queries: Matrix,
    db: NDArray[Any],
    k: int,
    *,
    alive: NDArray[np.bool_] | None = None,
    block: int = BLOCK,
    threads: int = 1,
    read: Callable[[int, int], Matrix] | None = None,
) -> Hits:
    """Find each query's ``k`` largest inner products, exactly; products are summed in float32.

    Works in blocks, so memory is ``threads * block * d * 4`` bytes and a few candidates a query, whatever the size
    of the database. Ties go to the smaller row.

    Parameters
    ----------
    queries
        Shape (n_queries, d), float32.
    db
        Shape (n_db, d), float16 or float32, may be memory-mapped.
    alive
        Rows that count, shape (n_db,); by default all.
    read
        How to get rows ``start:stop`` as float32; by default by slicing ``db``.
    """
    n = len(db)
    get = read or (lambda a, b: np.asarray(db[a:b], dtype=np.float32))
    pool = _Pool(len(queries), min(k, n))

    def work(span: tuple[int, int]) -> tuple[int, int, NDArray[Any]]:
        start, stop = span
        scores = queries @ get(start, stop).T
        if alive is not None:
            scores[:, ~alive[start:stop]] = -np.inf
        return start, stop, scores

    spans = list(blocks(n, block))
    if threads <= 1 or len(spans) < 2:
        for span in spans:
            pool.add(*work(span))
    else:
        # windows of `threads` blocks: bounded memory, and blocks arrive in order, so ties stay with the smaller row
        with ThreadPoolExecutor(threads) as executor:
            for i in range(0, len(spans), threads):
                for part in executor.map(work, spans[i : i + threads]):
                    pool.add(*part)
    return pool.result()


class _Pool:
    """Running top k of several queries: keeps what beats the k-th best so far and tidies up when it grows."""

    def __init__(self, n_queries: int, k: int) -> None:
        self.k = k
        self.floor = np.full(n_queries, -np.inf, dtype=np.float32)
        self.parts: list[list[tuple[Ids, Matrix]]] = [[] for _ in range(n_queries)]
        self.sizes = np.zeros(n_queries, dtype=np.int64)

    def add(self, start: int, stop: int, scores: NDArray[Any]) -> None:
        hit = scores > self.floor[:, None]
        for q in np.flatnonzero(hit.any(axis=1)):
            (columns,) = np.nonzero(hit[q])
            self.parts[q].append((columns + start, scores[q, columns]))
            self.sizes[q] += len(columns)
            if self.sizes[q] >= 2 * self.k:
                self._tidy(int(q))

    def _tidy(self, q: int) -> None:
        ids = np.concatenate([p[0] for p in self.parts[q]]) if self.parts[q] else np.zeros(0, np.int64)
        values = np.concatenate([p[1] for p in self.parts[q]]) if self.parts[q] else np.zeros(0, np.float32)
        if len(ids) > self.k:
            kth = np.partition(values, len(values) - self.k)[len(values) - self.k]
            keep = values >= kth
            ids, values = ids[keep], values[keep]
        best = np.lexsort((ids, -values))[: self.k]
        self.parts[q] = [(ids[best], values[best])]
        self.sizes[q] = len(best)
        if len(best) == self.k and self.k:
            self.floor[q] = values[best[-1]]

    def result(self) -> Hits:
        n = len(self.parts)
        for q in range(n):
            self._tidy(q)
        width = max((len(p[0][0]) for p in self.parts), default=0)
        ids = np.zeros((n, width), dtype=np.int64)
        scores = np.zeros((n, width), dtype=np.float32)
        for q, ((i, s),) in enumerate(self.parts):
            ids[q, : len(i)], scores[q, : len(s)] = i, s
        return Hits(ids, scores)

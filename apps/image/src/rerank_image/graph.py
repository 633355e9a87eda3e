"""The k-nearest-neighbour graph of all queries and database vectors, in blocks; what the graph methods stand on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rerank_image.arrays import Ids, Matrix
from rerank_image.search import blocks


@dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours of n vectors among themselves.

    Parameters
    ----------
    ids
        Row i: i itself, then its nearest others, best first; shape (n, k).
    scores
        Their inner products, shape (n, k).
    lowest
        Each row's smallest inner product with any vector, shape (n,).
    """

    ids: Ids
    scores: Matrix
    lowest: Matrix


def nearest(x: Matrix, k: int, block: int = 512, sample: int = 4096) -> Neighbours:
    """Find each vector's ``k`` nearest, itself first, exactly.

    The k-th best of a sample of columns bounds the k-th best of all from below, so each block needs one comparison
    pass and a small sort instead of a selection over n columns. Memory beside the result: ``4 block n`` bytes.
    """
    n = len(x)
    k = min(k, n)
    ids = np.empty((n, k), dtype=np.int64)
    scores = np.empty((n, k), dtype=np.float32)
    lowest = np.empty(n, dtype=np.float32)
    step = max(1, n // sample)
    for start, stop in blocks(n, block):
        s = x[start:stop] @ x.T
        rows = np.arange(stop - start)
        own = s[rows, rows + start].copy()
        lowest[start:stop] = s.min(axis=1)
        s[rows, rows + start] = np.inf  # a twin must not take the vector's own place
        part = s[:, ::step] if s.shape[1] // step >= 2 * k else s
        floor = np.partition(part, part.shape[1] - k, axis=1)[:, part.shape[1] - k]
        i, j = np.nonzero(s >= floor[:, None])
        value = s[i, j]
        best = np.lexsort((j, -value, i))
        first = np.searchsorted(i, rows)  # i is sorted; lexsort keeps rows together
        take = best[first[:, None] + np.arange(k)]
        ids[start:stop], scores[start:stop] = j[take], value[take]
        scores[start:stop, 0] = own
    return Neighbours(ids, scores, lowest)


def membership(ids: Ids, n: int, weights: NDArray[np.floating] | None = None) -> sparse.csr_array:
    """Return the (rows, n) matrix that has a weight, by default 1, where column j is among row i's ids."""
    rows, k = ids.shape
    data = np.ones(rows * k, dtype=np.float32) if weights is None else weights.ravel()
    # copies: SciPy sorts a matrix's arrays in place, and the neighbour lists must keep their order
    out = sparse.csr_array((data.copy(), ids.flatten(), np.arange(0, rows * k + 1, k)), shape=(rows, n))
    out.sort_indices()
    return out


def products(x: Matrix, rows: NDArray[np.integer], columns: NDArray[np.integer], chunk: int = 1 << 16) -> Matrix:
    """Inner products of pairs of rows of ``x``, shape (n_pairs,)."""
    out = np.empty(len(rows), dtype=np.float32)
    for a, b in blocks(len(rows), chunk):
        out[a:b] = np.einsum("nd,nd->n", x[rows[a:b]], x[columns[a:b]])
    return out


def scaled(matrix: sparse.csr_array, factors: NDArray[np.floating]) -> sparse.csr_array:
    """Multiply each row by a number."""
    out = matrix.copy()
    out.data *= np.repeat(factors.astype(np.float32), np.diff(out.indptr))
    return out

"""Diffusion with late truncation on the mutual neighbour graph.

Source: Yang et al., "Efficient Image Retrieval via Decoupling Diffusion into Online and Offline Processing" (AAAI
2019), and its released code, which is followed: affinity ``max(s, 0)^3`` between mutual neighbours, ``L = I - 0.99
D^-1/2 A D^-1/2``, each vector's row of ``L^-1`` solved by at most 20 steps of conjugate gradients on its
``truncate`` nearest vectors; L2-normalised rows are the new descriptors. The released code calls SciPy's ``cg`` with a
keyword that SciPy 1.14 removed; here the steps are written out for a block of vectors at once.

Memory: ``12 n neighbours`` bytes of graph, ``12 n min(truncate, n)`` of rows, ``4 block n``; n = n_queries + n_db.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import cg

from rerank_core.errors import UsageError
from rerank_image.arrays import Matrix
from rerank_image.graph import Neighbours, membership, nearest
from rerank_image.search import blocks


@dataclass(frozen=True)
class DiffusionParams:
    """The released code's parameters.

    Parameters
    ----------
    neighbours
        k_d, size of the neighbour lists (the vector itself counts).
    gamma
        Power of the similarity.
    alpha
        Damping.
    truncate
        Nearest vectors on which a row is solved.
    steps, tolerance
        Limits of conjugate gradients (relative residual).
    """

    neighbours: int = 50
    gamma: float = 3.0
    alpha: float = 0.99
    truncate: int = 1000
    steps: int = 20
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.neighbours < 2 or self.truncate < 1 or self.steps < 1 or not 0 < self.alpha < 1:
            raise UsageError("diffusion needs neighbours >= 2, truncate >= 1, steps >= 1 and 0 < alpha < 1")


def diffusion(queries: Matrix, db: Matrix, params: DiffusionParams | None = None) -> Matrix:
    """Score the database, shape (n_queries, n_db); higher is better. Queries are part of the graph."""
    p = params or DiffusionParams()
    x = np.concatenate([queries, db])
    n, nq = len(x), len(queries)
    whole = p.truncate >= n
    near = nearest(x, p.neighbours if whole else max(p.neighbours, p.truncate))
    laplacian = graph_laplacian(near, p)
    rows = _solve_all(laplacian, p) if whole else _solve_truncated(laplacian, near, p)
    norms = np.sqrt(rows.multiply(rows).sum(axis=1))
    rows.data /= np.repeat(np.where(norms > 0, norms, 1), np.diff(rows.indptr))
    return (rows[:nq] @ rows[nq:].T).toarray().astype(np.float32)


def graph_laplacian(near: Neighbours, p: DiffusionParams) -> sparse.csr_array:
    """Return ``I - alpha D^-1/2 A D^-1/2`` of the mutual neighbour graph, shape (n, n)."""
    n = len(near.ids)
    k = min(p.neighbours, n)
    weights = np.clip(near.scores[:, :k], 0, None).astype(np.float64) ** p.gamma
    weights[:, 0] = 0  # no edge to oneself
    ids = near.ids[:, :k]
    affinity = membership(ids, n, weights).multiply(membership(ids, n).T).tocsr()
    scale = sparse.dia_array(((affinity.sum(axis=1) + 1e-12)[None] ** -0.5, [0]), shape=(n, n))
    return (sparse.eye_array(n) - p.alpha * (scale @ affinity @ scale)).tocsr()


def _solve_all(laplacian: sparse.csr_array, p: DiffusionParams, block: int = 512) -> sparse.csr_array:
    """Conjugate gradients for every unit vector, a block of right-hand sides at a time."""
    n = laplacian.shape[0]
    parts = []
    for start, stop in blocks(n, block):
        x = np.zeros((n, stop - start))
        r = np.zeros_like(x)
        r[np.arange(start, stop), np.arange(stop - start)] = 1
        direction, squared = r.copy(), np.ones(stop - start)
        for _ in range(p.steps):
            active = np.sqrt(squared) > p.tolerance  # the right-hand side has norm 1
            if not active.any():
                break
            moved = laplacian @ direction
            step = np.where(active, squared / _safe((direction * moved).sum(axis=0)), 0)
            x += step * direction
            r -= step * moved
            new = (r * r).sum(axis=0)
            direction = r + np.where(active, new / _safe(squared), 0) * direction
            squared = np.where(active, new, squared)
        parts.append(sparse.csr_array(x.T))
    return sparse.vstack(parts).tocsr()


def _solve_truncated(laplacian: sparse.csr_array, near: Neighbours, p: DiffusionParams) -> sparse.csr_array:
    """One small system a vector, on its nearest ``truncate``."""
    n = laplacian.shape[0]
    data, columns, pointer = [], [], [0]
    for ids in near.ids[:, : p.truncate]:
        unit = np.zeros(len(ids))
        unit[0] = 1
        solution, _ = cg(laplacian[ids][:, ids], unit, rtol=p.tolerance, atol=0.0, maxiter=p.steps)
        data.append(solution.astype(np.float32))
        columns.append(ids)
        pointer.append(pointer[-1] + len(ids))
    rows = sparse.csr_array((np.concatenate(data), np.concatenate(columns), np.array(pointer)), shape=(n, n))
    rows.sort_indices()
    return rows


def _safe(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) > 0, x, 1)

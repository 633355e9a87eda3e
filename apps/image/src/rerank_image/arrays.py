"""Checks and small helpers for matrices of descriptors."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rerank_core.errors import InputError

Matrix: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.int64]


def l2(x: NDArray[Any], axis: int = -1) -> NDArray[Any]:
    """Divide vectors by their Euclidean norm; zero vectors stay zero."""
    norm = np.linalg.norm(x, axis=axis, keepdims=True)
    return x / np.where(norm > 0, norm, 1)


def as_matrix(x: ArrayLike, name: str = "descriptors") -> Matrix:
    """Return descriptors as float32 of shape (n, d), or say what is wrong with them.

    Raises
    ------
    InputError
        When the array is not two-dimensional, not numeric, or holds NaN or infinity (the first bad row is named).
    """
    a = np.asarray(x)
    if a.ndim != 2 or a.shape[1] == 0:
        raise InputError(f"{name}: expected a matrix of shape (n, d), got shape {a.shape}")
    if a.dtype.kind not in "fiu":
        raise InputError(f"{name}: expected numbers, got dtype {a.dtype}")
    m: Matrix = np.ascontiguousarray(a, dtype=np.float32)
    # a sum over the row is finite exactly when no entry is NaN or infinite (up to overflow, which is bad input too)
    bad = np.flatnonzero(~np.isfinite(m.sum(axis=1)))
    if bad.size:
        raise InputError(
            f"{name}: row {bad[0]} holds NaN or infinity ({bad.size} such rows); extract it again or drop it"
        )
    return m


def as_pair(queries: ArrayLike, db: ArrayLike) -> tuple[Matrix, Matrix]:
    """Return checked queries (n_queries, d) and database (n_db, d)."""
    q, x = as_matrix(queries, "queries"), as_matrix(db, "descriptors")
    if q.shape[1] != x.shape[1]:
        raise InputError(f"queries have {q.shape[1]} dimensions, the database {x.shape[1]}: not from one extractor")
    if not len(x):
        raise InputError("descriptors: the database is empty")
    return q, x


def order(scores: NDArray[Any]) -> Ids:
    """Sort each row, best first; ties by the smaller id. Shape (n_queries, n) -> (n_queries, n) of int64."""
    return np.argsort(-scores, axis=-1, kind="stable").astype(np.int64)

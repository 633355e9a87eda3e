"""SuperGlobal reranking in a form that never materialises the neighbourhoods.

Source: Shao et al., ICCV 2023 (arXiv 2308.06954), reranking section, and the released code (MIT), which is followed
where the two differ. Each of the top M candidates is replaced by a weighted mean of itself and its K nearest
candidates, the query by the maximum over the best refined candidates, and the two scores are averaged.

The released code gathers M x (K + 1) x D floats twice. The same algebra needs none of it: with C the (M, D)
candidates and W the (M, M) row-normalised weights with K + 1 nonzeros a row, the refined candidates are ``W C``, so
``S1 = W (C q)``, only K + 1 rows of ``W C`` are ever formed for the expanded query q*, and ``S2 = W (C q*)``.

Memory a query: ``4 M (D + M)`` bytes (3.9 MB at M = 400, D = 2048). Time: one M x M Gram matrix.

Departures from the paper that the released code makes, and that are switches here: ``second="refined"`` scores the
*refined* candidates against the expanded query (paper: the original ones); ``pool_query=False`` leaves the query out
of the maximum (paper: it takes part). Refined vectors are not normalised again, so the score is no cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rerank_core.errors import UsageError
from rerank_image.arrays import Matrix, as_pair


@dataclass(frozen=True)
class SuperGlobalParams:
    """Parameters; the defaults are the paper's (M is the length of the candidate list: 400).

    Parameters
    ----------
    neighbours
        K, nearest candidates that refine a candidate; K + 1 refined candidates make the expanded query.
    beta
        Weight of a neighbour, times its similarity, against weight 1 of the candidate itself.
    second
        ``refined`` (released code) or ``original`` (paper) candidates in the second score.
    pool_query
        Whether the query takes part in the maximum (paper) or not (released code).
    """

    neighbours: int = 9
    beta: float = 0.15
    second: Literal["refined", "original"] = "refined"
    pool_query: bool = False

    def __post_init__(self) -> None:
        if self.neighbours < 0:
            raise UsageError("neighbours must not be negative")
        if self.second not in ("refined", "original"):
            raise UsageError(f"second must be 'refined' or 'original', not {self.second!r}")


@dataclass(frozen=True)
class Refinement:
    """What the method computed for one query, everything in the candidates' order.

    Parameters
    ----------
    score, first, second
        Final score and its two halves, shape (M,).
    neighbours
        Row i: candidate i itself, then its K nearest candidates, shape (M, K + 1).
    weights
        Their weights; each row sums to 1, shape (M, K + 1).
    expanded
        The expanded query, shape (D,).
    """

    score: Matrix
    first: Matrix
    second: Matrix
    neighbours: NDArray[np.intp]
    weights: Matrix
    expanded: Matrix


def refine(query: ArrayLike, candidates: ArrayLike, params: SuperGlobalParams | None = None) -> Refinement:
    """Score candidates from any source against a query.

    Parameters
    ----------
    query
        Shape (D,), unit norm.
    candidates
        Shape (M, D), unit norm, any order; the first stage's order only breaks ties.

    Returns
    -------
    Refinement

    Raises
    ------
    InputError
        When dimensions differ or a value is not finite.
    """
    p = params or SuperGlobalParams()
    q2, c = as_pair(np.atleast_2d(np.asarray(query)), candidates)
    q = q2[0]
    neighbours, similar = _nearest(c @ c.T, p.neighbours)
    weights = np.float32(p.beta) * similar
    weights[:, 0] = 1.0
    weights = _normalised(weights)
    first = _mix(weights, neighbours, c @ q)
    best = np.argsort(-first, kind="stable")[: p.neighbours + 1]
    refined = np.einsum("bk,bkd->bd", weights[best], c[neighbours[best]])
    expanded = refined.max(axis=0)
    if p.pool_query:
        expanded = np.maximum(expanded, q)
    again = c @ expanded
    second = _mix(weights, neighbours, again) if p.second == "refined" else again
    score: Matrix = ((first + second) / 2).astype(np.float32)
    return Refinement(score, first, second, neighbours, weights, expanded)


def superglobal(query: ArrayLike, candidates: ArrayLike, params: SuperGlobalParams | None = None) -> Matrix:
    """Return the new scores, shape (M,), in the candidates' order; see [`refine`][rerank_image.superglobal.refine]."""
    return refine(query, candidates, params).score


def _nearest(gram: Matrix, k: int) -> tuple[NDArray[np.intp], Matrix]:
    """Each row's own index, then its k largest others, sorted, ties by the smaller index; overwrites ``gram``."""
    m = len(gram)
    k = min(k, m - 1)
    rows = np.arange(m)
    ids = np.empty((m, k + 1), dtype=np.intp)
    values = np.empty((m, k + 1), dtype=np.float32)
    # an exact twin must not take the candidate's own place
    ids[:, 0], values[:, 0] = rows, gram.diagonal()
    np.fill_diagonal(gram, -np.inf)
    if k > 32:
        ids[:, 1:] = np.argsort(-gram, axis=1, kind="stable")[:, :k]
        values[:, 1:] = np.take_along_axis(gram, ids[:, 1:], axis=1)
        return ids, values
    for j in range(1, k + 1):  # for a few neighbours, passes for the maximum beat any selection
        best = gram.argmax(axis=1)
        ids[:, j], values[:, j] = best, gram[rows, best]
        gram[rows, best] = -np.inf
    return ids, values


def _normalised(weights: Matrix) -> Matrix:
    """Divide by the row sums; where negative similarities cancel the sum, the candidate stays itself."""
    total = weights.sum(axis=1, keepdims=True)
    alone = np.abs(total) < 1e-6
    weights = np.where(alone, np.eye(1, weights.shape[1], dtype=np.float32), weights)
    out: Matrix = (weights / np.where(alone, np.float32(1), total)).astype(np.float32)
    return out


def _mix(weights: Matrix, neighbours: NDArray[np.intp], values: Matrix) -> Matrix:
    return np.einsum("mk,mk->m", weights, values[neighbours])

"""Cross-encoder search without a second model: scores of a few anchors predict the scores of all items (CUR).

Yadav et al., "Efficient Nearest Neighbor Search for Cross-Encoder Models using Matrix Factorization" (ANNCUR), EMNLP 2022,
and the adaptive anchors of Yadav et al. (ADACUR), EMNLP Findings 2023. Rows of ``known`` are exact scores of anchor queries;
a new query pays for its anchor items only and gets ``c @ pinv(known[:, anchors]) @ known`` for the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating]
ScoreItems = Callable[[NDArray[np.int64]], NDArray[np.floating]]
"""``score(items) -> exact scores of those items for the query at hand``."""


@dataclass(frozen=True)
class CurParams:
    """How anchors are chosen and the budget is spent.

    Parameters
    ----------
    anchors
        Items scored to find out about the query.
    budget
        Exact scores a query in all; what the anchors leave goes to the best predicted items.
    rounds
        1: all anchors at random (ANNCUR). More: later anchors are the items predicted best so far (ADACUR).
    rcond
        Singular values below this share of the largest are dropped: without it the pseudo-inverse explodes where
        there are about as many anchor items as anchor queries.
    """

    anchors: int = 100
    budget: int = 300
    rounds: int = 1
    rcond: float = 1e-2


@dataclass(frozen=True)
class CurResult:
    """Items found, best first, with exact scores; ``predicted`` has a score for every item, shape (n_items,)."""

    items: NDArray[np.int64]
    scores: NDArray[np.float64]
    predicted: NDArray[np.float64]
    calls: int


def predict(
    known: Matrix, anchors: NDArray[np.int64], scores: NDArray[np.floating], rcond: float = 1e-2
) -> NDArray[np.float64]:
    """Predict all items' scores from the anchors' exact ones.

    Parameters
    ----------
    known
        Exact scores of anchor queries, shape (n_queries, n_items); may be memory-mapped.
    anchors
        Item positions, shape (k,).
    scores
        The new query's scores of the anchors, shape (k,).
    """
    block = np.asarray(known[:, anchors], dtype=np.float64)
    weights = np.asarray(scores, dtype=np.float64) @ np.linalg.pinv(block, rcond=rcond)
    return np.asarray(weights @ known, dtype=np.float64)


def search(known: Matrix, score: ScoreItems, params: CurParams | None = None, seed: int = 0) -> CurResult:
    """Find the best items of one query within a budget of exact scores.

    Raises
    ------
    ValueError
        When the budget is smaller than the number of anchors, or there are no items.
    """
    p = params or CurParams()
    n = known.shape[1]
    if not n:
        raise ValueError("there are no items to search")
    if not 1 <= p.anchors <= p.budget or p.rounds < 1:
        raise ValueError("need 1 <= anchors <= budget and at least one round")
    rng = np.random.default_rng(seed)
    exact = np.full(n, np.nan)
    predicted = np.zeros(n)
    sizes = np.diff(np.linspace(0, min(p.anchors, n), min(p.rounds, p.anchors) + 1).astype(np.int64))
    for number, size in enumerate(sizes):
        free = np.flatnonzero(np.isnan(exact))
        new = (
            rng.choice(free, size, replace=False)
            if number == 0
            else free[np.argsort(-predicted[free], kind="stable")[:size]]
        )
        new = np.sort(new)
        exact[new] = score(new)
        anchors = np.flatnonzero(~np.isnan(exact))
        predicted = predict(known, anchors, exact[anchors], p.rcond)
    free = np.flatnonzero(np.isnan(exact))
    rest = free[np.argsort(-predicted[free], kind="stable")[: min(p.budget, n) - (n - len(free))]]
    if len(rest):
        exact[rest] = score(rest)
    found = np.flatnonzero(~np.isnan(exact))
    found = found[np.argsort(-exact[found], kind="stable")]
    return CurResult(found, exact[found], predicted, len(found))


def recall_curve(
    truth: Matrix, known: Matrix, params: list[CurParams], *, k: int = 10, seed: int = 0
) -> list[tuple[CurParams, float]]:
    """Return top-k recall over queries whose full scores are known, shape (n_queries, n_items), for each setting."""
    out = []
    for p in params:
        hits = []
        for q, row in enumerate(np.asarray(truth)):
            found = search(known, lambda items, row=row: row[items], p, seed + q).items[:k]  # type: ignore[misc]
            hits.append(len(set(found.tolist()) & set(np.argsort(-row, kind="stable")[:k].tolist())) / min(k, len(row)))
        out.append((p, float(np.mean(hits))))
    return out


def open_matrix(path: str | Path, shape: tuple[int, int], mode: Literal["r", "w+"] = "r") -> Matrix:
    """Open a float32 score matrix as a memory-mapped ``.npy`` file, so that it need not fit into memory."""
    if mode == "w+":
        return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    matrix: Matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    if matrix.shape != shape:
        raise ValueError(f"{path}: holds a matrix of shape {matrix.shape}, not {shape}")
    return matrix

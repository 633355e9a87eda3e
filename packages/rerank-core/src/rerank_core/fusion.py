"""Fusion: several scored lists of one query become one.

Every method takes runs (id -> score, higher is better) and gives a score to every id of the union. What an id that is
missing from a list gets is part of each method's definition:

==========  =============================================================================================
``rrf``     nothing from that list (Cormack, Clarke and Buettcher, SIGIR 2009; k = 60)
``combsum`` 0 after min-max scaling (Fox and Shaw, TREC-2)
``combmnz`` as combsum, times the number of lists that hold the id
``minmax``  0 after min-max scaling, weighted sum; a list whose scores are all equal gives 0.5
``zscore``  the lowest z-score of that list; a list whose scores are all equal gives 0
``borda``   an equal share of the points that the list left over (de Borda; Aslam and Montague, SIGIR 2001)
``head``    the first list keeps its first ``h`` places; below them the other method decides
==========  =============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rerank_core.types import FloatArray

Scored = Mapping[str, float]


def _matrix(runs: Sequence[Scored]) -> tuple[list[str], FloatArray]:
    """Return the union of ids in order of first sight and scores of shape (n_runs, n_ids), NaN where missing."""
    index: dict[str, int] = {}
    for run in runs:
        for i in run:
            index.setdefault(i, len(index))
    scores = np.full((len(runs), len(index)), np.nan)
    for row, run in zip(scores, runs, strict=True):
        if run:
            values = np.array(list(run.values()), dtype=np.float64)
            finite = values[np.isfinite(values)]
            # An infinite score is just beyond the finite ones, so that sums and spreads stay numbers.
            beyond = (finite.min() - 1, finite.max() + 1) if len(finite) else (-1.0, 1.0)
            row[[index[i] for i in run]] = np.clip(values, *beyond)
    return list(index), scores


def _ranks(row: FloatArray, ids: Sequence[str]) -> FloatArray:
    """Return 1-based ranks in trec_eval's order (score falling, ties by id falling); NaN where the score is."""
    values = row.tolist()
    order = sorted(np.flatnonzero(~np.isnan(row)).tolist(), key=lambda j: (values[j], ids[j]), reverse=True)
    ranks = np.full(row.shape, np.nan)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks


def _minmax(scores: FloatArray) -> FloatArray:
    out = np.full(scores.shape, np.nan)
    for row, target in zip(scores, out, strict=True):
        held = ~np.isnan(row)
        if held.any():
            low, high = row[held].min(), row[held].max()
            target[held] = (row[held] - low) / (high - low) if high > low else 0.5
    return out


def rrf(scores: FloatArray, ids: Sequence[str], weights: FloatArray, *, k: float = 60.0) -> FloatArray:
    """Reciprocal rank fusion: sum of w / (k + rank)."""
    ranks = np.stack([_ranks(row, ids) for row in scores])
    return np.nansum(weights[:, None] / (k + ranks), axis=0)


def combsum(scores: FloatArray, ids: Sequence[str], weights: FloatArray) -> FloatArray:
    """Sum of min-max scaled scores."""
    return np.nansum(weights[:, None] * _minmax(scores), axis=0)


def combmnz(scores: FloatArray, ids: Sequence[str], weights: FloatArray) -> FloatArray:
    """CombSUM times the number of lists that hold the id."""
    return combsum(scores, ids, weights) * (~np.isnan(scores)).sum(axis=0)


def minmax(scores: FloatArray, ids: Sequence[str], weights: FloatArray) -> FloatArray:
    """Weighted mean of min-max scaled scores."""
    return combsum(scores, ids, weights) / max(weights.sum(), 1e-12)


def zscore(scores: FloatArray, ids: Sequence[str], weights: FloatArray) -> FloatArray:
    """Weighted sum of per-list z-scores (population standard deviation)."""
    total = np.zeros(scores.shape[1])
    for row, weight in zip(scores, weights, strict=True):
        held = ~np.isnan(row)
        if not held.any():
            continue
        spread = row[held].std()
        z = (row - row[held].mean()) / spread if spread > 0 else np.where(held, 0.0, np.nan)
        total += weight * np.where(held, z, np.nanmin(z))
    return total


def borda(scores: FloatArray, ids: Sequence[str], weights: FloatArray) -> FloatArray:
    """Borda count over the union: n points for the first, 1 for the last; missing ids share what is left evenly."""
    n = scores.shape[1]
    total = np.zeros(n)
    for row, weight in zip(scores, weights, strict=True):
        ranks = _ranks(row, ids)
        held = int((~np.isnan(ranks)).sum())
        rest = (n - held + 1) / 2  # mean of the points n - held, ..., 1
        total += weight * np.where(np.isnan(ranks), rest, n - ranks + 1)
    return total


FUSIONS: dict[str, Callable[..., FloatArray]] = {
    "rrf": rrf,
    "combsum": combsum,
    "combmnz": combmnz,
    "minmax": minmax,
    "zscore": zscore,
    "borda": borda,
}


def head(
    scores: FloatArray,
    ids: Sequence[str],
    weights: FloatArray,
    *,
    h: int = 1,
    below: str = "rrf",
    **options: Any,
) -> FloatArray:
    """The first list is trusted: it keeps its first ``h`` places, in its order; ``below`` orders the rest."""
    fused = FUSIONS[below](scores, ids, weights, **options)
    ranks = _ranks(scores[0], ids)
    protected = ranks <= h
    if protected.any():
        top = fused.max()
        fused = np.where(protected, top + 1.0 + h - ranks, fused)
    return fused


FUSIONS["head"] = head


def fuse(
    runs: Sequence[Scored], method: str = "rrf", *, weights: Sequence[float] | None = None, **options: Any
) -> dict[str, float]:
    """Fuse the lists of one query.

    Parameters
    ----------
    runs
        One mapping id -> score a list, higher is better; lists may be empty and need not hold the same ids.
    method
        One of `FUSIONS`.
    weights
        One a list, by default all 1.

    Returns
    -------
    dict
        Score of every id of the union, sorted by it, falling; ties by id falling, as trec_eval reads them.

    Raises
    ------
    ValueError
        When the method is unknown or there are not as many weights as lists.
    """
    if method not in FUSIONS:
        raise ValueError(f"unknown fusion {method!r}; known: {', '.join(sorted(FUSIONS))}")
    w = np.ones(len(runs)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != (len(runs),):
        raise ValueError(f"{w.size} weights for {len(runs)} lists")
    ids, scores = _matrix(runs)
    if not ids:
        return {}
    fused = FUSIONS[method](scores, ids, w, **options)
    # Rounding away the last bits makes sums of the same terms in another order tie, as they should.
    values = np.round(fused, 12).tolist()
    return {i: s for s, i in sorted(zip(values, ids, strict=True), reverse=True)}

"""Fusion: several scored lists of one query become one.

Every method takes runs (id -> score, higher is better) and gives a score to every id of the union. Ties inside a
list keep the list's own order. What an id that is missing from a list gets is part of each method's definition:

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
from dataclasses import dataclass
from typing import Any

import numpy as np

from rerank_core.types import FloatArray

Scored = Mapping[str, float]


@dataclass(frozen=True)
class Lists:
    """Several lists over the union of their ids.

    Parameters
    ----------
    ids
        The union, in order of first sight.
    scores
        Shape (n_lists, n_ids), NaN where a list does not hold an id.
    places
        Shape (n_lists, n_ids): where the list names the id; breaks ties inside a list, as its maker ordered them.
    """

    ids: tuple[str, ...]
    scores: FloatArray
    places: FloatArray

    def ranks(self) -> FloatArray:
        """Return 1-based ranks, shape (n_lists, n_ids), NaN where missing."""
        out = np.full(self.scores.shape, np.nan)
        for row, place, target in zip(self.scores, self.places, out, strict=True):
            held = np.flatnonzero(~np.isnan(row))
            target[held[np.lexsort((place[held], -row[held]))]] = np.arange(1, len(held) + 1)
        return out


def _lists(runs: Sequence[Scored]) -> Lists:
    index: dict[str, int] = {}
    for run in runs:
        for i in run:
            index.setdefault(i, len(index))
    scores, places = np.full((2, len(runs), len(index)), np.nan)
    for row, place, run in zip(scores, places, runs, strict=True):
        if run:
            values = np.array(list(run.values()), dtype=np.float64)
            usual = values[np.abs(values) < 1e100]
            # An infinite (or absurd) score is just beyond the others, so that sums and spreads stay numbers.
            beyond = (usual.min() - 1, usual.max() + 1) if len(usual) else (-1.0, 1.0)
            at = [index[i] for i in run]
            row[at] = np.clip(values, *beyond)
            place[at] = np.arange(len(at))
    return Lists(tuple(index), scores, places)


def _minmax(scores: FloatArray) -> FloatArray:
    out = np.full(scores.shape, np.nan)
    for row, target in zip(scores, out, strict=True):
        held = ~np.isnan(row)
        if held.any():
            low, high = row[held].min(), row[held].max()
            target[held] = (row[held] - low) / (high - low) if high > low else 0.5
    return out


def rrf(lists: Lists, weights: FloatArray, *, k: float = 60.0) -> FloatArray:
    """Reciprocal rank fusion: sum of w / (k + rank)."""
    return np.nansum(weights[:, None] / (k + lists.ranks()), axis=0)


def combsum(lists: Lists, weights: FloatArray) -> FloatArray:
    """Sum of min-max scaled scores."""
    return np.nansum(weights[:, None] * _minmax(lists.scores), axis=0)


def combmnz(lists: Lists, weights: FloatArray) -> FloatArray:
    """CombSUM times the number of lists that hold the id."""
    return combsum(lists, weights) * (~np.isnan(lists.scores)).sum(axis=0)


def minmax(lists: Lists, weights: FloatArray) -> FloatArray:
    """Weighted mean of min-max scaled scores."""
    return combsum(lists, weights) / max(weights.sum(), 1e-12)


def zscore(lists: Lists, weights: FloatArray) -> FloatArray:
    """Weighted sum of per-list z-scores (population standard deviation)."""
    total = np.zeros(len(lists.ids))
    for row, weight in zip(lists.scores, weights, strict=True):
        held = ~np.isnan(row)
        if not held.any():
            continue
        spread = row[held].std()
        z = (row - row[held].mean()) / spread if spread > 0 else np.where(held, 0.0, np.nan)
        total += weight * np.where(held, z, np.nanmin(z))
    return total


def borda(lists: Lists, weights: FloatArray) -> FloatArray:
    """Borda count over the union: n points for the first, 1 for the last; missing ids share what is left evenly."""
    n = len(lists.ids)
    total = np.zeros(n)
    for ranks, weight in zip(lists.ranks(), weights, strict=True):
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


def head(lists: Lists, weights: FloatArray, *, h: int = 1, below: str = "rrf", **options: Any) -> FloatArray:
    """The first list is trusted: it keeps its first ``h`` places, in its order; ``below`` orders the rest."""
    fused = FUSIONS[below](lists, weights, **options)
    ranks = lists.ranks()[0]
    protected = ranks <= h
    return np.where(protected, fused.max() + 1.0 + h - ranks, fused) if protected.any() else fused


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
    lists = _lists(runs)
    if not lists.ids:
        return {}
    # Rounding away the last bits makes sums of the same terms in another order tie, as they should.
    values = np.round(FUSIONS[method](lists, w, **options), 12).tolist()
    return {i: s for s, i in sorted(zip(values, lists.ids, strict=True), reverse=True)}

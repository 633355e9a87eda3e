"""Measures of image retrieval: the Revisited Oxford/Paris protocol and its relatives.

Source: Radenovic et al., "Revisiting Oxford and Paris" (CVPR 2018) and its released evaluation code. Its average
precision is no library's: it integrates precision by trapezoids, removes junk from the ranking, and cuts P@k at the
position of the last positive. Released code crashes on a ranking that holds no positive; here that ranking scores 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rerank_core.errors import InputError

Setup = Literal["E", "M", "H"]
SETUPS: tuple[Setup, ...] = ("E", "M", "H")


@dataclass(frozen=True)
class Truth:
    """What is known of one query: database rows by how hard they are to find, and rows that count for nothing."""

    easy: tuple[int, ...] = ()
    hard: tuple[int, ...] = ()
    junk: tuple[int, ...] = ()
    bbx: tuple[float, float, float, float] | None = None

    def split(self, setup: Setup) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return (positives, junk) of a setup: Easy, Medium (easy and hard) or Hard."""
        if setup == "E":
            return self.easy, self.junk + self.hard
        if setup == "M":
            return self.easy + self.hard, self.junk
        return self.hard, self.junk + self.easy


def average_precision(positions: ArrayLike, n_positives: int) -> float:
    """Trapezoidal average precision.

    Parameters
    ----------
    positions
        0-based ranks of the positives found, junk already taken out, any order.
    n_positives
        Positives there are, found or not.
    """
    r = np.sort(np.asarray(positions, dtype=np.float64))
    if not n_positives or not r.size:
        return 0.0
    j = np.arange(len(r))
    before = np.where(r == 0, 1.0, j / np.maximum(r, 1))
    after = (j + 1) / (r + 1)
    return float(((before + after) / 2).sum() / n_positives)


def precision_at(positions: ArrayLike, k: int) -> float:
    """Precision among the first k, with k cut at the last positive found (the protocol's own rule); 0 without any."""
    r = np.asarray(positions)
    if not r.size:
        return 0.0
    kq = min(int(r.max()) + 1, k)
    return float((r + 1 <= kq).sum() / kq)


def positions(ranking: NDArray[np.integer], positives: Iterable[int], junk: Iterable[int]) -> NDArray[np.int64]:
    """0-based ranks of the positives after taking the junk out of the ranking."""
    wanted, skip = np.fromiter(positives, np.int64), np.fromiter(junk, np.int64)
    kept = ranking[~np.isin(ranking, skip)]
    return np.flatnonzero(np.isin(kept, wanted))


@dataclass(frozen=True)
class QueryResult:
    """One query in one setup: average precision and precision at each k; None where it has no positives."""

    ap: float | None
    precision: tuple[float, ...] | None


def evaluate_query(
    ranking: ArrayLike,
    truth: Truth,
    setup: Setup,
    ks: Sequence[int] = (1, 5, 10),
    denominator: Literal["all", "found"] = "all",
) -> QueryResult:
    """Judge one ranking.

    Parameters
    ----------
    ranking
        Database rows, best first; may be cut short.
    denominator
        ``all`` divides by all positives (the protocol); ``found`` by no more than the ranking's length, which does
        not punish a cut ranking (AMES does so).
    """
    ids = np.asarray(ranking, dtype=np.int64)
    positives, junk = truth.split(setup)
    if not positives:
        return QueryResult(None, None)
    found = positions(ids, positives, junk)
    n = len(set(positives)) if denominator == "all" else min(len(set(positives)), len(ids))
    return QueryResult(average_precision(found, n), tuple(precision_at(found, k) for k in ks))


def check_ranks(ranks: NDArray[Any], n_db: int, name: str = "ranks") -> None:
    """Refuse rows outside the database and rows repeated within a query.

    Raises
    ------
    InputError
        Naming the first query that is wrong.
    """
    for q, row in enumerate(ranks):
        if row.size and (row.min() < 0 or row.max() >= n_db):
            bad = row[(row < 0) | (row >= n_db)][0]
            raise InputError(f"{name}: query {q} ranks row {bad}, but the database has {n_db} rows")
        if len(np.unique(row)) != len(row):
            raise InputError(f"{name}: query {q} ranks a row twice")


def gldv2_ap(ranking: ArrayLike, positives: Iterable[Any], k: int = 100) -> float:
    """Average precision at k of Google Landmarks v2: ``1 / min(m, k) * sum of P(i) over relevant ranks i <= k``."""
    wanted = set(positives)
    if not wanted:
        return 0.0
    hits = np.array([i in wanted for i in np.asarray(ranking)[:k].tolist()], dtype=np.float64)
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / min(len(wanted), k))


def rectangular_ap(found: ArrayLike, n_positives: int) -> float:
    """Ordinary average precision: mean over positives of the precision at their rank (0-based ``found``)."""
    r = np.sort(np.asarray(found))
    return float((np.arange(1, len(r) + 1) / (r + 1)).sum() / n_positives) if n_positives else 0.0


def ns_score(ranking: ArrayLike, positives: Iterable[int]) -> float:
    """N-S score of UKBench: relevant pictures among the first four (the picture itself counts), 0 to 4."""
    return float(np.isin(np.asarray(ranking)[:4], list(positives)).sum())

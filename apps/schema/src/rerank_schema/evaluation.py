"""Score a result file against gold, with bootstrap intervals over source columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rerank_core.measures import Row
from rerank_core.statistics import bootstrap
from rerank_schema.gold import GoldPairs, Name
from rerank_schema.match import Match
from rerank_schema.measures import (
    Judged,
    accuracy_at,
    precision_recall_f1,
    recall_hits,
    reciprocal_ranks,
    valentine_one_to_one,
)

ACCURACIES = (1, 3, 5, 10, 20)


def evaluate(matches: Sequence[Match], gold: GoldPairs, *, system: str, seed: int = 0, n_boot: int = 1000) -> list[Row]:
    """Judge a result.

    MRR, Recall@GT, Recall@20, precision, recall and F1 of the decisions (P, R, F1), the same after Valentine's
    one-to-one filter (P@1-1, R@1-1, F1@1-1), and accuracy@k. Intervals come from resampling the source columns that
    have a decision or a gold target; n is their number, for P, R, F1 and Recall@GT as well.
    """
    judged = Judged(matches, gold)
    rows = [
        _mean("MRR", reciprocal_ranks(judged), system, seed, n_boot),
        _pairs("Recall@GT", judged, _at_gold(judged), lambda p, r, f: r, system, seed, n_boot),
        _recall(judged, system, seed, n_boot),
    ]
    for suffix, found in (("", judged.decided), ("@1-1", set(valentine_one_to_one(judged.scores)))):
        for name, pick in (("P", _p), ("R", _r), ("F1", _f)):
            rows.append(_pairs(name + suffix, judged, found, pick, system, seed, n_boot))
    rows += [_mean(f"Accuracy@{k}", accuracy_at(judged, k), system, seed, n_boot) for k in ACCURACIES]
    return rows


Pick = Callable[[float, float, float], float]


def _p(p: float, r: float, f: float) -> float:
    return p


def _r(p: float, r: float, f: float) -> float:
    return r


def _f(p: float, r: float, f: float) -> float:
    return f


def _at_gold(judged: Judged) -> set[tuple[Name, Name]]:
    return set(judged.pairs[: len(judged.gold)])


def _mean(name: str, values: dict[Name, float], system: str, seed: int, n_boot: int) -> Row:
    matrix = np.array([[values[k]] for k in sorted(values)], dtype=np.float64).reshape(-1, 1)
    value = lambda rows: float(rows[:, 0].mean()) if len(rows) else float("nan")  # noqa: E731
    return Row(system, name, value(matrix), len(matrix), *bootstrap(matrix, value, seed=seed, n_boot=n_boot))


def _recall(judged: Judged, system: str, seed: int, n_boot: int) -> Row:
    by_source: dict[Name, list[float]] = {}
    for (s, _), hit in recall_hits(judged).items():
        by_source.setdefault(s, []).append(hit)
    matrix = np.array([[sum(h), len(h)] for _, h in sorted(by_source.items())], dtype=np.float64).reshape(-1, 2)
    value = lambda rows: float(rows[:, 0].sum() / rows[:, 1].sum()) if len(rows) else float("nan")  # noqa: E731
    return Row(system, "Recall@20", value(matrix), len(matrix), *bootstrap(matrix, value, seed=seed, n_boot=n_boot))


def _pairs(
    name: str, judged: Judged, found: set[tuple[Name, Name]], pick: Pick, system: str, seed: int, n_boot: int
) -> Row:
    """A figure of a set of pairs; each source column contributes (right, found, gold) and is resampled whole."""
    counts: dict[Name, list[int]] = {}
    for column, pairs in enumerate((found & judged.gold, found, judged.gold)):
        for s, _ in pairs:
            counts.setdefault(s, [0, 0, 0])[column] += 1
    matrix = np.array([counts[s] for s in sorted(counts)], dtype=np.float64).reshape(-1, 3)

    def value(rows: np.ndarray) -> float:
        right, n_found, n_gold = rows.sum(axis=0) if len(rows) else (0.0, 0.0, 0.0)
        p, r = (right / n if n else 0.0 for n in (n_found, n_gold))
        return float(pick(p, r, 2 * p * r / (p + r) if right else 0.0))

    exact = pick(*precision_recall_f1(found, judged.gold))
    return Row(system, name, float(exact), len(matrix), *bootstrap(matrix, value, seed=seed, n_boot=n_boot))

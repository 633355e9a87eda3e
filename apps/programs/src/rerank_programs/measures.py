"""The field's official figures: execution accuracy of the first and the first three, calibration, abstention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rerank_core.calibration import coverage_accuracy, ece
from rerank_core.measures import PerRequest, Row
from rerank_core.statistics import bootstrap
from rerank_core.types import FloatArray, Gold, Ranking, Request

ANSWERED = 0.75
"""Share of questions answered in ``EX@1 of the surest 75 %``."""
WANTED = 0.95
"""Accuracy at which ``coverage@95%`` is read."""


def execution_accuracy(k: int) -> PerRequest:
    """EX@k: whether one of the first k shown gives the reference result."""

    def best(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
        return max((gains.get(i, 0.0) for i in ranking.ids[:k]), default=0.0)

    return PerRequest(f"EX@{k}", best)


def _random(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
    return float(np.mean([gains.get(i, 0.0) for i in ranking.ids]))


def _oracle(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
    return max((gains.get(i, 0.0) for i in ranking.ids), default=0.0)


OFFICIAL = (execution_accuracy(1), execution_accuracy(3), PerRequest("random", _random), PerRequest("oracle", _oracle))
"""EX@1, EX@3, and what a random and a perfect choice among the candidates would reach."""


def answered(confidence: FloatArray, correct: FloatArray, share: float = ANSWERED) -> float:
    """EX@1 of the surest share of questions (rounded to whole questions); ties are cut in the input's order."""
    keep = np.argsort(-confidence, kind="stable")[: max(1, round(share * len(confidence)))]
    return float(correct[keep].mean())


def coverage(confidence: FloatArray, correct: FloatArray, accuracy: float = WANTED) -> float:
    """Return the largest share of questions, surest first, whose EX@1 is at least the accuracy."""
    covered, reached = coverage_accuracy(confidence, correct)
    good = covered[reached >= accuracy]
    return float(good[-1]) if len(good) else 0.0


def confidence_rows(
    confidence: Sequence[float], correct: Sequence[float], *, system: str, seed: int = 0, n_boot: int = 1000
) -> list[Row]:
    """Judge confidences: ECE (10 bins), coverage at 95 % accuracy, EX@1 of the surest 75 %.

    Parameters
    ----------
    confidence, correct
        Shape (n,): what was claimed for the first candidate, and whether it was right.
    """
    pairs = np.column_stack([np.asarray(confidence, float), np.asarray(correct, float)])
    figures = {
        "ECE": lambda m: ece(np.clip(m[:, 0], 0, 1), m[:, 1]),
        "coverage@95%": lambda m: coverage(m[:, 0], m[:, 1]),
        "EX@1 of surest 75%": lambda m: answered(m[:, 0], m[:, 1]),
    }
    rows = []
    for name, figure in figures.items():
        low, high = bootstrap(pairs, figure, seed=seed, n_boot=n_boot)
        rows.append(Row(system, name, figure(pairs), len(pairs), low, high))
    return rows


def mcnemar(a: Sequence[float], b: Sequence[float]) -> tuple[int, int, float]:
    """Exact McNemar test of two systems' right and wrong answers to the same questions.

    Returns
    -------
    only_a, only_b : int
        Questions only the one got right.
    p : float
        Two-sided, from the binomial distribution.
    """
    from scipy.stats import binomtest

    x, y = np.asarray(a) > 0.5, np.asarray(b) > 0.5
    only_a, only_b = int((x & ~y).sum()), int((y & ~x).sum())
    n = only_a + only_b
    return only_a, only_b, float(binomtest(only_a, n).pvalue) if n else 1.0


def judge(
    gold: Gold,
    rankings: Sequence[Ranking],
    confidence: Mapping[str, float],
    *,
    system: str,
    seed: int = 0,
) -> list[Row]:
    """Return every official figure of one system; confidences only where all judged requests have one."""
    from rerank_core.measures import evaluate

    rows = evaluate(OFFICIAL, gold, rankings, system=system, seed=seed)
    judged = [r for r in rankings if r.id in gold]
    if judged and all(r.id in confidence for r in judged):
        correct = [gold[r.id].get(r.ids[0], 0.0) for r in judged]
        rows += confidence_rows([confidence[r.id] for r in judged], correct, system=system, seed=seed)
    return rows

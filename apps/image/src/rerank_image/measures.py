"""Tables of the field's measures over rankings of rows, and the same measures for the shared engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from rerank_core.errors import InputError
from rerank_core.measures import PerRequest, Row, mean
from rerank_core.statistics import bootstrap, paired_bootstrap, randomisation_test
from rerank_core.types import Ranking, Request
from rerank_image import revisited
from rerank_image.data import GroundTruth
from rerank_image.revisited import SETUPS, Setup, Truth, evaluate_query
from rerank_image.search import Hits

KS = (1, 5, 10)

PerQuery = dict[str, float]
"""Query -> value; queries that a measure cannot judge are absent."""


def per_query(
    hits: Hits,
    truth: GroundTruth,
    ks: Sequence[int] = KS,
    denominator: Literal["all", "found"] = "all",
    name: str = "ranks",
) -> dict[str, PerQuery]:
    """Judge rankings by the revisited protocol: measure -> query -> value, values between 0 and 1.

    Raises
    ------
    InputError
        When the rankings do not fit the ground truth.
    """
    if len(hits.ids) != len(truth.queries):
        raise InputError(f"{name}: {len(hits.ids)} rankings, but the ground truth has {len(truth.queries)} queries")
    lists = [row[row >= 0] if (row == -1).any() and name.startswith("run") else row for row in hits.ids]
    for q, row in enumerate(lists):
        revisited.check_ranks(row[None], len(truth.images), f"{name}, query {truth.queries[q]}")
    out: dict[str, PerQuery] = {}
    for setup in SETUPS:
        aps: PerQuery = {}
        precise: dict[int, PerQuery] = {k: {} for k in ks}
        for i, (row, t) in enumerate(zip(lists, truth.truths, strict=True)):
            result = evaluate_query(row, t, setup, ks, denominator)
            if result.ap is None or result.precision is None:
                continue
            key = f"{i:06d} {truth.queries[i]}"
            aps[key] = result.ap
            for k, value in zip(ks, result.precision, strict=True):
                precise[k][key] = value
        out[f"mAP-{setup}"] = aps
        out.update({f"mP@{k}-{setup}": precise[k] for k in ks})
    return out


def table(systems: Mapping[str, Mapping[str, PerQuery]], *, seed: int = 0, n_boot: int = 1000) -> list[dict[str, Any]]:
    """Summarise per-query values: one row a measure and system, with intervals; paired against the first system.

    Rows are the ones of ``eval --json``; values are fractions. From the second system on, ``diff``, ``diff_low``,
    ``diff_high`` and ``p`` compare it with the first, query by query.
    """
    first = next(iter(systems))
    out = []
    for measure in systems[first]:
        base = systems[first][measure]
        for name, all_measures in systems.items():
            values = all_measures[measure]
            row = summarise(name, measure, values, seed=seed, n_boot=n_boot).as_dict()
            if name != first and values and set(values) & set(base):
                diff, low, high, _ = paired_bootstrap(values, base, seed=seed)
                p = randomisation_test(values, base, seed=seed)
                row |= {"baseline": first, "diff": diff, "diff_low": low, "diff_high": high, "p": p}
            out.append(row)
    return out


def summarise(system: str, measure: str, values: PerQuery, *, seed: int = 0, n_boot: int = 1000) -> Row:
    """Mean over queries with its bootstrap interval."""
    if not values:
        return Row(system, measure, math.nan, 0, math.nan, math.nan)
    matrix = np.array([[values[q]] for q in sorted(values)])
    low, high = bootstrap(matrix, mean, seed=seed, n_boot=n_boot)
    return Row(system, measure, mean(matrix), len(values), low, high)


def landmarks(submission: Mapping[str, Sequence[str]], solution: Mapping[str, set[str]], k: int = 100) -> PerQuery:
    """GLDv2 average precision at k of every query of the solution; a query without a submission scores 0."""
    return {
        q: revisited.gldv2_ap(np.array(submission.get(q, []), dtype=object), images, k)
        for q, images in solution.items()
    }


def classes(hits: Hits, truth: GroundTruth, ks: Sequence[int] = KS) -> dict[str, PerQuery]:
    """Plain measures for sets without difficulties: rectangular mAP, P@k, R@k, Hit@k and the N-S score (0 to 4).

    R@k is the share of the positives among the first k, Hit@k whether any is there (what place recognition calls R@k).
    Positives are easy and hard ones together; junk is taken out of the ranking, except that the N-S score counts the
    picture itself, as UKBench does.
    """
    names = ["mAP", *(f"{m}@{k}" for m in ("P", "R", "Hit") for k in ks), "N-S"]
    out: dict[str, PerQuery] = {n: {} for n in names}
    for i, (row, t) in enumerate(zip(hits.ids, truth.truths, strict=True)):
        positives, junk = t.split("M")
        if not positives:
            continue
        key = f"{i:06d} {truth.queries[i]}"
        found = revisited.positions(row, positives, junk)
        out["mAP"][key] = revisited.rectangular_ap(found, len(set(positives)))
        for k in ks:
            out[f"P@{k}"][key] = float((found < k).sum() / k)
            out[f"Hit@{k}"][key] = float((found < k).any())
            out[f"R@{k}"][key] = float((found < k).sum() / len(set(positives)))
        out["N-S"][key] = revisited.ns_score(row, (*positives, *junk))
    return out


# -- the same for the shared engine --------------------------------------------------------------------------------


def gain_measure(setup: Setup) -> PerRequest:
    """Revisited mAP over a request's candidates: gain 2 is easy, 1 hard, negative junk.

    Positives that are not among the candidates count as missed; the gold holds them all.
    """

    def judge(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
        names = list(dict.fromkeys([*ranking.ids, *gains]))
        row = {name: i for i, name in enumerate(names)}
        truth = Truth(
            tuple(row[n] for n, g in gains.items() if g >= 2),
            tuple(row[n] for n, g in gains.items() if 0 < g < 2),
            tuple(row[n] for n, g in gains.items() if g < 0),
        )
        ap = evaluate_query([row[i] for i in ranking.ids], truth, setup).ap
        return math.nan if ap is None else ap

    return PerRequest(f"mAP-{setup}", judge)


MEASURES = tuple(gain_measure(s) for s in SETUPS)

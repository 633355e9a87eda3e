"""One call from systems to a table: values, intervals, and paired tests against a baseline."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rerank_core.budget import Budget, Meter
from rerank_core.domain import Domain
from rerank_core.engine import cut, rerank_within
from rerank_core.measures import COMMON, GainRecovered, Measure, settle, summarise
from rerank_core.reranker import FirstStage, Reranker
from rerank_core.statistics import randomisation_test
from rerank_core.types import Dataset, Ranking, Status

FIRST = "first stage"
ORACLE = "oracle"


def compare(
    dataset: Dataset[Any, Any],
    systems: Mapping[str, Sequence[Ranking]],
    measures: Sequence[Measure],
    *,
    baseline: str | None = FIRST,
    seed: int = 0,
    n_boot: int = 1000,
) -> list[dict[str, Any]]:
    """Judge several systems on the same requests.

    Returns
    -------
    list of dict
        The rows that ``eval --json`` prints; where a baseline is among the systems and the measure is a mean, with
        ``p``, the paired randomisation test against it.
    """
    requests = {r.id: r for r in dataset.requests}
    gold = {q: dataset.gold.get(q, {}) for q in requests}
    out: list[dict[str, Any]] = []
    for measure in measures:
        rows = {
            name: settle(measure.rows(gold, {r.id: r for r in rankings}, requests), {}, gold, "zero")
            for name, rankings in systems.items()
        }
        for name, mine in rows.items():
            row = summarise(measure, mine, system=name, seed=seed, n_boot=n_boot).as_dict()
            base = rows.get(baseline) if baseline is not None else None
            if base and name != baseline and mine and len(next(iter(mine.values()))) == 1:
                common = set(mine) & set(base)
                row["p"] = round(
                    randomisation_test({q: mine[q][0] for q in common}, {q: base[q][0] for q in common}, seed=seed), 5
                )
            out.append(row)
    return out


def oracle_rankings(dataset: Dataset[Any, Any]) -> list[Ranking]:
    """Return what a perfect reranker of the same candidates would answer."""
    out = []
    for request in dataset.requests:
        gains = dataset.gold.get(request.id, {})
        out.append(Ranking.from_scores(request, [gains.get(i, 0.0) for i in request.ids]))
    return out


@dataclass(frozen=True)
class Trial:
    """What a domain's methods did on a dataset.

    ``rows`` as `compare` gives them, with the domain's name; ``rankings`` system -> rankings; ``seconds`` system ->
    wall seconds; ``failures`` method -> why it could not run.
    """

    domain: str
    rows: list[dict[str, Any]]
    rankings: Mapping[str, Sequence[Ranking]]
    seconds: Mapping[str, float]
    failures: Mapping[str, str] = field(default_factory=dict)


def trial(
    domain: Domain[Any, Any],
    dataset: Dataset[Any, Any],
    rerankers: Mapping[str, Reranker],
    *,
    budget: Budget | None = None,
    seed: int = 0,
    n_boot: int = 1000,
) -> Trial:
    """Run rerankers on a dataset and judge them beside the first stage and the oracle.

    Measures are the common ones and the domain's own. The oracle is judged by means only.
    """
    systems: dict[str, Sequence[Ranking]] = {FIRST: FirstStage().rerank(dataset.requests)}
    seconds: dict[str, float] = {FIRST: 0.0}
    for name, reranker in rerankers.items():
        start = time.perf_counter()
        meter = Meter(budget)
        by_id = {r.id: r for batch in cut(dataset.requests, 64) for r in rerank_within(reranker, batch, meter)}
        systems[name] = [by_id[r.id] for r in dataset.requests]
        seconds[name] = time.perf_counter() - start
    systems[ORACLE] = oracle_rankings(dataset)
    own = [m for m in domain.measures if m.name not in {c.name for c in COMMON}]
    shared = [m for m in COMMON if m.name != "Oracle" and not _useless(m, systems)]
    rows = compare(dataset, systems, [*shared, *own], seed=seed, n_boot=n_boot)
    cost = {name: sum(r.cost.calls for r in rankings) for name, rankings in systems.items()}
    for row in rows:
        row["domain"] = domain.name
        row["data"] = dataset.name or "sample"
        row["seconds"] = round(seconds.get(row["system"], math.nan), 3) if row["system"] in seconds else None
        row["calls"] = cost[row["system"]]
    return Trial(domain.name, rows, systems, seconds)


def _useless(measure: Measure, systems: Mapping[str, Sequence[Ranking]]) -> bool:
    # A ratio to the first stage says nothing where there is nothing but the first stage.
    return isinstance(measure, GainRecovered) and set(systems) == {FIRST, ORACLE}


def statuses(rankings: Sequence[Ranking]) -> dict[str, int]:
    """Count rankings by status, worst ones included only where they occur."""
    return {str(s): n for s in Status if (n := sum(r.status is s for r in rankings))}


__all__ = ["FIRST", "ORACLE", "Trial", "compare", "oracle_rankings", "statuses", "trial"]

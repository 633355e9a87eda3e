"""What a cell runs: a method or judge, or a fusion of an experiment's methods."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from rerank_core.ablation.cells import LEARNED, System
from rerank_core.budget import Budget, Meter
from rerank_core.domain import Domain
from rerank_core.engine import Executor, cut
from rerank_core.errors import InputError
from rerank_core.fusion import fuse
from rerank_core.learning import FeatureTable, cross_fit, gains_of, rank_features
from rerank_core.reranker import FirstStage
from rerank_core.types import Cost, Dataset, Ranking


def system_rankings(
    domain: Domain[Any, Any],
    dataset: Dataset[Any, Any],
    system: System,
    budget: Budget | None,
    executor: Executor,
    seed: int,
) -> list[Ranking]:
    """Run one system on a dataset; gold is used by ``learned`` alone, and there across folds of whole groups."""
    requests = dataset.requests
    if system.kind == "fuse":
        parts = [
            system_rankings(domain, dataset, System(n, "method", json.loads(c)), budget, executor, seed)
            for n, c in system.parts
        ]
        lists = [FirstStage().rerank(requests), *parts]
        return _learned(dataset, lists, seed) if system.name == LEARNED else _fused(dataset, lists, system.name)
    reranker = domain.method(system.name, dict(system.config))
    limited_ = None if budget is None or budget == Budget() else budget
    found = executor(reranker, enumerate(cut(requests, 64)), Meter(limited_))
    by_id = {r.id: r for _, rankings in found for r in rankings}
    return [by_id[r.id] for r in requests]


def _fused(dataset: Dataset[Any, Any], lists: Sequence[Sequence[Ranking]], method: str) -> list[Ranking]:
    out = []
    for request, *rankings in zip(dataset.requests, *lists, strict=True):
        scores = fuse([{x.id: x.score for x in r.items if x.score is not None} for r in rankings], method)
        cost = sum((r.cost for r in rankings), Cost())
        out.append(Ranking.from_scores(request, [scores.get(i, np.nan) for i in request.ids], cost=cost))
    return out


def _learned(dataset: Dataset[Any, Any], lists: Sequence[Sequence[Ranking]], seed: int) -> list[Ranking]:
    """LambdaRank over every list's reciprocal rank, z-score and gap, cross-fitted over split groups."""
    requests = dataset.requests
    columns = [
        rank_features("", {str(i): r.scores_for(q) for i, r in enumerate(rankings)})
        for q, *rankings in zip(requests, *lists, strict=True)
    ]
    names = tuple(columns[0]) if columns else ()
    values = np.concatenate([np.column_stack([c[n] for n in names]) for c in columns])
    offsets = np.concatenate([[0], np.cumsum([len(r.candidates) for r in requests])])
    table = FeatureTable(names, values, offsets)
    groups = [r.group or dataset.group_of(r.id) for r in requests]
    folds = min(5, len(set(groups)))
    if folds < 2:
        raise InputError("learned fusion needs at least two split groups, to train on one and test on the other")
    scores = cross_fit(table, gains_of(requests, dataset.gold), groups, folds, seed=seed)
    costs = [sum((r.cost for r in rankings), Cost()) for rankings in zip(*lists, strict=True)]
    return [Ranking.from_scores(r, s, cost=c) for r, s, c in zip(requests, table.split(scores), costs, strict=True)]

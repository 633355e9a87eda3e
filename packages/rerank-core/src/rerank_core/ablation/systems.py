"""What a cell runs: a method or judge, or a fusion of an experiment's methods."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from rerank_core.ablation.cells import LEARNED, Cell
from rerank_core.budget import Budget, Meter
from rerank_core.domain import Domain
from rerank_core.engine import Executor, cut
from rerank_core.errors import InputError
from rerank_core.fusion import fuse
from rerank_core.learning import FeatureTable, cross_fit, gains_of, rank_features
from rerank_core.reranker import FirstStage
from rerank_core.types import Cost, Dataset, Ranking


class Runner:
    """Runs systems, and remembers what the methods of the data at hand gave, so that fusions need not ask them again."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._about: tuple[Any, ...] = ()
        self._known: dict[tuple[str, str], tuple[list[Ranking], float]] = {}

    def __call__(self, domain: Domain[Any, Any], dataset: Dataset[Any, Any], cell: Cell) -> tuple[list[Ranking], float]:
        """Return a cell's rankings and the seconds they took, those of a fusion's parts included.

        Gold is used by ``learned`` alone, and there across folds of whole groups.
        """
        about = (cell.domain, cell.data, cell.requests, cell.candidates, cell.seed, cell.budget)
        if about != self._about:
            self._about, self._known = about, {}
        system, requests = cell.system, dataset.requests
        if system.kind != "fuse":
            return self._part(domain, dataset, cell, system.name, json.dumps(dict(system.config), sort_keys=True))
        parts = [self._part(domain, dataset, cell, name, config) for name, config in system.parts]
        start = time.perf_counter()
        lists = [FirstStage().rerank(requests), *(rankings for rankings, _ in parts)]
        fused = _learned(dataset, lists, cell.seed) if system.name == LEARNED else _fused(dataset, lists, system.name)
        return fused, time.perf_counter() - start + sum(seconds for _, seconds in parts)

    def _part(
        self, domain: Domain[Any, Any], dataset: Dataset[Any, Any], cell: Cell, name: str, config: str
    ) -> tuple[list[Ranking], float]:
        if (name, config) not in self._known:
            start = time.perf_counter()
            reranker = domain.method(name, json.loads(config))
            budget = cell.budget.budget()
            found = self._executor(
                reranker, enumerate(cut(dataset.requests, 64)), Meter(None if budget == Budget() else budget)
            )
            by_id = {r.id: r for _, rankings in found for r in rankings}
            self._known[name, config] = [by_id[r.id] for r in dataset.requests], time.perf_counter() - start
        return self._known[name, config]


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

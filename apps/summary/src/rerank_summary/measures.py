"""What a choice of summaries is judged by, beyond the measures that every domain has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rerank_core.measures import Measure, PerRequest
from rerank_core.statistics import kendall_tau
from rerank_core.types import Ranking, Request


def _tau(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
    known = [r for r in ranking.items if r.id in gains]
    if any(r.score is None for r in known):
        scores = [-float(i) for i in range(len(known))]
    else:
        scores = [float(r.score or 0.0) for r in known]
    tau = kendall_tau(scores, [gains[r.id] for r in known])
    return 0.0 if math.isnan(tau) else tau


def _words(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
    if request is None or not ranking.items:
        return math.nan
    text = next(c.content for c in request.candidates if c.id == ranking.items[0].id)
    return float(len(str(text).split()))


MEASURES: tuple[Measure, ...] = (PerRequest("KendallTau", _tau), PerRequest("Words@1", _words))
"""Kendall's tau-b of scores and gains (0 where it does not exist), and the length of the chosen candidate."""

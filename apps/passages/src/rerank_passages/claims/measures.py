"""The measures of previously-fact-checked claims, exactly as MTM's released code computes them.

MAP@k divides by all golds of a claim, not by min(golds, k); a gold that is not in the list counts as not found.
"""

from __future__ import annotations

from collections.abc import Mapping

from rerank_core.measures import PerRequest
from rerank_core.types import Ranking, Request


def reciprocal_rank(gains: Mapping[str, float], ranking: Ranking, request: Request | None = None) -> float:
    """Return 1 / rank of the first gold, 0 where there is none."""
    return next((1 / rank for rank, i in enumerate(ranking.ids, 1) if gains.get(i, 0) > 0), 0.0)


def average_precision(k: int) -> PerRequest:
    """MAP@k: sum over golds within k of (hit number / rank), divided by the number of golds."""

    def measure(gains: Mapping[str, float], ranking: Ranking, request: Request | None = None) -> float:
        golds, hits, total = sum(g > 0 for g in gains.values()), 0, 0.0
        for rank, i in enumerate(ranking.ids[:k], 1):
            if gains.get(i, 0) > 0:
                hits += 1
                total += hits / rank
        return total / golds if golds else 0.0

    return PerRequest(f"MAP@{k}", measure)


def hit(k: int) -> PerRequest:
    """HIT@k: whether any gold is among the first k."""

    def measure(gains: Mapping[str, float], ranking: Ranking, request: Request | None = None) -> float:
        return float(any(gains.get(i, 0) > 0 for i in ranking.ids[:k]))

    return PerRequest(f"HIT@{k}", measure)


MRR = PerRequest("MRR", reciprocal_rank)
OFFICIAL = (MRR, *(average_precision(k) for k in (1, 3, 5)), *(hit(k) for k in (1, 3, 5)))

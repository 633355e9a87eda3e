"""Language-model judges over passages: rerank-lm's, through this domain's rendering.

The names are known without importing rerank-lm's judges, so that listing methods stays quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rerank_core.cache import cache_home
from rerank_core.domain import Method, TextRendering
from rerank_core.reranker import Reranker
from rerank_core.types import Candidate


def _query(query: str) -> str:
    return query


def _candidate(candidate: Candidate[str]) -> str:
    return candidate.content


RENDERING: TextRendering[str, str] = TextRendering(
    "Find passages that answer the query or are about what it asks for.", _query, _candidate
)

_SOURCES: Mapping[str, tuple[str, str, str]] = {
    "yes-no": (
        "P(yes) that the passage answers the query",
        "Nogueira et al. 2020; Liang et al. 2022",
        "1 forward a candidate",
    ),
    "graded": ("expected grade on a scale", "ERank 2025", "1 forward a candidate"),
    "query-likelihood": (
        "log-likelihood of the query given the passage",
        "Sachan et al. 2022",
        "1 forward a candidate",
    ),
    "pairwise": ("pairwise comparisons, heap sort", "Qin et al. 2024", "about n + k log n comparisons"),
    "setwise": ("picks the best of a few, heap sort", "Zhuang et al. 2024", "about n/c + k log_c n choices"),
    "first": ("logits of the window's letters, one forward a window", "FIRST, Reddy et al. 2024", "1 forward a window"),
    "permutation": ("generates a permutation, sliding window", "RankGPT, Sun et al. 2023", "1 generation a window"),
    "groupwise": ("scores groups of passages", "GroupRank 2025", "1 generation a group"),
    "icr": ("attention from the query to the passages, calibrated", "ICR, Chen et al. 2025", "2 forwards a list"),
    "e2rank": ("one pseudo-query vector from the top passages", "E2Rank 2025", "1 forward a list"),
    "insertrank": ("permutation with first-stage scores in the prompt", "InsertRank 2025", "1 generation a list"),
    "letters": ("letter logits, one pass", "LlamaRec, Yue et al. 2023", "1 forward a window"),
}

SETTINGS: Mapping[str, Any] = {
    "model": None,
    "endpoint": None,
    "record": None,
    "replay": None,
    "cache": True,
    "window": 20,
    "stride": 10,
    "top": 100,
    "seed": 0,
    "threads": None,
    "options": {},
}


def _maker(name: str) -> Any:
    def make(config: Mapping[str, Any]) -> Reranker:
        from rerank_lm.judges import build

        settings = {k: v for k, v in config.items() if k != "options"}
        if isinstance(settings["cache"], bool):  # True: the per-user folder of answers
            settings["cache"] = cache_home() / "answers" if settings["cache"] else None
        return build(name, rendering=RENDERING, **settings, **config["options"])

    return make


METHODS: Mapping[str, Method] = {
    name: Method(
        _maker(name), title, source, ("model: smollm2-135m-instruct, any local model, or an endpoint",), SETTINGS, cost
    )
    for name, (title, source, cost) in _SOURCES.items()
}

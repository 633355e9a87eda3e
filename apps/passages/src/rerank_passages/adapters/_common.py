"""What the adapters share: texts in, (position, score) out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rerank_core.reranker import Reranker
from rerank_core.types import Candidate, Ranked, Request


def reranker_of(method: str | Reranker, settings: Mapping[str, Any] | None = None) -> Reranker:
    """Return a reranker: itself, or this domain's method of that name."""
    if not isinstance(method, str):
        return method
    from rerank_passages.domain import domain

    return domain.method(method, settings or {})


def order(
    reranker: Reranker, query: str, texts: Sequence[str], scores: Sequence[float] | None = None
) -> list[tuple[int, Ranked]]:
    """Rerank texts and return (position, ranked item), best first."""
    first = list(scores) if scores is not None else [None] * len(texts)
    request = Request(
        "query", query, tuple(Candidate(str(i), t, s) for i, (t, s) in enumerate(zip(texts, first, strict=True)))
    )
    (ranking,) = reranker.rerank([request])
    return [(int(item.id), item) for item in ranking.items]

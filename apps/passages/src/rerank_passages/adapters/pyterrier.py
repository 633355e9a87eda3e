"""A PyTerrier transformer (extra ``rerank-passages[pyterrier]``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rerank_core.errors import InputError, require
from rerank_core.reranker import Reranker
from rerank_core.types import Candidate, Request
from rerank_passages.adapters._common import reranker_of

pt = require("pyterrier", "rerank-passages[pyterrier]", "the PyTerrier adapter")


class RerankTransformer(pt.Transformer):  # type: ignore[name-defined]
    """Reranks a frame with columns ``qid, query, docno, text`` and perhaps ``score``; composes with ``>>`` and ``%``."""

    def __init__(self, method: str | Reranker = "default", settings: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._reranker = reranker_of(method, settings)

    def transform(self, frame: Any) -> Any:
        """Return the frame with new scores and ranks, all queries reranked together."""
        missing = [c for c in ("qid", "query", "docno", "text") if c not in frame.columns]
        if missing:
            raise InputError(f"the frame has no column {missing[0]!r}; needed: qid, query, docno, text")
        frame = frame.reset_index(drop=True)
        groups = [g for _, g in frame.groupby("qid", sort=False)]
        requests = [
            Request(
                str(g["qid"].iloc[0]),
                str(g["query"].iloc[0]),
                tuple(
                    Candidate(str(row.docno), str(row.text), float(row.score) if "score" in frame.columns else None)
                    for row in g.itertuples()
                ),
            )
            for g in groups
        ]
        out = frame.copy()
        out["score"] = 0.0
        out["rank"] = 0
        for g, ranking in zip(groups, self._reranker.rerank(requests), strict=True):
            place = {str(d): i for i, d in zip(g.index, g["docno"], strict=True)}
            for rank, item in enumerate(ranking.items):
                out.loc[place[item.id], "rank"] = rank
                out.loc[place[item.id], "score"] = (
                    float(len(ranking.items) - rank) if item.score is None else item.score
                )
        return out.sort_values(["qid", "rank"], kind="stable").reset_index(drop=True)

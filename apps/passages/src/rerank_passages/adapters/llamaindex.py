"""A LlamaIndex node postprocessor (extra ``rerank-passages[llamaindex]``)."""

from __future__ import annotations

from typing import Any

from rerank_core.errors import UsageError, require
from rerank_passages.adapters._common import order, reranker_of

require("llama_index.core", "rerank-passages[llamaindex]", "the LlamaIndex adapter")

from llama_index.core.bridge.pydantic import PrivateAttr  # noqa: E402 - after the check, so that its absence is one clear line
from llama_index.core.postprocessor.types import BaseNodePostprocessor  # noqa: E402
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle  # noqa: E402


class RerankPostprocessor(BaseNodePostprocessor):
    """Reorders nodes by a reranker and keeps the best ``top_n``."""

    method: Any = "default"
    settings: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies defaults
    top_n: int | None = None
    _reranker: Any = PrivateAttr(default=None)

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which it is serialised."""
        return "RerankPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise UsageError("reranking nodes needs a query")
        if not nodes:
            return []
        if self._reranker is None:
            self._reranker = reranker_of(self.method, self.settings)
        texts = [n.node.get_content(metadata_mode=MetadataMode.EMBED) for n in nodes]
        ranked = order(self._reranker, query_bundle.query_str, texts)[: self.top_n]
        return [NodeWithScore(node=nodes[i].node, score=item.score) for i, item in ranked]

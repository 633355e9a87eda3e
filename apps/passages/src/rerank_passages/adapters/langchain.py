"""A LangChain document compressor (extra ``rerank-passages[langchain]``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_core.errors import require
from rerank_passages.adapters._common import order, reranker_of

require("langchain_core", "rerank-passages[langchain]", "the LangChain adapter")

from langchain_core.callbacks import Callbacks  # noqa: E402 - after the check, so that its absence is one clear line
from langchain_core.documents import BaseDocumentCompressor, Document  # noqa: E402
from pydantic import ConfigDict, PrivateAttr  # noqa: E402


class RerankCompressor(BaseDocumentCompressor):
    """Keeps the best documents, best first; the score is in ``metadata["relevance_score"]``.

    Parameters
    ----------
    method
        A method of this domain, or any reranker over text.
    top_n
        Documents to keep; None keeps all.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)
    method: Any = "default"
    settings: dict[str, Any] = {}  # noqa: RUF012 - pydantic copies defaults
    top_n: int | None = None
    _reranker: Any = PrivateAttr(default=None)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> Sequence[Document]:
        """Rerank documents for a query."""
        if self._reranker is None:
            self._reranker = reranker_of(self.method, self.settings)
        if not documents:
            return []
        ranked = order(self._reranker, query, [d.page_content for d in documents])[: self.top_n]
        return [
            Document(
                page_content=documents[i].page_content,
                metadata={**documents[i].metadata, "relevance_score": item.score},
                id=documents[i].id,
            )
            for i, item in ranked
        ]

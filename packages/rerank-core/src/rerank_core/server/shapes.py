"""Requests and responses as other rerank APIs shape them, and ours."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Document(_Body):
    """A document as an object."""

    text: str


class CohereRequest(_Body):
    """Cohere's and Jina's rerank request."""

    query: Text
    documents: list[str | Document] = Field(min_length=1)
    model: str | None = None
    top_n: int | None = Field(default=None, ge=1)
    return_documents: bool | None = None


class CohereResult(BaseModel):
    """One document's place."""

    index: int
    relevance_score: float
    document: Document | None = None


class CohereResponse(BaseModel):
    """Cohere's and Jina's rerank response."""

    id: str
    model: str
    results: list[CohereResult]
    usage: dict[str, int]
    meta: dict[str, Any]


class TeiRequest(_Body):
    """Rerank request of text-embeddings-inference."""

    query: Text
    texts: list[str] = Field(min_length=1)
    raw_scores: bool | None = False
    return_text: bool | None = False
    truncate: bool | None = True
    truncation_direction: str | None = None


class TeiResult(BaseModel):
    """One text's place."""

    index: int
    score: float
    text: str | None = None


class DomainRequest(_Body):
    """Canonical requests of a domain."""

    requests: list[dict[str, Any]] = Field(min_length=1)
    method: str = "default"
    settings: dict[str, Any] = Field(default_factory=dict)


class DomainResponse(BaseModel):
    """Rankings, one a request."""

    rankings: list[dict[str, Any]]

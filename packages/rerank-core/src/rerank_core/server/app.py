"""The HTTP application.

Text: ``POST /v1/rerank`` in Cohere's and Jina's shape, ``POST /rerank`` in that of text-embeddings-inference. Any
domain: ``POST /v1/domains/{name}/rerank`` with canonical requests. A full queue answers 429, a stopping server 503.
``GET /health``, ``GET /metrics`` (Prometheus).
"""

from __future__ import annotations

import contextlib
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import generate_latest

from rerank_core import __version__
from rerank_core.domain import Domain
from rerank_core.errors import RerankError, UsageError
from rerank_core.io import ranking_to_json, request_from_json
from rerank_core.reranker import Reranker
from rerank_core.server.batching import Batcher, Busy, Limits, Metrics
from rerank_core.server.body_limit import BodyLimit, error_response
from rerank_core.server.shapes import (
    CohereRequest,
    CohereResponse,
    CohereResult,
    Document,
    DomainRequest,
    DomainResponse,
    TeiRequest,
    TeiResult,
)
from rerank_core.types import Candidate, Ranking
from rerank_core.types import Request as Asked

_OPEN = {"/health", "/metrics"}


def make_app(
    domains: Mapping[str, Domain[Any, Any]],
    *,
    text_domain: str = "passages",
    text_method: str = "cross-encoder",
    api_keys: frozenset[str] = frozenset(),
    limits: Limits | None = None,
    allow_execution: bool = False,
) -> FastAPI:
    """Make the server's application.

    Parameters
    ----------
    domains
        By name; those whose reranking runs code are refused unless ``allow_execution``.
    text_domain, text_method
        What the two text endpoints use; a request's ``model`` may name another method of that domain.
    api_keys
        Where there are any, every request but health and metrics needs one (``Authorization: Bearer KEY``).
    """
    limits = limits or Limits()
    metrics = Metrics()
    state = _State(domains, limits, metrics, allow_execution)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        state.batcher = Batcher(limits, metrics)
        state.batcher.start()
        yield
        await state.batcher.stop()

    app = FastAPI(title="rerank", version=__version__, lifespan=lifespan)
    _guard(app, state, api_keys)
    _text_routes(app, state, text_domain, text_method)
    _domain_routes(app, state)
    app.add_middleware(BodyLimit, limit=limits.body)
    app.state.rerank = state
    return app


class _State:
    """What the routes share: rerankers made once, the batcher, the limits."""

    def __init__(
        self, domains: Mapping[str, Domain[Any, Any]], limits: Limits, metrics: Metrics, allow_execution: bool
    ) -> None:
        self.domains, self.limits, self.metrics = domains, limits, metrics
        self.allow_execution = allow_execution
        self.batcher: Batcher | None = None
        self._rerankers: dict[str, Reranker] = {}

    def domain(self, name: str) -> Domain[Any, Any]:
        if name not in self.domains:
            raise HTTPException(404, f"no domain {name!r} here; domains: {', '.join(self.domains)}")
        domain = self.domains[name]
        if domain.executes and not self.allow_execution:
            raise HTTPException(
                403, f"{name} runs code that comes with the request; start the server with --allow-execution"
            )
        return domain

    def reranker(self, domain: Domain[Any, Any], method: str, settings: Mapping[str, Any]) -> tuple[str, Reranker]:
        key = f"{domain.name}/{method}/{sorted(settings.items())!r}"
        if key not in self._rerankers:
            if len(self._rerankers) >= 32:  # settings come from outside: do not keep a model for each
                self._rerankers.pop(next(iter(self._rerankers)))
            self._rerankers[key] = domain.method(method, settings)
        return key, self._rerankers[key]

    async def rerank(
        self, domain: Domain[Any, Any], method: str, settings: Mapping[str, Any], asked: list[Asked[Any, Any]]
    ) -> list[Ranking]:
        if self.batcher is None or self.batcher.stopping:
            raise HTTPException(503, "the server is stopping", {"Retry-After": "5"})
        if any(len(r.candidates) > self.limits.documents for r in asked):
            raise HTTPException(413, f"more than {self.limits.documents} documents in one request")
        try:
            key, reranker = self.reranker(domain, method, settings)
            return await self.batcher.rerank(key, reranker, asked)
        except Busy:
            raise HTTPException(429, "too many requests wait; try again", {"Retry-After": "1"}) from None
        except TimeoutError:
            raise HTTPException(408, f"no answer within {self.limits.timeout:g} seconds") from None
        except RerankError as error:
            raise HTTPException(400, str(error)) from None

    def check(self, *texts: str) -> None:
        if any(len(t) > self.limits.characters for t in texts):
            raise HTTPException(413, f"a text has more than {self.limits.characters} characters")


def _guard(app: FastAPI, state: _State, api_keys: frozenset[str]) -> None:
    @app.middleware("http")
    async def count_and_check(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        start = time.perf_counter()
        if api_keys and request.url.path not in _OPEN:
            given = request.headers.get("authorization", "").removeprefix("Bearer ").encode("utf-8", "replace")
            if sum(secrets.compare_digest(given, k.encode()) for k in api_keys) == 0:  # every key, in equal time
                return error_response(
                    401, "an API key is needed: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
                )
        response = await call(request)
        route = request.scope.get("route")
        path = getattr(route, "path", "other")
        state.metrics.requests.labels(path, str(response.status_code)).inc()
        state.metrics.seconds.labels(path).observe(time.perf_counter() - start)
        return response

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        return error_response(error.status_code, str(error.detail), error.headers)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say whether the server takes requests."""
        if state.batcher is None or state.batcher.stopping:
            raise HTTPException(503, "the server is stopping")
        return {"status": "ok", "version": __version__, "domains": list(state.domains)}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Return Prometheus metrics."""
        return PlainTextResponse(
            generate_latest(state.metrics.registry).decode(), media_type="text/plain; version=0.0.4"
        )


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request cannot be reranked; the message says why."},
    401: {"description": "No valid API key."},
    403: {"description": "This domain runs code, which this server does not allow."},
    404: {"description": "No such domain or method."},
    408: {"description": "No answer in time."},
    413: {"description": "Too large."},
    429: {"description": "Too many requests wait."},
    503: {"description": "The server is stopping."},
}


def _text_routes(app: FastAPI, state: _State, text_domain: str, text_method: str) -> None:
    async def rank(query: str, texts: list[str], method: str) -> Ranking:
        state.check(query, *texts)
        domain = state.domain(text_domain)
        candidates = tuple(Candidate(str(i), t) for i, t in enumerate(texts))
        (ranking,) = await state.rerank(domain, method, {}, [Asked("0", query, candidates)])
        return ranking

    @app.post("/v1/rerank", response_model_exclude_none=True, responses=_ERRORS)
    async def cohere(body: CohereRequest) -> CohereResponse:
        """Rerank texts; Cohere's and Jina's shape."""
        texts = [d if isinstance(d, str) else d.text for d in body.documents]
        known = text_domain in state.domains and body.model in state.domains[text_domain].methods
        method = str(body.model) if known else text_method
        ranking = await rank(body.query, texts, method)
        results = [
            CohereResult(
                index=int(x.id),
                relevance_score=_number(x.score, place, len(texts)),
                document=Document(text=texts[int(x.id)]) if body.return_documents else None,
            )
            for place, x in enumerate(ranking.items)
        ]
        tokens = ranking.cost.tokens
        return CohereResponse(
            id=secrets.token_hex(8),
            model=method,
            results=results[: body.top_n],
            usage={"total_tokens": tokens},
            meta={"status": str(ranking.status), "billed_units": {"search_units": 1}},
        )

    @app.post("/rerank", response_model_exclude_none=True, responses=_ERRORS)
    async def tei(body: TeiRequest) -> list[TeiResult]:
        """Rerank texts; text-embeddings-inference's shape. Scores are squashed into 0..1 unless ``raw_scores``."""
        ranking = await rank(body.query, body.texts, text_method)
        return [
            TeiResult(
                index=int(x.id),
                score=_number(x.score, place, len(body.texts), squash=not body.raw_scores),
                text=body.texts[int(x.id)] if body.return_text else None,
            )
            for place, x in enumerate(ranking.items)
        ]


def _number(score: float | None, place: int, n: int, *, squash: bool = False) -> float:
    """Return a score that can be sent; an item without one gets a place below the others."""
    if score is None:
        return 0.0 if squash else -1e30 - place
    return 1 / (1 + math.exp(-min(max(score, -700), 700))) if squash else score


def _domain_routes(app: FastAPI, state: _State) -> None:
    @app.get("/v1/domains")
    async def domains() -> list[dict[str, Any]]:
        """List domains and their methods."""
        return [
            {"name": d.name, "title": d.title, "methods": list(d.methods), "executes": d.executes}
            for d in state.domains.values()
        ]

    @app.post("/v1/domains/{name}/rerank", responses=_ERRORS)
    async def rerank(name: str, body: DomainRequest) -> DomainResponse:
        """Rerank canonical requests of a domain."""
        domain = state.domain(name)
        try:
            asked = [request_from_json(r, domain.codec) for r in body.requests]
        except RerankError as error:
            raise HTTPException(400, str(error)) from None
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            # A codec met a value of the wrong shape.
            raise HTTPException(400, f"not a request of this domain: {type(error).__name__}: {error}") from None
        if len({r.id for r in asked}) != len(asked):
            raise HTTPException(400, "request ids must be unique")
        for r in asked:
            state.check(*(t for t in (r.query, *(c.content for c in r.candidates)) if isinstance(t, str)))
        rankings = await state.rerank(domain, body.method, _public(body.settings), asked)
        return DomainResponse(rankings=[ranking_to_json(r) for r in rankings])


_PRIVATE = ("model", "endpoint", "record", "replay", "cache", "databases", "folder", "path", "file", "index")


def _public(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse settings that would make the server open files or call out on a stranger's behalf."""
    for key in settings:
        if any(word in key.lower() for word in _PRIVATE):
            raise HTTPException(400, f"setting {key!r} cannot come with a request")
    return settings


def serve(
    domains: Mapping[str, Domain[Any, Any]],
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    api_keys: frozenset[str] = frozenset(),
    limits: Limits | None = None,
    allow_execution: bool = False,
    text_method: str = "cross-encoder",
) -> None:
    """Serve until stopped; SIGTERM and Ctrl-C let waiting requests finish.

    Raises
    ------
    UsageError
        When the address would be reachable from other machines without an API key.
    """
    import uvicorn

    if host not in ("127.0.0.1", "::1", "localhost") and not api_keys:
        raise UsageError(f"{host} may be reachable from other machines: give --api-key-file, or use 127.0.0.1")
    app = make_app(domains, api_keys=api_keys, limits=limits, allow_execution=allow_execution, text_method=text_method)
    uvicorn.run(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=30)

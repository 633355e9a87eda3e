"""The review as a local web application.

It listens on this machine only. Every call carries a token that only the page knows, and other host names are refused,
so that no other web page can read columns or answer in the reviewer's name.
"""

from __future__ import annotations

import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rerank_core.errors import RerankError, UsageError, require
from rerank_schema.gold import Name
from rerank_schema.review.export import to_csv, to_json, to_sql
from rerank_schema.review.page import page, state_of
from rerank_schema.review.state import Review

if TYPE_CHECKING:
    from fastapi import FastAPI

    from rerank_schema.tables import Schema

HOSTS = ("127.0.0.1", "localhost", "[::1]", "testserver")
EXPORTS = {"csv": (to_csv, "text/csv"), "json": (to_json, "application/json"), "sql": (to_sql, "application/sql")}


def make_app(
    review: Review,
    samples: Mapping[tuple[str, Name], Sequence[str]] | None = None,
    token: str | None = None,
    train: Callable[[Review], str] | None = None,
) -> FastAPI:
    """Make the web application of a review.

    Parameters
    ----------
    train
        What "Train from my answers" does ([`rerank_schema.feedback.trainer`][]); without it the page has no such button.

    Raises
    ------
    MissingExtra
        Without FastAPI.
    """
    fastapi = require("fastapi", "rerank-schema[review]", "the review page")
    responses = require("fastapi.responses", "rerank-schema[review]", "the review page")
    secret = token or secrets.token_urlsafe(16)
    app = fastapi.FastAPI(title="rerank-schema review", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def only_this_page(request: Any, call_next: Any) -> Any:
        host = request.headers.get("host", "").rsplit(":", 1)[0] if request.headers.get("host") else ""
        if host not in HOSTS:
            return responses.PlainTextResponse("this page is served to this machine only", 403)
        given = request.headers.get("x-token") or request.query_params.get("token", "")
        if request.url.path != "/" and not secrets.compare_digest(given.encode(), secret.encode()):
            return responses.PlainTextResponse("reload the page", 403)
        return await call_next(request)

    @app.get("/")
    def index() -> Any:
        return responses.HTMLResponse(page(token=secret), headers={"Cache-Control": "no-store"})

    @app.get("/api/state")
    def state() -> Any:
        return state_of(review, samples) | {"trainable": train is not None}

    @app.post("/api/train")
    def learn() -> Any:
        if train is None:
            return responses.PlainTextResponse("the review needs --source and --target to learn", 422)
        try:
            said = train(review)
        except RerankError as error:
            return responses.PlainTextResponse(str(error), 422)
        return {"message": said, "state": state_of(review, samples) | {"trainable": True}}

    @app.post("/api/answer")
    def answer(body: dict[str, Any] = fastapi.Body()) -> Any:
        try:
            source, targets = _pair(body["source"]), body["targets"]
            review.answer(source, None if targets is None else [_pair(t) for t in targets])
        except (KeyError, TypeError, ValueError) as error:
            return responses.PlainTextResponse(f"malformed answer: {error}", 422)
        except RerankError as error:
            return responses.PlainTextResponse(str(error), 422)
        return {"undo": len(review.history)}

    @app.post("/api/undo")
    def undo() -> Any:
        source = review.undo()
        answered = review.answers.get(source) if source else None
        return {
            "source": list(source) if source else None,
            "answer": [list(t) for t in answered.targets] if answered else None,
            "undo": len(review.history),
        }

    @app.get("/export/{kind}")
    def export(kind: str) -> Any:
        if kind not in EXPORTS:
            return responses.PlainTextResponse("csv, json or sql", 404)
        write, media = EXPORTS[kind]
        name = f"mapping.{kind}"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return responses.PlainTextResponse(write(review.mapping()), media_type=media, headers=headers)

    return app


def _pair(value: Any) -> Name:
    table, column = value
    return str(table), str(column)


def samples_of(source: Schema | None, target: Schema | None, n: int = 5) -> dict[tuple[str, Name], list[str]]:
    """Return sample values of the columns of both sides, as the page shows them."""
    sides = (("source", source), ("target", target))
    return {
        (side, (c.table, c.name)): [v[:60] for v in c.samples(n)]
        for side, s in sides
        if s is not None
        for c in s.columns
    }


def serve(app: FastAPI, port: int) -> None:
    """Serve until interrupted, on this machine only; the address goes to stderr.

    Raises
    ------
    UsageError
        When the port is taken.
    """
    uvicorn = require("uvicorn", "rerank-schema[review]", "the review page")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(f"port {port} cannot be used ({error.strerror}); choose another with --port") from error
        print(f"review at http://127.0.0.1:{listener.getsockname()[1]}/ (Ctrl-C ends it)", file=sys.stderr, flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])

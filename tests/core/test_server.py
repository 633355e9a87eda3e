from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest

from rerank_core import Candidate, Dataset, Request, Scores
from rerank_core.domain import Domain, Method, PlainCodec, TextRendering
from rerank_core.errors import InputError
from rerank_core.server.app import make_app
from rerank_core.server.batching import Limits


def overlap(requests):
    return [
        np.array([len(set(str(r.query).split()) & set(str(c.content).split())) for c in r.candidates], dtype=float)
        for r in requests
    ]


class Recorder:
    """Counts batches; sleeps where asked to."""

    name = "recorder"

    def __init__(self, config):
        self.sizes: list[int] = []
        self.pause = config["pause"]

    def fingerprint(self):
        return "recorder"

    def rerank(self, requests):
        self.sizes.append(len(requests))
        time.sleep(self.pause)
        if any("poison" in str(r.query) for r in requests):
            raise InputError("this query cannot be read")
        return Scores("s", overlap).rerank(requests)


def domain(name="words", pause=0.0, executes=False):
    made = []

    def make(config):
        made.append(Recorder(config))
        return made[-1]

    method = Method(make, "word overlap", default={"pause": pause, "model": "none"})
    made_domain = Domain(
        name,
        name,
        {"default": method, "cross-encoder": method},
        (),
        PlainCodec(),
        TextRendering("", str, lambda c: str(c.content)),
        lambda: Dataset([Request("q", "a", (Candidate("1", "a"),))], {}),
        executes=executes,
    )
    return made_domain, made


def run(app, body):
    """Run an async test body with a client of the application, its lifespan included."""

    async def go():
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", timeout=60) as client,
        ):
            return await body(client)

    return asyncio.run(go())


def make(limits=None, **options):
    words, made = domain(pause=options.pop("pause", 0.0))
    return make_app({"words": words}, text_domain="words", limits=limits, **options), made


def test_cohere_shape():
    app, _ = make()

    async def body(client):
        answer = await client.post(
            "/v1/rerank",
            json={
                "query": "red fox",
                "documents": ["a cat", {"text": "a red fox"}, "red"],
                "top_n": 2,
                "return_documents": True,
            },
        )
        everything = await client.post(
            "/v1/rerank", json={"query": "x", "documents": ["a", "b"], "top_n": None, "model": "m"}
        )
        return answer.json(), everything.json()

    answer, everything = run(app, body)
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == [(1, 2.0), (2, 1.0)]
    assert answer["results"][0]["document"] == {"text": "a red fox"}
    assert {"id", "results", "meta", "usage"} <= set(answer)
    assert [r["index"] for r in everything["results"]] == [0, 1]
    assert "document" not in everything["results"][0]


def test_tei_shape():
    app, _ = make()

    async def body(client):
        plain = await client.post(
            "/rerank", json={"query": "red fox", "texts": ["a cat", "red fox"], "return_text": True}
        )
        raw = await client.post("/rerank", json={"query": "red fox", "texts": ["a cat", "red fox"], "raw_scores": True})
        return plain.json(), raw.json()

    plain, raw = run(app, body)
    assert [(r["index"], r["text"]) for r in plain] == [(1, "red fox"), (0, "a cat")]
    assert all(0 <= r["score"] <= 1 for r in plain)
    assert raw[0] == {"index": 1, "score": 2.0}


def test_any_domain():
    app, _ = make()
    request = {"id": "q", "query": "red", "candidates": [{"id": "x", "content": "blue"}, {"id": "y", "content": "red"}]}

    async def body(client):
        good = await client.post("/v1/domains/words/rerank", json={"requests": [request]})
        return good, await client.get("/v1/domains")

    good, listing = run(app, body)
    (ranking,) = good.json()["rankings"]
    assert ranking["id"] == "q"
    assert [x["id"] for x in ranking["ranking"]] == ["y", "x"]
    assert listing.json()[0]["name"] == "words"


BAD = {
    "no json": ("/v1/rerank", b"{", 422),
    "no documents": ("/v1/rerank", b'{"query": "x", "documents": []}', 422),
    "wrong type": ("/rerank", b'{"query": 1, "texts": "x"}', 422),
    "unknown domain": ("/v1/domains/stars/rerank", b'{"requests": [{}]}', 404),
    "broken request": ("/v1/domains/words/rerank", b'{"requests": [{"id": 1}]}', 400),
    "unknown method": (
        "/v1/domains/words/rerank",
        b'{"method": "wow", "requests": [{"id": "q", "query": "x", "candidates": [{"id": "a", "content": "x"}]}]}',
        400,
    ),
    "private setting": (
        "/v1/domains/words/rerank",
        b'{"settings": {"model": "/etc/passwd"}, "requests": [{"id": "q", "query": "x", "candidates": '
        b'[{"id": "a", "content": "x"}]}]}',
        400,
    ),
    "twice": (
        "/v1/domains/words/rerank",
        b'{"requests": [{"id": "q", "query": "x", "candidates": [{"id": "a", "content": "x"}, {"id": "a", "content": "x"}]}]}',
        400,
    ),
    "unreadable query": ("/rerank", b'{"query": "poison", "texts": ["a"]}', 400),
    "too many": ("/rerank", json.dumps({"query": "x", "texts": ["a"] * 51}).encode(), 413),
    "too long": ("/rerank", json.dumps({"query": "x", "texts": ["a" * 5001]}).encode(), 413),
    "too big": ("/rerank", json.dumps({"query": "x", "texts": ["a" * 200_000]}).encode(), 413),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_get_their_status_and_a_message(name):
    app, _ = make(Limits(documents=50, characters=5000, body=100_000))
    path, raw, status = BAD[name]

    async def body(client):
        return await client.post(path, content=raw, headers={"content-type": "application/json"})

    answer = run(app, body)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_requests_that_come_together_share_batches_and_get_their_own_answers():
    app, made = make(Limits(batch=64, wait_ms=50))

    async def body(client):
        async def one(i):
            answer = await client.post(
                "/rerank", json={"query": f"w{i}", "texts": [f"w{j}" for j in range(i % 7, i % 7 + 9)]}
            )
            return i, answer

        return await asyncio.gather(*(one(i) for i in range(200)))

    for i, answer in run(app, body):
        assert answer.status_code == 200
        first = answer.json()[0]["index"] + i % 7
        assert first == i or i - i % 7 > 8
    assert sum(made[0].sizes) == 200
    assert len(made[0].sizes) < 40
    assert max(made[0].sizes) <= 64


def test_one_poisoned_request_does_not_fail_its_neighbours():
    app, _ = make(Limits(wait_ms=50))

    async def body(client):
        queries = ["good", "poison", "fine"]
        return await asyncio.gather(
            *(client.post("/rerank", json={"query": q, "texts": ["good fine"]}) for q in queries)
        )

    assert [a.status_code for a in run(app, body)] == [200, 400, 200]


def test_a_full_queue_answers_429_and_a_slow_one_408():
    app, _ = make(Limits(queue=3, batch=1, wait_ms=0, timeout=0.35), pause=0.2)

    async def body(client):
        return await asyncio.gather(*(client.post("/rerank", json={"query": "x", "texts": ["x"]}) for _ in range(12)))

    codes = [a.status_code for a in run(app, body)]
    assert set(codes) <= {200, 408, 429}
    assert codes.count(429) >= 6
    assert 200 in codes
    assert 408 in codes


def test_keys_are_needed_where_there_are_any():
    app, _ = make(api_keys=frozenset({"secret", "other"}))

    async def body(client):
        payload = {"query": "x", "texts": ["x"]}
        return [
            (await client.post("/rerank", json=payload)).status_code,
            (await client.post("/rerank", json=payload, headers={"Authorization": "Bearer wrong"})).status_code,
            (await client.post("/rerank", json=payload, headers={"Authorization": "Bearer secret"})).status_code,
            (await client.get("/health")).status_code,
        ]

    assert run(app, body) == [401, 401, 200, 200]


def test_domains_that_run_code_are_off_unless_allowed():
    runs, _ = domain("code", executes=True)
    request = {"requests": [{"id": "q", "query": "x", "candidates": [{"id": "a", "content": "x"}]}]}

    async def body(client):
        return (await client.post("/v1/domains/code/rerank", json=request)).status_code

    assert run(make_app({"code": runs}), body) == 403
    assert run(make_app({"code": runs}, allow_execution=True), body) == 200


def test_metrics_count():
    app, _ = make()

    async def body(client):
        await client.post("/rerank", json={"query": "x", "texts": ["x"]})
        await client.post("/rerank", json={})
        return (await client.get("/metrics")).text

    text = run(app, body)
    assert 'rerank_requests_total{path="/rerank",status="200"} 1.0' in text
    assert 'rerank_requests_total{path="/rerank",status="422"} 1.0' in text
    assert "rerank_batch_requests_count 1.0" in text


@pytest.mark.slow
def test_a_real_server_stops_gracefully_and_answers_until_then(example_env, tmp_path):
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "rerank_core.cli", "serve", "--port", str(port), "--domain", "did-you-mean"],
        env=example_env,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.time() + 60
        while time.time() < deadline:
            try:
                if httpx.get(f"{url}/health", timeout=1).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        codes: list[int] = []
        stop = threading.Event()
        names = ["colections", "jsno", "asynico", "threding"]
        candidates = [{"id": n, "content": n} for n in ("collections", "json", "asyncio", "threading")]

        def ask(worker):
            with httpx.Client(base_url=url, timeout=30) as client:
                while not stop.is_set():
                    request = {"id": "q", "query": names[worker % 4], "candidates": candidates}
                    payload = {"requests": [request]} if worker % 5 else {"requests": "nonsense"}
                    try:
                        answer = client.post("/v1/domains/did-you-mean/rerank", json=payload)
                    except httpx.TransportError:
                        return  # stopped listening
                    codes.append(answer.status_code)
                    if answer.status_code == 200:
                        top = answer.json()["rankings"][0]["ranking"][0]["id"]
                        assert top == candidates[worker % 4]["id"]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(10)]
        for t in threads:
            t.start()
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM, 143)
        stop.set()
        for t in threads:
            t.join()
        assert set(codes) <= {200, 422, 503}
        assert codes.count(200) > 20
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)


def test_other_addresses_need_keys():
    from rerank_core.errors import UsageError
    from rerank_core.server.app import serve

    with pytest.raises(UsageError, match="api-key-file"):
        serve({}, host="0.0.0.0")


@pytest.fixture
def live():
    """Serve the test domain on a free loopback port from a thread."""
    import uvicorn

    app, _ = make(Limits(wait_ms=0))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.time() + 30
    while not server.started and time.time() < deadline:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@pytest.mark.timeout(120)
def test_the_openapi_schema_holds_against_random_requests(live):
    schemathesis = pytest.importorskip("schemathesis", reason="needs the group api-test")
    from hypothesis import HealthCheck, Phase, given, settings

    schema = schemathesis.openapi.from_url(f"{live}/openapi.json")
    asked = 0
    for operation in schema.get_all_operations():

        @given(operation.ok().as_strategy())
        @settings(
            max_examples=12,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        def go(case):
            nonlocal asked
            response = case.call()
            assert response.status_code < 500
            asked += 1

        go()
    assert asked >= 20

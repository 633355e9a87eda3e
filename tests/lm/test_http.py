"""The HTTP back end against a real llama.cpp server, and against one that misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
from tests.lm.lm_helpers import pair

from rerank_core.rendering import TextRendering
from rerank_core.types import Candidate, Request, Status
from rerank_lm.backends.base import Capability, EndpointError, Prompt, Sampling, Unsupported
from rerank_lm.backends.http import HttpBackEnd
from rerank_lm.judges.building import build
from rerank_lm.judges.pointwise import YesNo

ASK = [Prompt.user("What is the capital of France?")]
TEXT = TextRendering("Rank passages by relevance.", str, lambda c: str(c.content))
FLEAS = Request(
    "q", "how long does a flea live", tuple(Candidate(str(i), t) for i, t in enumerate(["Rome", "A flea lives a year"]))
)


@pytest.fixture(scope="module")
def live(server) -> HttpBackEnd:
    return HttpBackEnd(server, "smollm2", concurrency=2, timeout=300)


def test_a_real_server_writes_and_counts_tokens(live):
    [answer] = live.generate(ASK, Sampling(max_tokens=5))
    assert answer.finish == "length" and answer.text
    assert answer.cost.calls == 1 and answer.cost.output_tokens == 5 and answer.cost.prompt_tokens > 10


def test_a_real_server_gives_label_probabilities(live):
    scores = YesNo(live).score([pair("how long does a flea live", "A flea lives a year.")])
    assert np.isfinite(scores).all()


def test_a_real_server_honours_a_schema(live):
    schema = json.dumps({"type": "object", "properties": {"1": {"type": "integer"}}, "required": ["1"]})
    [answer] = live.generate([Prompt.user("Score [1] from 0 to 9 as JSON.")], Sampling(max_tokens=30, schema=schema))
    assert isinstance(json.loads(answer.text)["1"], int)


def test_what_a_real_server_cannot_do_is_said(live):
    with pytest.raises(Unsupported, match="echo"):
        live.log_probs(ASK, ["query"])
    with pytest.raises(Unsupported, match="embeddings"):
        live.embed(ASK)
    with pytest.raises(Unsupported, match="'icr' needs 'attention'"):
        build("icr", rendering=TEXT, backend=live)
    assert Capability.ATTENTION not in live.capabilities


@pytest.mark.parametrize("name", ["first", "setwise", "permutation"])
def test_judges_rank_through_a_real_server(server, name):
    ranker = build(name, rendering=TEXT, endpoint=server, model="smollm2", backend_options={"timeout": 300})
    [ranking] = ranker.rerank([FLEAS])
    assert sorted(ranking.ids) == ["0", "1"]


class _Misbehaving(BaseHTTPRequestHandler):
    script: ClassVar[list[tuple[int, str, dict[str, str]]]] = []
    seen: ClassVar[list[str]] = []
    lock = threading.Lock()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        with self.lock:
            self.seen.append(self.path)
            status, body, headers = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def bad() -> Iterator[tuple[HttpBackEnd, type[_Misbehaving]]]:
    _Misbehaving.seen = []
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Misbehaving)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield HttpBackEnd(f"http://127.0.0.1:{httpd.server_port}", "m", retries=2, pause=0.001, timeout=5), _Misbehaving
    httpd.shutdown()
    httpd.server_close()


def _ok(text: str, **extra) -> tuple[int, str, dict[str, str]]:
    body = {
        "choices": [{"message": {"content": text, **extra}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3},
    }
    return 200, json.dumps(body), {}


def test_a_storm_of_429_passes(bad):
    backend, server = bad
    server.script = [(429, "{}", {"Retry-After": "0"}), (503, "", {}), _ok("[1]")]
    assert backend.generate(ASK, Sampling())[0].text == "[1]"
    assert len(server.seen) == 3


def test_a_storm_that_does_not_pass_is_one_clear_error(bad):
    backend, server = bad
    server.script = [(429, json.dumps({"error": {"message": "slow down"}}), {})]
    with pytest.raises(EndpointError, match=r"every call failed; the last: HTTP 429: slow down \(tried 3 times\)"):
        backend.generate(ASK, Sampling())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, '{"choices": [{"mess', {}), "not JSON"),
        ((200, "[]", {}), "not a JSON object"),
        ((200, '{"choices": []}', {}), "no choice"),
        ((500, "boom", {}), "HTTP 500: boom"),
    ],
)
def test_useless_answers_name_their_reason(bad, answer, reason):
    backend, server = bad
    server.script = [answer]
    with pytest.raises(EndpointError, match=reason):
        backend.generate(ASK, Sampling())


def test_one_bad_call_does_not_lose_the_others(bad):
    backend, server = bad
    backend.concurrency, backend.retries = 1, 0
    server.script = [(500, "", {}), _ok("fine")]
    first, second = backend.generate(ASK * 2, Sampling())
    assert (first.finish, first.text) == ("error", "") and second.text == "fine"


def test_refusals_reasoning_and_empty_answers(bad):
    backend, server = bad
    server.script = [_ok("", refusal="I won't")]
    assert backend.generate(ASK, Sampling())[0].finish == "refusal"
    server.script = [_ok("[2] > [1]", reasoning_content="hm")]
    assert backend.generate(ASK, Sampling())[0].text == "<think>hm</think>[2] > [1]"
    server.script = [_ok("")]
    [ranking] = build("permutation", rendering=TEXT, backend=backend).rerank([FLEAS])
    assert (ranking.ids, ranking.status) == (["0", "1"], Status.FALLBACK)


def test_a_wrong_key_is_not_tried_again(bad):
    backend, server = bad
    server.script = [(401, json.dumps({"error": "bad key"}), {})]
    with pytest.raises(EndpointError, match="HTTP 401: bad key"):
        backend.generate(ASK, Sampling())
    assert len(server.seen) == 1


def test_a_server_that_refuses_schemas_gets_none(bad):
    backend, server = bad
    server.script = [(400, "no response_format here", {}), _ok("1"), _ok("2")]
    assert backend.generate(ASK, Sampling(schema='{"type": "object"}'))[0].text == "1"
    assert backend.generate(ASK, Sampling(schema='{"type": "object"}'))[0].text == "2"
    assert len(server.seen) == 3


def test_no_log_probabilities_is_said(bad):
    backend, server = bad
    server.script = [_ok("Yes")]
    with pytest.raises(Unsupported, match="no log-probabilities"):
        backend.next_token(ASK, ["Yes", "No"])


def test_an_endpoint_that_is_down():
    backend = HttpBackEnd("http://127.0.0.1:9", "m", retries=1, pause=0.001)
    with pytest.raises(EndpointError, match="cannot connect"):
        backend.generate(ASK, Sampling())
    with pytest.raises(EndpointError, match="is not a URL"):
        HttpBackEnd("localhost:8000", "m")

"""Input that crashes magneto-python 0.2.0, and what a language model may do wrong: a result or one clear line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rerank_core.budget import Budget
from rerank_schema.decide import decide, packaged_decider
from rerank_schema.fused import Fused, FusedParams
from rerank_schema.llm import LlmMatcher, LlmParams
from rerank_schema.magneto import MagnetoParams
from rerank_schema.matchers import Header, Magneto
from rerank_schema.matching import match_schemas, unmatched
from rerank_schema.results import read_matches, write_matches
from rerank_schema.scored import Matcher
from rerank_schema.tables import Schema, from_frame

FRAMES = {
    "one by one": pd.DataFrame({"a": ["x", "y"]}),
    "whole-number names": pd.DataFrame({1: [1, 2], 2: ["a", "b"]}),
    "repeated names": pd.DataFrame([[1, 2, 3]] * 3, columns=["a", "a", "b"]),
    "no rows": pd.DataFrame({"a": [], "b": []}),
    "cells with lists": pd.DataFrame({"a": [[1], [2]], "b": [{"k": 1}, None]}),
    "all null": pd.DataFrame({"a": [None, None], "b": [float("nan")] * 2}),
    "empty name": pd.DataFrame({"": [1, 2], "b": [3, 4]}),
    "equal columns": pd.DataFrame([["v", "v"]] * 3, columns=["same", "same"]),
    "dates": pd.DataFrame({"when": pd.to_datetime(["2020-01-01", "2021-02-03"]), "yes": [True, False]}),
}


def _matchers(encoder) -> list[Matcher]:
    return [
        Magneto(encoder, MagnetoParams(), "magneto-official"),
        Magneto(encoder, MagnetoParams(official=False), "magneto"),
        Magneto(encoder, MagnetoParams(topk=1, strings=True)),
        Magneto(encoder, MagnetoParams(threshold=1.1, equal=False)),  # nothing above the threshold
        Fused(encoder),
        Header(),
    ]


@pytest.mark.parametrize("right", ["one by one", "no rows", "dates"])
@pytest.mark.parametrize("left", FRAMES)
def test_no_column_is_lost(left: str, right: str, encoder, tmp_path: Path) -> None:
    source, target = Schema(tuple(from_frame(FRAMES[left], "s"))), Schema(tuple(from_frame(FRAMES[right], "t")))
    for matcher in _matchers(encoder):
        found = match_schemas(source, target, matcher, lambda s, t: decide(s, t, packaged_decider()))
        seen = {m.source for m in found} | set(unmatched(source, found))
        assert seen == {(c.table, c.name) for c in source.columns}
        assert {m.target for m in found} <= {(c.table, c.name) for c in target.columns}
        for column in seen:
            ranks = [m.rank for m in found if m.source == column]
            if left not in ("repeated names", "equal columns"):
                assert ranks == list(range(1, len(ranks) + 1))
        write_matches(tmp_path / "out.csv", found, unmatched(source, found))
        assert [m.target for m in read_matches(tmp_path / "out.csv")] == [m.target for m in found]


def test_equal_texts_are_not_merged_by_the_repaired_mode(encoder) -> None:
    columns = Schema(tuple(from_frame(FRAMES["equal columns"], "s"))).columns
    repaired = Magneto(encoder, MagnetoParams(official=False)).score(columns, columns).scores
    assert (repaired == repaired).all()


def test_no_target_columns(encoder) -> None:
    source = Schema(tuple(from_frame(FRAMES["one by one"], "s")))
    for matcher in _matchers(encoder):
        assert match_schemas(source, Schema(()), matcher, lambda s, t: {}) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_matching_does_not_depend_on_the_order_of_targets(encoder, data: st.DataObject) -> None:
    names = data.draw(st.lists(st.text("abcde_", min_size=2, max_size=8), min_size=2, max_size=6, unique=True))
    order = data.draw(st.permutations(range(len(names))))
    frame = pd.DataFrame({n: [f"{n}{i}" for i in range(4)] for n in names})
    source = Schema(tuple(from_frame(frame, "s"))).columns
    target = Schema(tuple(from_frame(frame, "t"))).columns
    matcher = Fused(encoder, FusedParams())
    plain = matcher.score(source, target).scores
    shuffled = matcher.score(source, [target[i] for i in order]).scores
    assert plain[:, order] == pytest.approx(shuffled, abs=1e-5)


def test_five_thousand_columns(encoder) -> None:
    wide = Schema(tuple(from_frame(pd.DataFrame({f"c{i}": [i, i + 1] for i in range(5000)}), "s")))
    few = Schema(tuple(from_frame(FRAMES["dates"], "t")))
    found = match_schemas(wide, few, Header(), lambda s, t: decide(s, t, packaged_decider()))
    assert len({m.source for m in found}) == 5000


# ---- a language model behind an endpoint


class _Server:
    """An OpenAI-compatible endpoint on loopback whose answers a test chooses."""

    def __init__(self, answer: Callable[[str], tuple[int, str]]) -> None:
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.requests.append(body)
                status, text = answer(json.loads(body)["messages"][-1]["content"])
                usage = {"prompt_tokens": 5, "completion_tokens": 5}
                content = json.dumps(
                    {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage}
                )
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                with suppress(BrokenPipeError):  # a client that did not wait
                    self.wfile.write(content.encode() if status == 200 else b"{}")

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], tuple[int, str]]], _Server]]:
    running: list[_Server] = []

    def start(answer: Callable[[str], tuple[int, str]]) -> _Server:
        running.append(_Server(answer))
        return running[-1]

    yield start
    for server in running:
        server.close()


LEFT = Schema(tuple(from_frame(pd.DataFrame({f"left{i}": [f"secretcell{i}", "b"] for i in range(6)}), "s")))
RIGHT = Schema(tuple(from_frame(pd.DataFrame({f"right{i}": [f"privatecell{i}", "b"] for i in range(4)}), "t")))


def _llm(
    server: _Server, style: str = "score", calls: int | None = None, cache: Path | None = None, **options
) -> LlmMatcher:
    from rerank_lm.backends.opening import open_backend

    backend = open_backend(
        "m", endpoint=server.url, cache=cache, retries=options.pop("retries", 0), pause=0.01, **options
    )
    return LlmMatcher(Header(), backend, LlmParams(style), None if calls is None else Budget(calls))


def test_the_model_moves_a_candidate_up_and_names_are_checked(serve) -> None:
    text = '[{"candidate": 99, "score": 1}, {"column": "invented", "score": 1}, {"candidate": 3, "score": "0.9"}]'
    matcher = _llm(serve(lambda prompt: (200, f"Sure! <think>[1]</think> {text}")))
    base = Header().score(LEFT.columns, RIGHT.columns)
    third = [row[2] for row in base.top(4)]
    scored = matcher.score(LEFT.columns, RIGHT.columns)
    assert [row[0] for row in scored.top(4)] == third
    assert all(sorted(row) == [0, 1, 2, 3] for row in scored.top(4))
    assert matcher.tally.invented == 12
    assert matcher.tally.missing == 18


@pytest.mark.parametrize(
    "bad", ["", "no idea", "[", '{"a": 1}', "[1, 2]", "[[]]", '[{"candidate": 1, "score": "NaN"}]']
)
def test_unusable_answers_keep_the_first_stage(serve, bad: str) -> None:
    matcher = _llm(serve(lambda prompt: (200, bad)))
    scored = matcher.score(LEFT.columns, RIGHT.columns)
    assert scored.top(4) == Header().score(LEFT.columns, RIGHT.columns).top(4)
    assert matcher.tally.unusable == 6


@pytest.mark.parametrize("calls", [0, 1, 4, 100])
def test_the_budget_is_kept_to_the_call(serve, calls: int) -> None:
    server = serve(lambda prompt: (200, '[{"candidate": 1, "score": 1}]'))
    matcher = _llm(server, calls=calls)
    matcher.score(LEFT.columns, RIGHT.columns)
    assert len(server.requests) == min(calls, 6)
    assert matcher.tally.unasked == 6 - min(calls, 6)


def test_a_second_run_asks_nothing(serve, tmp_path: Path) -> None:
    server = serve(lambda prompt: (200, '[{"candidate": 2, "score": 1}]'))
    first = _llm(server, cache=tmp_path).score(LEFT.columns, RIGHT.columns)
    asked = len(server.requests)
    second = _llm(server, cache=tmp_path).score(LEFT.columns, RIGHT.columns)
    assert len(server.requests) == asked == 6
    assert first.scores == pytest.approx(second.scores)


@pytest.mark.parametrize("style", ["score", "table", "choice"])
def test_names_only_sends_no_cell(serve, style: str) -> None:
    server = serve(lambda prompt: (200, "{}"))
    _llm(server, style).score(LEFT.without_values().columns, RIGHT.without_values().columns)
    assert server.requests
    assert not any("secretcell" in r or "privatecell" in r for r in server.requests)
    _llm(server, style).score(LEFT.columns, RIGHT.columns)
    assert any("secretcell" in r for r in server.requests)  # the check above can fail


def test_none_of_the_above_lowers_a_column(serve) -> None:
    first = "left0"
    answer = lambda prompt: (200, '{"A": 5, "E": 95}' if f"s.{first} " in prompt else '{"A": 90, "E": 5, "Z": 1}')  # noqa: E731
    scored = _llm(serve(answer), "choice").score(LEFT.columns, RIGHT.columns)
    best = [row.max() for row in scored.scores]
    assert best[0] == min(best)


def test_table_style_asks_once_a_table(serve) -> None:
    server = serve(lambda prompt: (200, '{"s1": ["t4", "t9"], "s2": [], "s77": ["t1"]}'))
    scored = _llm(server, "table").score(LEFT.columns, RIGHT.columns)
    assert len(server.requests) == 1
    assert scored.top(1)[0] == [3]


def test_an_answer_that_does_not_come_costs_its_column_only(serve) -> None:
    answered = '[{"candidate": 4, "score": 1}]'

    def slow(prompt: str) -> tuple[int, str]:
        if "s.left2 " in prompt:
            time.sleep(8)
        return 200, answered

    begun = time.monotonic()
    matcher = _llm(serve(slow), timeout=2.0)
    scored = matcher.score(LEFT.columns, RIGHT.columns)
    assert time.monotonic() - begun < 7
    base = Header().score(LEFT.columns, RIGHT.columns).top(4)
    assert scored.top(4)[2] == base[2]
    assert all(scored.top(1)[s] == [base[s][3]] for s in range(6) if s != 2)
    assert matcher.tally.unusable == 1


def test_a_budget_of_seconds_stops_asking_a_slow_model(serve) -> None:
    def slow(prompt: str) -> tuple[int, str]:
        time.sleep(0.1)
        return 200, '[{"candidate": 1, "score": 1}]'

    server = serve(slow)
    wide = Schema(tuple(from_frame(pd.DataFrame({f"left{i}": ["a"] for i in range(30)}), "s")))
    from rerank_lm.backends.opening import open_backend

    backend = open_backend("m", endpoint=server.url, retries=0, concurrency=1)
    matcher = LlmMatcher(Header(), backend, LlmParams(), Budget(seconds=0.3))
    scored = matcher.score(wide.columns, RIGHT.columns)
    assert matcher.tally.unasked == 30 - len(server.requests) > 0
    last = Header().score(wide.columns, RIGHT.columns).top(4)[29]
    assert scored.top(4)[29] == last


def test_errors_that_pass_are_tried_again(serve) -> None:
    seen: list[str] = []

    def flaky(prompt: str) -> tuple[int, str]:
        seen.append(prompt)
        return (500 if len(seen) == 1 else 429 if len(seen) == 2 else 200), '[{"candidate": 1, "score": 1}]'

    matcher = _llm(serve(flaky), retries=3, concurrency=1)
    matcher.score(LEFT.columns, RIGHT.columns)
    assert len(seen) == 8
    assert matcher.tally.unusable == 0

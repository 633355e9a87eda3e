from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_core import Candidate, Ranked, Ranking, Request
from rerank_core.domain import PlainCodec
from rerank_core.errors import InputError
from rerank_core.io import (
    atomic_write,
    read_gold,
    read_qrels,
    read_rankings,
    read_rankllm,
    read_requests,
    read_run,
    trec_order,
    write_gold,
    write_rankings,
    write_rankllm,
    write_requests,
    write_run,
)

CODEC = PlainCodec()
word = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("Z", "C")), min_size=1, max_size=8
)


def put(path, text: str | bytes):
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


BAD_RUNS = {
    "five columns": (b"q Q0 d 1 2.0 t\nq Q0 d2 2 1.0\n", ":2: a run line has 6 columns"),
    "nan": (b"q Q0 d 1 nan t\n", ":1: score 'nan' is not finite"),
    "word": (b"q Q0 d 1 high t\n", ":1: score 'high' is not a number"),
    "double": (b"q Q0 d 1 2 t\nq Q0 d 2 1 t\n", ":2: document 'd' occurs twice for query 'q'"),
    "utf-8": (b"q Q0 d 1 2 t\nq Q0 \xff 2 1 t\n", ":2: invalid UTF-8 (byte 0xff at column 6)"),
    "empty": (b"\n", "holds no run lines"),
}


@pytest.mark.parametrize("name", BAD_RUNS)
@pytest.mark.parametrize("suffix", [".trec", ".trec.gz"])
def test_a_bad_run_names_file_and_line(tmp_path, name, suffix):
    raw, message = BAD_RUNS[name]
    path = put(tmp_path / f"r{suffix}", raw)
    with pytest.raises(InputError) as error:
        read_run(path)
    assert message in str(error.value)
    assert str(error.value).startswith(str(path))


def test_a_damaged_gzip_file_is_named(tmp_path):
    whole = gzip.compress(b"q Q0 d 1 2 t\n" * 1)
    path = tmp_path / "r.gz"
    path.write_bytes(whole[:-6])
    with pytest.raises(InputError, match="damaged gzip"):
        read_run(path)


def test_ranks_are_ignored_and_ties_sorted_as_trec_eval_does(tmp_path):
    path = put(tmp_path / "r", "q Q0 a 1 1.0 t\nq Q0 b 2 1.0 t\nq Q0 c 3 9 t\n")
    assert trec_order(read_run(path)["q"]) == ["c", "b", "a"]


@given(
    docs=st.dictionaries(word, st.one_of(st.none(), st.floats(allow_nan=False, width=32)), max_size=20),
)
@settings(max_examples=60)
def test_a_written_run_reads_back_in_the_same_order_for_every_evaluator(tmp_path_factory, docs):
    path = tmp_path_factory.mktemp("run") / "r.trec.gz"
    ranking = Ranking("q", tuple(Ranked(d, s) for d, s in docs.items()))
    write_run(path, [ranking])
    if not docs:
        return
    back = read_run(path)["q"]
    scores = np.array(list(back.values()), dtype=np.float32)
    assert (np.diff(scores) < 0).all(), "strictly falling, even in single precision"
    assert trec_order(back) == list(docs)


def test_ids_with_spaces_cannot_go_into_a_run(tmp_path):
    with pytest.raises(InputError, match="white space"):
        write_run(tmp_path / "r", [Ranking("q", (Ranked("a b", 1.0),))])
    assert list(tmp_path.iterdir()) == [], "nothing is left half-written"


def test_atomic_write_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "f"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as file:
        file.write("new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


requests_ = st.lists(
    st.builds(
        lambda names, q, g: (names, q, g),
        st.lists(word, min_size=1, max_size=5, unique=True),
        st.text(max_size=20),
        st.one_of(st.none(), word),
    ),
    max_size=4,
)


@given(requests_)
@settings(max_examples=40)
def test_requests_round_trip(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("req") / "r.jsonl.gz"
    requests = [
        Request(
            f"q{i}", q, tuple(Candidate(n, n * 2, float(j) if j else None, {"f": 0.5}) for j, n in enumerate(names)), g
        )
        for i, (names, q, g) in enumerate(raw)
    ]
    write_requests(path, requests, CODEC)
    assert read_requests(path, CODEC) == requests


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "a JSON object was expected"),
        ('{"id":"a","query":"x","candidates":[]}', "must be a list that is not empty"),
        ('{"id":"a","candidates":[{"id":"1","content":"x"}]}', "field 'query' is missing"),
        ('{"id":"a","query":"x","candidates":[{"id":"1","content":"x","score":NaN}]}', "not finite"),
        ('{"id":"a","query":"x","candidates":[{"id":"1","content":"x","score":"h"}]}', "'h' is not a number"),
        ('{"id":"a","query":"x","candidates":[{"id":"1","content":"x"},{"id":"1","content":"y"}]}', "occurs twice"),
        ('{"id":"a","query":"x","candidates":["x"]}', ""),
    ],
)
def test_a_bad_request_names_file_and_line(tmp_path, line, message):
    good = '{"id":"g","query":"x","candidates":[{"id":"1","content":"x"}]}'
    path = put(tmp_path / "r.jsonl", f"{good}\n\n{line}\n")
    with pytest.raises(InputError) as error:
        read_requests(path, CODEC)
    assert str(error.value).startswith(f"{path}:3:")
    assert message in str(error.value)


def test_a_megabyte_of_text_in_one_candidate_is_read(tmp_path):
    big = Request("q", "x", (Candidate("a", "word " * 200_000),))
    write_requests(tmp_path / "r.jsonl", [big], CODEC)
    assert read_requests(tmp_path / "r.jsonl", CODEC) == [big]


def test_rankings_round_trip_and_equal_runs_give_equal_bytes(tmp_path):
    request = Request("q", "x", (Candidate("a", 1), Candidate("b", 2)))
    ranking = Ranking.from_scores(request, [0.1, float("nan")], reasons={"a": "because"})
    write_rankings(tmp_path / "1.jsonl.gz", [ranking])
    write_rankings(tmp_path / "2.jsonl.gz", [ranking])
    assert (tmp_path / "1.jsonl.gz").read_bytes() == (tmp_path / "2.jsonl.gz").read_bytes()
    assert read_rankings(tmp_path / "1.jsonl.gz") == [ranking]


def test_gold_reads_qrels_and_jsonl(tmp_path):
    put(tmp_path / "q.txt", "q 0 d 2\nq 0 e 0\n")
    assert read_gold(tmp_path / "q.txt") == {"q": {"d": 2, "e": 0}}
    write_gold(tmp_path / "g.jsonl", {"q": {"d": 0.25}})
    assert read_gold(tmp_path / "g.jsonl") == {"q": {"d": 0.25}}
    put(tmp_path / "bad", "q 0 d high\n")
    with pytest.raises(InputError, match=r":1: grade 'high' is not a whole number"):
        read_qrels(tmp_path / "bad")


def test_rankllm_files_read_and_write(tmp_path):
    put(
        tmp_path / "in.json",
        '[{"query": {"text": "why", "qid": 7}, "candidates": ['
        '{"docid": "a", "score": 2.5, "doc": {"title": "T", "text": "body"}}, {"docid": 9, "score": 1, "doc": "plain"}]}]',
    )
    (request,) = read_rankllm(tmp_path / "in.json")
    assert (request.id, request.query, request.ids) == ("7", "why", ["a", "9"])
    assert [c.content for c in request.candidates] == ["T body", "plain"]
    write_rankllm(tmp_path / "out.jsonl", [request], [Ranking.from_order(request, ["9", "a"])])
    (back,) = read_rankllm(tmp_path / "out.jsonl")
    assert back.ids == ["9", "a"]
    assert [c.content for c in back.candidates] == ["plain", "T body"]

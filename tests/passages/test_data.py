"""Files of passage search: what is read, and what is said of a file that is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rerank_core.errors import InputError
from rerank_passages.data import read_candidates, read_passages, read_queries, requests_from_run, run_ids
from rerank_passages.text import sentences, stem


def _write(path: Path, text: str | bytes) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_queries_as_tsv_and_as_jsonl_are_the_same(tmp_path: Path) -> None:
    tsv = _write(tmp_path / "q.tsv.gz", "1\twhat is a tab\n\n2\tünïcode\ttail\r\n")
    jsonl = _write(
        tmp_path / "q.jsonl", '{"qid": 1, "text": "what is a tab"}\n{"_id": "2", "query": "ünïcode\\ttail"}\n'
    )
    assert read_queries(tsv) == read_queries(jsonl) == {"1": "what is a tab", "2": "ünïcode\ttail"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("1\ta\nno tab here\n", r"q\.tsv:2: .*no tab"),
        ("1\ta\n1\tb\n", r"q\.tsv:2: query '1' occurs twice"),
        ("1\t \n", r"q\.tsv:1: .*needs an id and a text"),
        ("", r"q\.tsv: holds no queries"),
        (b"1\ta\n2\t\xff\xfe\n", r"q\.tsv:2: .*UTF-8"),
    ],
)
def test_bad_queries(tmp_path: Path, content: str | bytes, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_queries(_write(tmp_path / "q.tsv", content))


def test_passages_with_titles_and_only_those_wanted(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "p.jsonl.gz",
        '{"docid": "a", "text": "one"}\n{"id": 7, "title": "T", "contents": "two"}\n{"_id": "c", "body": "three"}\n',
    )
    assert read_passages(path) == {"a": "one", "7": "T. two", "c": "three"}
    assert read_passages(path, {"7"}) == {"7": "T. two"}
    studies = _write(
        tmp_path / "s.jsonl",
        '{"id": 1, "title": "A trial", "abstract": "We"}\n{"id": 2, "title": "B", "abstract": null}\n',
    )
    assert read_passages(studies) == {"1": "A trial. We", "2": "B"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"docid": "a", "text": "x"}\n{"docid": "a", "text": "y"}\n', r"p\.jsonl:2: passage 'a' occurs twice"),
        ('{"docid": "a"}\n', r"p\.jsonl:1: needs one of the fields text"),
        ('{"docid": "a", "text": "x"}\n{"docid": "b"\n', r"p\.jsonl:2: "),
        ("", "holds no passages"),
    ],
)
def test_bad_passages(tmp_path: Path, content: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_passages(_write(tmp_path / "p.jsonl", content))


def test_a_run_joins_queries_and_passages_in_trec_order() -> None:
    run = {"q": {"a": 1.0, "b": 3.0, "c": 1.0}}
    (request,) = requests_from_run({"q": "text", "r": "other"}, {"a": "A", "b": "B", "c": "C"}, run)
    assert request.ids == ["b", "c", "a"] and [c.content for c in request.candidates] == ["B", "C", "A"]
    assert run_ids(run, 2) == {"b", "c"}
    with pytest.raises(InputError, match="1 queries that are not in the queries file, first 'q'"):
        requests_from_run({}, {}, run)
    with pytest.raises(InputError, match="2 passages that are not in the passages file, first 'c'"):
        requests_from_run({"q": "text"}, {"b": "B"}, run)


def test_candidates_files(tmp_path: Path) -> None:
    row = {
        "qid": 3,
        "query": "x",
        "candidates": [{"docid": "b", "text": "B", "score": 2.5}, {"docid": "a", "text": "A"}],
    }
    (request,) = read_candidates(_write(tmp_path / "c.jsonl", json.dumps(row)))
    assert (request.id, request.ids, request.candidates[0].score) == ("3", ["b", "a"], 2.5)
    for change, complaint in [
        ({"candidates": []}, "not empty"),
        ({"candidates": row["candidates"][:1] * 2}, "'b' occurs twice"),
    ]:
        with pytest.raises(InputError, match=complaint):
            read_candidates(_write(tmp_path / "c.jsonl", json.dumps({**row, **change})))


def test_sentences_keep_abbreviations_and_quotes() -> None:
    text = 'Mr. Smith went to the U.S. Senate. He said "no way." Then 3.5 p.m. came.\n\nNew paragraph'
    assert sentences(text) == [
        "Mr. Smith went to the U.S. Senate.",
        'He said "no way."',
        "Then 3.5 p.m. came.",
        "New paragraph",
    ]
    assert sentences(" \n ") == []
    assert stem("connections") == stem("connected") == "connect"

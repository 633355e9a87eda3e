"""The named rerankers: sensible orders, budgets, truncation, and the command line end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rerank_core.budget import Budget
from rerank_core.errors import ModelNotFound, UsageError
from rerank_core.io import read_run
from rerank_core.types import Candidate, Request, Status
from rerank_passages.domain import domain
from rerank_passages.rerank import PairReranker
from rerank_passages.scorers import PairScores

TEXTS = {
    "csr": "CSR stores row pointers, column indices and data, so that rows of a sparse matrix are read fast.",
    "bread": "Bread is baked from flour, water, salt and yeast.",
    "median": "The median is the middle value of a sorted list of numbers.",
}
QUERIES = {"1": "how is a sparse matrix stored", "2": "what is bread made of", "3": "middle of a sorted list"}
RIGHT = {"1": "csr", "2": "bread", "3": "median"}


def requests() -> list[Request[str, str]]:
    order = ["median", "bread", "csr"]
    return [
        Request(q, text, tuple(Candidate(i, TEXTS[i], 3.0 - rank) for rank, i in enumerate(order)))
        for q, text in QUERIES.items()
    ]


@pytest.mark.parametrize("method", ["bm25", "static", "bi-encoder", "maxsim", "cross-encoder", "hybrid", "default"])
def test_every_method_finds_the_obvious(method: str) -> None:
    reranker = domain.method(method)
    rankings = reranker.rerank(requests())
    assert {r.id: r.ids[0] for r in rankings} == RIGHT
    assert all(sorted(r.ids) == sorted(TEXTS) for r in rankings)
    assert reranker.fingerprint() == domain.method(method).fingerprint()
    assert reranker.rerank([]) == []
    single = Request("1", QUERIES["1"], (Candidate("csr", TEXTS["csr"]),))
    assert reranker.rerank([single])[0].ids == ["csr"]


class Counting:
    """Scores a text by its length and counts."""

    def __init__(self) -> None:
        self.seen = 0

    def score(self, pairs):  # type: ignore[no-untyped-def]
        self.seen += len(pairs)
        n = np.array([len(t) for _, t in pairs], dtype=float)
        return PairScores(n, n > 60, np.full(len(pairs), 10))

    def fingerprint(self) -> str:
        return "counting"


def test_a_budget_of_calls_reaches_every_query_before_going_deeper() -> None:
    scorer = Counting()
    rankings = PairReranker("length", scorer).within(Budget(calls=4)).rerank(requests())
    assert scorer.seen == 4 and sum(r.cost.calls for r in rankings) == 4
    assert [r.cost.calls for r in rankings] == [2, 1, 1]
    assert rankings[1].ids == ["median", "bread", "csr"] and all(r.status is Status.BUDGET for r in rankings)
    assert PairReranker("length", Counting()).within(Budget(calls=0)).rerank(requests())[0].ids[0] == "median"


def test_cut_texts_are_reported_and_cost_is_counted() -> None:
    rankings = PairReranker("length", Counting()).rerank(requests())
    assert all(r.status is Status.TRUNCATED and r.cost.prompt_tokens == 30 for r in rankings)
    assert rankings[0].ids == ["csr", "median", "bread"]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="no method 'nope'; methods: "):
        domain.method("nope")
    with pytest.raises(UsageError, match="unknown setting 'depht'"):
        domain.method("cross-encoder", {"depht": 3})
    with pytest.raises(ModelNotFound, match="no weights for model 'nope'"):
        domain.method("cross-encoder", {"model": "nope"}).rerank(requests())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "q.tsv").write_text("".join(f"{q}\t{t}\n" for q, t in QUERIES.items()))
    (tmp_path / "p.jsonl").write_text("".join(json.dumps({"docid": i, "text": t}) + "\n" for i, t in TEXTS.items()))
    lines = [f"{r.id} Q0 {c.id} {n} {c.score} x\n" for r in requests() for n, c in enumerate(r.candidates, 1)]
    (tmp_path / "in.trec").write_text("".join(lines))
    return tmp_path


def command(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    code = "from rerank_passages.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *args], cwd=folder, capture_output=True, text=True, timeout=300)


INPUT = ("--queries", "q.tsv", "--passages", "p.jsonl", "--run", "in.trec")


def test_search_rerank_fuse_and_eval_on_the_command_line(files: Path) -> None:
    assert command(files, "search", "--queries", "q.tsv", "--passages", "p.jsonl", "-o", "bm25.trec").returncode == 0
    assert {q: next(iter(d)) for q, d in read_run(files / "bm25.trec").items()} == RIGHT
    done = command(files, "rerank", *INPUT, "--method", "bi-encoder", "-o", "out.trec")
    assert done.returncode == 0, done.stderr
    assert {q: next(iter(d)) for q, d in read_run(files / "out.trec").items()} == RIGHT
    assert not (files / "out.trec.parts").exists()
    fuse = ("fuse", "--method", "rrf", "--run", "in.trec", "--run", "out.trec", "-o", "fused.trec")
    assert command(files, *fuse).returncode == 0
    (files / "qrels.txt").write_text("".join(f"{q} 0 {d} 1\n" for q, d in RIGHT.items()))
    rows = json.loads(
        command(
            files, "eval", "--qrels", "qrels.txt", "--run", "in.trec", "--run", "out.trec", "-m", "MRR@10", "--json"
        ).stdout
    )
    assert {r["system"]: round(r["value"], 4) for r in rows} == {"in": round((1 / 3 + 1 / 2 + 1) / 3, 4), "out": 1.0}


def test_methods_are_listed_without_loading_a_model(files: Path) -> None:
    code = "import sys; from rerank_passages.cli import main\ntry: main()\nexcept SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "methods", "--json"], capture_output=True, text=True, timeout=60)
    listing, loaded = done.stdout.rsplit("]", 1)
    assert loaded.strip() == "False"
    assert {"cross-encoder", "bi-encoder", "maxsim", "default", "icr"} <= {m["name"] for m in json.loads(listing + "]")}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("in.trec", b"1 Q0 csr 1 2.0\n", "in.trec:1: a run line has 6 columns"),
        ("in.trec", b"1 Q0 csr 1 nan x\n", "in.trec:1: score 'nan' is not finite"),
        ("in.trec", b"1 Q0 csr 1 2 x\n1 Q0 csr 2 1 x\n", "in.trec:2: document 'csr' occurs twice"),
        ("in.trec", b"1 Q0 cs\xff 1 2 x\n", "UTF-8"),
        ("in.trec", b"9 Q0 csr 1 2 x\n", "1 queries that are not in the queries file, first '9'"),
        ("in.trec", b"1 Q0 gone 1 2 x\n", "1 passages that are not in the passages file, first 'gone'"),
        ("p.jsonl", b'{"docid": "csr"}\n', "p.jsonl:1: needs one of the fields text"),
        ("q.tsv", b"no tab\n", "q.tsv:1: "),
    ],
)
def test_bad_input_is_one_line_and_exit_2_and_nothing_written(
    files: Path, name: str, content: bytes, complaint: str
) -> None:
    (files / name).write_bytes(content)
    done = command(files, "rerank", *INPUT, "--method", "bm25", "-o", "out.trec")
    assert done.returncode == 2 and complaint in done.stderr and done.stderr.count("\n") == 1
    assert not (files / "out.trec").exists() and not (files / "out.trec.parts").exists()


def test_a_missing_model_and_a_wrong_flag(files: Path) -> None:
    done = command(files, "rerank", *INPUT, "--method", "cross-encoder", "--model", "gone", "-o", "out.trec")
    assert done.returncode == 2 and "no weights for model 'gone'; tried alias" in done.stderr
    assert not (files / "out.trec").exists()
    done = command(files, "rerank", *INPUT, "--method", "bm25", "--precision", "int8", "-o", "out.trec")
    assert done.returncode == 2 and "takes no --precision" in done.stderr


def test_a_passage_of_a_megabyte_is_cut_and_said_so(files: Path) -> None:
    big = {"docid": "csr", "text": "sparse matrix storage " * 50_000}
    (files / "p.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in [big, *({"docid": i, "text": TEXTS[i]} for i in ("bread", "median"))])
    )
    done = command(files, "rerank", *INPUT, "--method", "cross-encoder", "-o", "out.trec")
    assert done.returncode == 0 and "truncated" in done.stderr
    assert {q: len(d) for q, d in read_run(files / "out.trec").items()} == {"1": 3, "2": 3, "3": 3}

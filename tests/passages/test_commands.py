"""Screening, decomposition and Chinese search through the command line, and what is said of wrong input."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from rerank_core.errors import RerankError
from rerank_core.io import read_run
from rerank_passages.cli import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("q.tsv").write_text("1\twhat is bread\n")
    Path("p.jsonl").write_text('{"docid": "a", "text": "a car"}\n{"docid": "b", "text": "bread is baked"}\n')
    Path("s.jsonl").write_text('{"id": 1, "title": "Cars"}\n{"id": 2, "title": "A trial", "abstract": "of bread"}\n')
    Path("zh.tsv").write_text("1\t中国的首都\n")
    Path("zh.jsonl").write_text('{"docid": "x", "text": "苹果"}\n{"docid": "y", "text": "北京是中国的首都"}\n')
    Path("empty").write_text("")
    Path("nan.trec").write_text("1 Q0 a 1 2.0 t\n1 Q0 b 2 nan t\n")
    Path("lost.trec").write_text("1 Q0 a 1 2.0 t\n1 Q0 gone 2 1 t\n")
    return tmp_path


def test_commands_work(folder: Path) -> None:
    runner = CliRunner()
    for args, best in (
        (["screen", "--review", "bread", "--documents", "s.jsonl", "--method", "bm25"], "2"),
        (["decompose", "--question", "what is bread?", "--passages", "p.jsonl", "--method", "bm25"], "b"),
        (["search", "--queries", "q.tsv", "--passages", "p.jsonl"], "b"),
        (["search", "--queries", "zh.tsv", "--passages", "zh.jsonl", "--language", "zh"], "y"),
    ):
        done = runner.invoke(app, [*args, "-o", "o.trec"], catch_exceptions=False)
        assert done.exit_code == 0
        (docs,) = read_run(folder / "o.trec").values()
        assert max(docs, key=lambda d: docs[d]) == best
    assert (
        "b  bread is baked"
        in runner.invoke(
            app, ["decompose", "--question", "what is bread?", "--passages", "p.jsonl", "--method", "bm25"]
        ).output
    )


RERANK = ["rerank", "--queries", "q.tsv", "--passages", "p.jsonl", "--method", "bm25", "--run"]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ([*RERANK, "nan.trec"], "nan.trec:2: score 'nan' is not finite"),
        ([*RERANK, "lost.trec"], "1 passages that are not in the passages file, first 'gone'"),
        ([*RERANK, "empty"], "empty: holds no run lines"),
        (["screen", "--review", " ", "--documents", "s.jsonl", "--method", "bm25"], "needs a title"),
        (["screen", "--review", "x", "--documents", "empty", "--method", "bm25"], "holds no passages"),
        (["screen", "--review", "x", "--documents", "s.jsonl", "--method", "nope"], "no method 'nope'"),
        (["decompose", "--question", " ", "--passages", "p.jsonl"], "question is empty"),
        (["decompose", "--question", "zzz", "--passages", "p.jsonl"], "no passage shares a word"),
        (["search", "--queries", "q.tsv", "--passages", "p.jsonl", "--language", "xx"], "no language 'xx'"),
        (["claims", "--queries", "empty", "--articles", "gone", "--method", "bm25"], "gone: cannot be read"),
    ],
)
def test_wrong_input_is_one_error_and_no_file(folder: Path, args: list[str], complaint: str) -> None:
    done = CliRunner().invoke(app, [*args, "-o", "o.trec"])
    assert isinstance(done.exception, RerankError) and complaint in str(done.exception)
    assert not (folder / "o.trec").exists()

"""The domain and the command, as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rerank_schema.domain import ColumnCodec, domain, render_column
from rerank_schema.matchers import Header
from rerank_schema.rerank import ColumnReranker, requests_of
from rerank_schema.tables import Schema, column_from_values

ENV = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
COMMAND = str(Path(sys.executable).parent / "rerank-schema")


def run(*args: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([COMMAND, *map(str, args)], capture_output=True, text=True, env=ENV, timeout=300, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_neither_help_nor_domain_imports_torch() -> None:
    code = "import sys, rerank_schema.cli, rerank_schema.domain; print({'torch', 'transformers', 'pandas'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_sample_is_real_and_large_enough() -> None:
    data = domain.sample()
    assert len(data.gold) >= 50
    assert len(set(data.splits.values())) >= 4
    first = data.requests[0]
    assert first.query.values
    assert all(set(gains) <= set(r.ids) for r in data.requests if (gains := data.gold.get(r.id)))


def test_columns_survive_json() -> None:
    codec = ColumnCodec()
    for column in [c for r in domain.sample().requests[:20] for c in (r.query, r.candidates[0].content)]:
        value = json.loads(json.dumps(codec.encode_query(column)))
        back = codec.decode_query(value)
        assert codec.encode_query(back) == value
        assert back.counts.tolist() == column.counts.tolist()
    assert codec.decode_query("age").name == "age"
    assert codec.decode_query({"name": "age", "values": [1, 1, 2]}).counts.tolist() == [2, 1]
    for bad in (3, {}, {"name": 1}, {"name": "a", "values": [1], "counts": [1, 2]}, {"name": "a", "values": 3}):
        with pytest.raises(ValueError):
            codec.decode_query(bad)


def test_a_judge_reads_names_types_and_values() -> None:
    column = column_from_values("people", "sex", ["f", "m", "f"])
    assert render_column(column) == "people.sex; values: f, m"


def test_reranking_is_by_whole_table_pairs() -> None:
    columns = tuple(column_from_values("t", n, ["x"]) for n in ("age", "name", "city"))
    requests = [r for g in ("one", "two") for r in requests_of(Schema(columns), Schema(columns), g)]
    rankings = ColumnReranker(Header()).rerank(requests)
    assert [r.ids[0] for r in rankings] == ["t.age", "t.name", "t.city"] * 2
    assert [r.ids[0] for r in requests] == ["t.age", "t.name", "t.city"] * 2  # the first stage: like names first
    assert requests[1].candidates[0].score == 1.0


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, Path]:
    left, right, gold = tmp_path / "left.csv", tmp_path / "right.csv", tmp_path / "gold.csv"
    left.write_text("patient_age,sex\n41,f\n17,m\n")
    right.write_text("gender,age_of_patient,zip\nf,33,1\nm,2,2\n")
    gold.write_text("source,target\npatient_age,age_of_patient\nsex,gender\n")
    return left, right, gold


def test_match_and_eval(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    left, right, gold = pair
    for suffix in ("csv", "json", "tsv"):
        out = tmp_path / f"out.{suffix}"
        run("match", left, right, "--method", "header", "-o", out)
        rows = json.loads(run("eval", out, "--gold", gold, "--json").stdout)
        assert {"MRR", "Recall@GT", "Recall@20", "P", "R", "F1"} <= {r["measure"] for r in rows}
        assert all(set(r) == {"system", "measure", "value", "n", "ci_low", "ci_high"} for r in rows)
        assert next(r["value"] for r in rows if r["measure"] == "Recall@20") == 1.0
    header = (tmp_path / "out.csv").read_text().splitlines()[0]
    assert header == "source_table,source_column,target_table,target_column,score,rank,probability,decision,reason"
    run("match", left, right, "--method", "header", "-o", tmp_path / "out.html")
    assert "patient_age" in (tmp_path / "out.html").read_text()


@pytest.mark.parametrize(
    "args",
    [
        ("match", "missing.csv", "RIGHT", "-o", "OUT"),
        ("match", "LEFT", "RIGHT", "-o", "out.doc"),
        ("match", "LEFT", "RIGHT", "--method", "nothing", "-o", "OUT"),
        ("match", "LEFT", "RIGHT", "--method", "header", "-s", "x=1", "-o", "OUT"),
        ("match", "LEFT", "RIGHT", "--schema-only", "--method", "header", "-o", "OUT"),
        ("match", "LEFT", "RIGHT", "--method", "header", "--topk", "0", "-o", "OUT"),
        ("eval", "LEFT", "--gold", "GOLD"),
        ("eval", "missing.csv", "--gold", "GOLD"),
        ("fit", "missing", "-o", "model"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(args: tuple[str, ...], pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    places = {"LEFT": pair[0], "RIGHT": pair[1], "GOLD": pair[2], "OUT": tmp_path / "out.csv"}
    done = run(*(places.get(a, a) for a in args), code=2)
    assert done.stderr.strip()
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_the_default_finds_what_names_hide(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    left, right, gold = pair
    out = tmp_path / "out.csv"
    run("match", left, right, "-o", out)
    rows = {r["measure"]: r["value"] for r in json.loads(run("eval", out, "--gold", gold, "--json").stdout)}
    assert rows["MRR"] == 1.0
    assert "shared values (f, m)" in out.read_text()
    arguments = ["match", *map(str, (left, right, "-o", tmp_path / "again.csv"))]
    again = f"import sys; sys.modules['torch'] = None; from rerank_schema.cli import app; app({arguments})"
    subprocess.run([sys.executable, "-c", again], env=ENV, check=True)  # all vectors are known: no model is loaded
    assert (tmp_path / "again.csv").read_bytes() == out.read_bytes()
    asked = run("match", left, right, "-o", out, "--dry-run").stdout
    assert "41" in asked
    asked = run("match", left, right, "-o", out, "--dry-run", "--names-only").stdout
    assert "patient_age" in asked
    assert "41" not in asked

# ruff: noqa: E501 - whole commands and records on one line
from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from rerank_core.cli import run as run_app
from rerank_core.io import read_run
from rerank_programs.cli import app
from rerank_programs.data import find_database, read_candidates, read_labels
from rerank_programs.output import read_records
from rerank_programs.sample import sample

COMMAND = str(Path(sys.executable).parent / "rerank-programs")


@dataclass
class Done:
    stdout: str
    stderr: str


def run(*args, code=0):
    """Run a command in this process; a subprocess would import everything anew each time."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
        run_app(app, [str(a) for a in args])
    assert (stop.value.code or 0) == code, f"{stop.value.code}: {err.getvalue()}"
    return Done(out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The embedded sample as files: candidates, labels, databases."""
    folder = tmp_path_factory.mktemp("world")
    data = sample(folder / "databases")
    with (folder / "candidates.jsonl").open("w") as f:
        for r in data.requests:
            programs = [{"source": c.id, "sql": c.content.text} for c in r.candidates]
            f.write(
                json.dumps(
                    {"id": r.id, "db_id": r.query.database, "question": r.query.question, "candidates": programs}
                )
                + "\n"
            )
    with (folder / "labels.jsonl").open("w") as f:
        for key, marks in data.gold.items():
            f.write(json.dumps({"id": key, "ex": marks}) + "\n")
    return folder


def rerank(world, out, method, *more):
    return run(
        "rerank", world / "candidates.jsonl", "--databases", world / "databases", "--method", method, "-o", out,
        "--cache", world / "cache.sqlite", *more,
    )  # fmt: skip


def figures(out, world):
    rows = json.loads(run("eval", out, "--labels", world / "labels.jsonl", "--json").stdout)
    return {r["measure"]: r["value"] for r in rows}


def test_before_and_after_on_the_sample(world, tmp_path):
    """The README's figures: top-1 and top-3 of the sample, before and after."""
    got = {}
    for method in ("first", "ngram", "mbr-exec", "vote", "semantic"):
        rerank(world, tmp_path / f"{method}.jsonl", method)
        found = figures(tmp_path / f"{method}.jsonl", world)
        got[method] = (round(100 * found["EX@1"], 1), round(100 * found["EX@3"], 1))
    assert got["first"] == (53.7, 88.9)
    assert got["vote"] == (92.6, 100.0)
    assert got["semantic"] == (92.6, 100.0)


def test_same_input_same_bytes_whatever_the_workers_and_the_cache(world, tmp_path):
    outs = [tmp_path / f"{i}.jsonl" for i in range(3)]
    rerank(world, outs[0], "semantic", "--no-cache", "--threads", "1")
    rerank(world, outs[1], "semantic", "--no-cache", "--threads", "2")
    done = rerank(world, outs[2], "semantic", "--json")
    rerank(world, outs[2], "semantic")
    assert outs[0].read_bytes() == outs[1].read_bytes() == outs[2].read_bytes()
    assert json.loads(done.stdout)["programs"] == sum(len(r["programs"]) for _, r in read_records(outs[0]))


def test_the_other_output_formats(world, tmp_path):
    rerank(
        world, tmp_path / "o.jsonl", "vote", "--run", tmp_path / "o.trec", "--sql-lines", tmp_path / "o.sql",
        "--bird-json", tmp_path / "o.json",
    )  # fmt: skip
    records = read_records(tmp_path / "o.jsonl")
    trec = read_run(tmp_path / "o.trec")
    for ranking, record in records:
        assert sorted(trec[ranking.id], key=lambda i: -trec[ranking.id][i]) == ranking.ids
        assert record["isolation"] and record["mode"] == "spider-1"
    lines = (tmp_path / "o.sql").read_text().splitlines()
    assert len(lines) == len(records)
    bird = json.loads((tmp_path / "o.json").read_text())
    assert bird["0"].endswith(f"\t----- bird -----\t{records[0][1]['database']}")


def test_explain_turns_a_choice_into_one_question(world, tmp_path):
    rerank(world, tmp_path / "o.jsonl", "vote")
    key = next(
        r.id for r, x in read_records(tmp_path / "o.jsonl") if len(x["clusters"]) > 1 and r.id.startswith("weather-15")
    )
    text = run("explain", tmp_path / "o.jsonl", "--id", key, "--databases", world / "databases").stdout
    assert "which answer to" in text and "  A: " in text and "  B: " in text
    found = json.loads(
        run("explain", tmp_path / "o.jsonl", "--id", key, "--databases", world / "databases", "--json").stdout
    )
    assert found["witness"]["results"][0] != found["witness"]["results"][1]
    assert sum(len(t["rows"]) for t in found["witness"]["tables"].values()) <= 3
    run("explain", tmp_path / "o.jsonl", "--id", "nobody", code=2)


@pytest.mark.slow
def test_fit_then_learned_then_compare(world, tmp_path):
    rows = json.loads(
        run(
            "fit", world / "candidates.jsonl", "--labels", world / "labels.jsonl", "--databases", world / "databases",
            "-o", tmp_path / "model", "--cache", world / "cache.sqlite", "--json",
        ).stdout
    )  # fmt: skip
    assert {"learned", "vote", "semantic"} <= {r["system"] for r in rows}
    rerank(world, tmp_path / "l.jsonl", "learned", "--model", tmp_path / "model")
    rerank(world, tmp_path / "v.jsonl", "vote", "--model", tmp_path / "model")
    assert figures(tmp_path / "l.jsonl", world)["EX@1"] >= figures(tmp_path / "v.jsonl", world)["EX@1"] - 0.02
    compared = json.loads(
        run(
            "eval",
            tmp_path / "l.jsonl",
            "--labels",
            world / "labels.jsonl",
            "--against",
            tmp_path / "v.jsonl",
            "--json",
        ).stdout
    )
    assert "mcnemar_p" in compared[-1]
    (tmp_path / "model" / "ranker.json").write_text("{}")
    run("rerank", world / "candidates.jsonl", "--databases", world / "databases", "--method", "learned", "--model", tmp_path / "model", "-o", tmp_path / "x", code=2)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"id": "a"', "not JSON"),
        ('{"id": "a", "question": "q", "db_id": "flights", "candidates": []}', "not empty"),
        ('{"id": "a", "question": "q", "db_id": "flights", "candidates": [{"source": "x"}]}', "needs one of"),
        ('{"id": "a", "question": "q", "db_id": "nowhere", "candidates": ["SELECT 1"]}', "is not in"),
        ('{"id": "a", "question": "q", "db_id": "../flights", "candidates": ["SELECT 1"]}', "is not in"),
        ('{"id": "a", "question": "q", "candidates": ["SELECT 1"], "language": "cobol"}', "unknown language"),
    ],
)
def test_bad_input_is_one_line_with_its_place(world, tmp_path, text, words):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "z", "question": "q", "db_id": "flights", "candidates": ["SELECT 1"]}\n' + text + "\n")
    done = run("rerank", bad, "--databases", world / "databases", "-o", tmp_path / "out.jsonl", code=2)
    assert words in done.stderr and "bad.jsonl:2:" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()


def test_usage_errors(world, tmp_path):
    assert "--model DIR" in run("rerank", world / "candidates.jsonl", "--databases", world / "databases", "--method", "learned", "-o", tmp_path / "x", code=2).stderr  # fmt: skip
    assert (
        "no method"
        in run("rerank", world / "candidates.jsonl", "--method", "magic", "-o", tmp_path / "x", code=2).stderr
    )
    assert "--databases DIR" in run("rerank", world / "candidates.jsonl", "-o", tmp_path / "x", code=2).stderr
    run("sandbox-check", "--engine", "cobol", code=2)


def test_help_and_registration_import_nothing_heavy():
    program = (
        "import sys; from rerank_programs.domain import domain; import rerank_programs.cli; "
        "bad = {'torch', 'transformers', 'pandas', 'duckdb', 'lightgbm', 'sqlglot', 'pyarrow'} & set(sys.modules); "
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    shown = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True, timeout=60)
    assert "sandbox-check" in shown.stdout


def test_a_damaged_cache_is_set_aside(world, tmp_path):
    cache = tmp_path / "c.sqlite"
    args = (
        "rerank",
        world / "candidates.jsonl",
        "--databases",
        world / "databases",
        "--method",
        "vote",
        "--cache",
        cache,
    )
    run(*args, "-o", tmp_path / "a.jsonl")
    cache.write_bytes(b"garbage" * 1000)
    run(*args, "-o", tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_predictions_in_the_fields_formats_become_candidates(world, tmp_path):
    requests = read_candidates(world / "candidates.jsonl", world / "databases")
    gold = read_labels(world / "labels.jsonl")
    right = {r.id: next(c.content.text for c in r.candidates if gold[r.id][c.id]) for r in requests}
    (tmp_path / "spider.sql").write_text("\n".join(right[r.id] + "\tdb" for r in requests) + "\n")
    (tmp_path / "bird.json").write_text(
        json.dumps({str(i): right[r.id] + "\t----- bird -----\tdb" for i, r in enumerate(requests)})
    )
    (tmp_path / "din.csv").write_text(
        "NLQ,PREDICTED SQL\n" + "".join('q,"' + right[r.id].replace('"', '""') + '"\n' for r in requests)
    )
    (tmp_path / "lever.jsonl").write_text("".join(json.dumps({"id": r.id, "generated_programs": [{"code": right[r.id], "lm_prob": -1.0}]}) + "\n" for r in requests))  # fmt: skip
    more = [x for n in ("spider.sql", "bird.json", "din.csv", "lever.jsonl") for x in ("--pred", tmp_path / n)]
    rerank(world, tmp_path / "o.jsonl", "mbr-exec", *more)
    records = read_records(tmp_path / "o.jsonl")
    assert all({"spider", "bird", "din", "lever"} <= set(x["programs"]) for _, x in records)
    assert all(x["programs"]["spider"] == right[r.id] for r, x in records)
    (tmp_path / "short.sql").write_text("SELECT 1\n")
    run("rerank", world / "candidates.jsonl", "--databases", world / "databases", "--pred", tmp_path / "short.sql", "-o", tmp_path / "x", code=2)  # fmt: skip


def test_databases_are_found_in_every_layout(world, tmp_path):
    (tmp_path / "b").mkdir()
    shutil.copy(world / "databases" / "cars.sqlite", tmp_path / "b" / "b.sqlite")
    shutil.copy(world / "databases" / "cars.sqlite", tmp_path / "a.db")
    (tmp_path / "tables").mkdir()
    assert find_database(tmp_path, "a") == tmp_path / "a.db"
    assert find_database(tmp_path, "b") == tmp_path / "b" / "b.sqlite"
    assert find_database(tmp_path, "tables") == tmp_path / "tables"
    assert find_database(tmp_path, "..") is None and find_database(tmp_path, "c") is None


def test_three_lines(world):
    from rerank_programs import rank

    picks = rank(
        ["SELECT count(*) FROM cars", "SELECT count(Name) FROM cars", "SELECT 1 FROM cars"],
        world / "databases" / "cars.sqlite",
    )
    assert picks[0].program == "SELECT count(*) FROM cars" and picks[0].confidence == pytest.approx(2 / 3)
    assert picks[0].result.rows == ((406,),) and picks[-1].program == "SELECT count(Name) FROM cars"


def test_an_interrupted_run_goes_on_from_the_cache(world, tmp_path, monkeypatch):
    from rerank_programs import execution
    from rerank_programs.cache import OutcomeCache

    monkeypatch.setattr(execution, "CHUNK", 40)
    requests = read_candidates(world / "candidates.jsonl", world / "databases")
    cache = OutcomeCache(tmp_path / "c.sqlite")
    put, stored = cache.put, []

    def stop_later(entries):
        put(entries)
        stored.append(len(entries))
        if len(stored) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cache, "put", stop_later)
    with pytest.raises(KeyboardInterrupt):
        execution.Executor(cache=cache).outcomes(requests)
    again = execution.Executor(cache=OutcomeCache(tmp_path / "c.sqlite"))
    whole = execution.Executor()
    assert again.outcomes(requests) == whole.outcomes(requests)
    assert again.executed == whole.executed - sum(stored) < whole.executed

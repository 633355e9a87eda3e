from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


def put(path, text):
    path.write_text(text)
    return path


@pytest.fixture
def files(tmp_path):
    qrels = put(tmp_path / "qrels", "q1 0 a 2\nq1 0 b 0\nq2 0 c 1\n")
    one = put(tmp_path / "one.trec", "q1 Q0 b 1 2 t\nq1 Q0 a 2 1 t\nq2 Q0 c 1 1 t\n")
    two = put(tmp_path / "two.trec", "q1 Q0 a 1 2 t\nq1 Q0 b 2 1 t\nq2 Q0 c 1 1 t\n")
    return qrels, one, two


def test_domains_lists_without_importing(rerank, example_env):
    rows = json.loads(rerank("domains", "--json").stdout)
    assert {"name": "did-you-mean", "package": "did-you-mean", "command": "rerank-did-you-mean"} in rows
    code = (
        "import sys; sys.argv = ['rerank', 'domains']; from rerank_core.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'did_you_mean', 'lightgbm') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=example_env, check=True
    ).stdout
    assert out.splitlines()[-1] == "[]"


def test_eval_prints_rows_and_compares_with_the_first_run(rerank, files):
    qrels, one, two = files
    rows = json.loads(
        rerank("eval", "--qrels", qrels, "--run", one, "--run", two, "-m", "MRR@10", "-m", "Gain@1", "--json").stdout
    )
    assert [(r["system"], r["measure"], r["value"], r["n"]) for r in rows] == [
        ("one", "MRR@10", 0.75, 2),
        ("two", "MRR@10", 1.0, 2),
        ("one", "Gain@1", 0.5, 2),
        ("two", "Gain@1", 1.5, 2),
    ]
    assert rows[1]["diff"] == 0.25
    assert 0 < rows[1]["p"] <= 1
    assert set(rows[0]) == {"system", "measure", "value", "n", "ci_low", "ci_high"}


def test_eval_of_a_table_is_readable_in_a_pipe(rerank, files):
    qrels, one, _ = files
    out = rerank("eval", "--qrels", qrels, "--run", one).stdout
    assert "nDCG@10" in out
    assert "[" in out


def test_fuse_writes_a_run(rerank, files, tmp_path):
    _, one, two = files
    rerank("fuse", "--method", "rrf", "--run", one, "--run", two, "-o", tmp_path / "f.trec")
    lines = (tmp_path / "f.trec").read_text().splitlines()
    assert len(lines) == 3
    assert all(len(line.split()) == 6 for line in lines)


BAD = {
    "run with 5 columns": (["eval", "--qrels", "{qrels}", "--run", "{bad}"], ":1: a run line has 6 columns"),
    "unknown measure": (["eval", "--qrels", "{qrels}", "--run", "{one}", "-m", "wow@3"], "unknown measure 'wow@3'"),
    "no such file": (["eval", "--qrels", "{qrels}", "--run", "{none}"], "No such file"),
    "unknown domain": (["demo", "--domain", "astrology"], "no domain 'astrology' is installed"),
    "unknown fusion": (
        ["fuse", "--run", "{one}", "--run", "{one}", "--method", "wow", "-o", "{out}"],
        "unknown fusion",
    ),
    "one run": (["fuse", "--run", "{one}", "-o", "{out}"], "at least two"),
    "bad policy": (["eval", "--qrels", "{qrels}", "--run", "{one}", "--missing", "maybe"], "zero or skip"),
    "no suite": (["ablate", "{none}", "-o", "{out}"], "cannot be read"),
    "bad suite": (["ablate", "{bad}", "-o", "{out}"], "mapping"),
    "report of nothing": (["report", "{none}", "-o", "{out}"], "holds no suite.json"),
    "engine": (["ablate", "{suite}", "-o", "{out}", "--engine", "abacus"], "unknown engine 'abacus'"),
    "keys": (["serve", "--api-key-file", "{none}"], "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_exit_2_and_nothing_half_written(rerank, files, tmp_path, name):
    qrels, one, _ = files
    args, message = BAD[name]
    named = {
        "qrels": qrels,
        "one": one,
        "bad": put(tmp_path / "bad.trec", "q Q0 d 1 2.0\n"),
        "none": tmp_path / "none",
        "out": tmp_path / "out",
        "suite": put(tmp_path / "s.yaml", "name: x\nexperiments: [{domains: [did-you-mean]}]\n"),
    }
    before = sorted(p.name for p in tmp_path.iterdir())
    done = rerank(*[a.format(**named) for a in args], code=2)
    lines = done.stderr.strip().splitlines()
    assert message in lines[-1]
    assert len(lines) == 1
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_usage_errors_exit_2(rerank):
    for args in (["eval"], ["nonsense"], ["eval", "--no-such-flag"], ["serve", "--port", "0"]):
        assert "Traceback" not in rerank(*args, code=2).stderr


def test_doctor_says_what_is_there_and_how_to_mend(rerank):
    rows = json.loads(rerank("doctor", "--json").stdout)
    by = {r["name"]: r for r in rows}
    assert {"python", "domains", "cpu", "gpu", "browser", "sandbox", "disk"} <= set(by)
    assert all(r["mend"] for r in rows if r["ok"] is False)
    assert "did-you-mean" in by["domains"]["detail"]


def test_demo_of_the_example_domain(rerank, tmp_path):
    done = rerank("demo", "--domain", "did-you-mean", "--out", tmp_path)
    rows = json.loads((tmp_path / "results.json").read_text())
    systems = {r["system"] for r in rows}
    assert systems == {"first stage", "default", "oracle"}
    value = {(r["system"], r["measure"]): r["value"] for r in rows}
    assert value["first stage", "MRR@10"] < value["default", "MRR@10"] <= value["oracle", "MRR@10"] == 1.0
    assert value["oracle", "GainRecovered"] == 1.0
    page = (tmp_path / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "did-you-mean" in done.stdout


def test_an_example_app_reranks_and_evaluates(example_env, tmp_path):
    from rerank_core.domain import PlainCodec
    from rerank_core.io import write_gold, write_requests

    sys.path.insert(0, example_env["PYTHONPATH"])
    try:
        from did_you_mean import sample
    finally:
        sys.path.pop(0)
    data = sample()
    write_requests(tmp_path / "r.jsonl", data.requests, PlainCodec())
    write_gold(tmp_path / "g.jsonl", data.gold)
    script = [sys.executable, example_env["PYTHONPATH"] + "/did_you_mean.py"]

    def run(*args):
        return subprocess.run([*script, *map(str, args)], env=example_env, capture_output=True, text=True, check=True)

    run("rerank", tmp_path / "r.jsonl", "-o", tmp_path / "o.jsonl")
    rows = json.loads(
        run(
            "eval", tmp_path / "o.jsonl", "--gold", tmp_path / "g.jsonl", "--requests", tmp_path / "r.jsonl", "--json"
        ).stdout
    )
    assert next(r["value"] for r in rows if r["measure"] == "MRR@10") > 0.97
    names = [m["name"] for m in json.loads(run("methods", "--json").stdout)]
    assert names[:2] == ["default", "alignment"]
    run("rerank", tmp_path / "r.jsonl", "-o", tmp_path / "o.parquet")
    assert list((tmp_path / "o.parquet").glob("*.parquet"))


def test_help_does_not_import_heavy_things(example_env):
    code = (
        "import sys; sys.argv = ['rerank', '--help']; from rerank_core.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'scipy', 'pandas', 'numpy') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=example_env, check=True
    ).stdout
    assert "torch" not in out.splitlines()[-1]
    assert "scipy" not in out.splitlines()[-1]


def test_ctrl_c_says_what_to_do(example_env, tmp_path):
    code = (
        "import typer; from rerank_core.cli import new_app, run\n"
        "app = new_app('x')\n"
        "@app.command()\n"
        "def go() -> None:\n"
        "    raise KeyboardInterrupt\n"
        "run(app, [])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=example_env, check=False)
    assert done.returncode == 130
    assert "the same command goes on from there" in done.stderr


@pytest.mark.parametrize(("given", "asked", "wanted"), [("1", 0, "1"), ("3", 0, "3"), ("3", 2, "2")])
def test_every_numeric_library_gets_the_same_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, given: str, asked: int, wanted: str
) -> None:
    from rerank_core.command import set_threads

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    for name in names[1:]:
        monkeypatch.setenv(name, "9")  # so that it is put back as it was
        monkeypatch.delenv(name)
    monkeypatch.setenv(names[0], given)
    assert set_threads(asked) == int(wanted)
    assert [os.environ[n] for n in names] == [wanted] * 3

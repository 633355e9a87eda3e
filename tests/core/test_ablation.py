from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rerank_core.ablation.inputs import limited
from rerank_core.ablation.page import drop_rows
from rerank_core.ablation.suites import read_suite
from rerank_core.errors import InputError
from rerank_core.types import Candidate, Dataset, Request

SUITE = """
name: small
title: A test.
seeds: [0, 1]
experiments:
  - domains: [did-you-mean]
    requests: 40
    methods: [default, {name: alignment}]
    fuse: [rrf, learned]
    budgets: [{}, {seconds: 0}]
"""


def test_requests_are_drawn_by_whole_groups_or_one_by_one():
    requests = [Request(f"{g}{i}", "q", (Candidate("a", 1), Candidate("b", 2)), g) for g in "xyz" for i in range(5)]
    data = Dataset(requests, {r.id: {"b": 1.0} for r in requests if not r.id.endswith("0")})
    whole = limited(data, 3, None, seed=0).requests
    assert len(whole) == 5 and len({r.group for r in whole}) == 1
    single = limited(data, 6, 1, seed=0, whole_groups=False)
    assert len(single.requests) == 6 == len(single.gold) and len({r.group for r in single.requests}) > 1
    assert all(r.ids == ["a"] for r in single.requests)


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def finished(rerank, tmp_path_factory):
    """Return the suite's file, its finished results and what the command said."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "suite.yaml").write_text(SUITE)
    done = rerank("ablate", folder / "suite.yaml", "-o", folder / "out", "--json")
    return folder / "suite.yaml", folder / "out", done


def test_cells_run_once_and_results_come_in_every_form(rerank, finished):
    suite, out, first = finished
    assert "16 cells, 16 run now, 0 failed" in first.stderr
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["system"] for r in rows} >= {
        "first stage",
        "oracle",
        "default",
        "rrf",
        "learned",
        "default [seconds <= 0]",
    }
    spent = [r for r in rows if r["system"] == "default [seconds <= 0]" and r["measure"] == "MRR@10"]
    base = [r for r in rows if r["system"] == "first stage" and r["measure"] == "MRR@10"]
    assert [r["value"] for r in spent] == [r["value"] for r in base], "nothing to spend leaves the first stage"
    again = rerank("ablate", suite, "-o", out)
    assert "16 cells, 0 run now" in again.stderr
    import pyarrow.parquet as pq

    assert pq.read_table(out / "results.parquet").num_rows == len(rows)
    runs = [r["run"] for r in rows if r["run"]]
    assert all((out / r).exists() for r in runs)
    shown = json.loads(first.stdout)
    assert all({"system", "measure", "value", "n", "ci_low", "ci_high", "domain"} <= set(r) for r in shown)


def test_a_changed_suite_runs_only_what_is_new(rerank, finished, suite, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished[1], out)
    suite.write_text(SUITE.replace("[rrf, learned]", "[rrf, learned, borda]"))
    assert "20 cells, 4 run now" in rerank("ablate", suite, "-o", out).stderr


def test_a_failing_cell_is_a_row_with_a_reason_and_the_rest_goes_on(rerank, suite, tmp_path):
    suite.write_text(SUITE.replace("{name: alignment}", "{name: alignment, set: {wow: [1]}}, nonsense"))
    out = tmp_path / "out"
    done = rerank("ablate", suite, "-o", out, code=1)
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    reasons = {r["reason"] for r in rows if r["status"] == "failed"}
    assert any("unknown setting 'wow'" in r for r in reasons)
    assert any("no method 'nonsense'" in r for r in reasons)
    assert any(r["system"] == "default" and r["status"] == "done" for r in rows)
    assert "failed" in done.stderr


def test_kill_9_then_again_equals_an_undisturbed_run(suite, finished, tmp_path, rerank, example_env):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "rerank_core.cli", "ablate", str(suite), "-o", str(out)],
        env=example_env,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 90
    while len(list(out.glob("cells/*.json"))) < 3 and time.time() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(out.glob("cells/*.json")))
    assert 3 <= done < 16
    assert f"{16 - done} run now" in rerank("ablate", suite, "-o", out).stderr
    for run in sorted(p.name for p in (finished[1] / "runs").iterdir()):
        assert (out / "runs" / run).read_bytes() == (finished[1] / "runs" / run).read_bytes()


def test_the_report_shows_every_system_and_where_figures_come_from(rerank, finished, tmp_path):
    rerank("report", finished[1], "-o", tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    for text in ("default", "learned", "oracle", "Where these figures come from", "seed 1", "<svg"):
        assert text in page
    addresses = set(re.findall(r"https?://[^\"' <]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, (
        "names of vocabularies, not loads"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [", "not YAML"),
        ("- a", "a mapping"),
        ("name: x", "experiments: Field required"),
        ("name: x\nexperiments: []", "experiments: List should have at least 1 item"),
        ("name: x\nexperiments: [{wow: 1}]", "experiments.0.wow: Extra inputs"),
        ("name: x\nexperiments: [{fuse: [wow]}]", "unknown fusion 'wow'"),
        ("name: x\nmeasures: [wow]\nexperiments: [{}]", "unknown measure 'wow'"),
        ("name: x\nexperiments: [{budgets: [{calls: -1}]}]", "greater than or equal to 0"),
    ],
)
def test_a_bad_suite_names_the_field(tmp_path, text, message):
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises((InputError, Exception)) as error:
        read_suite(path)
    assert isinstance(error.value, InputError) or "measure" in message
    assert message in str(error.value)


def test_the_suites_that_ship_are_valid():
    from pathlib import Path

    suites = sorted((Path(__file__).resolve().parents[2] / "shared" / "ablations").glob("*.yaml"))
    assert {p.stem for p in suites} >= {"quick", "judges", "calibration", "fusion", "budget", "novelty", "apps"}
    assert all(read_suite(p).name == p.stem for p in suites)


def test_drops_are_pooled_by_side_with_an_interval():
    def cell(data, values, system="s"):
        return {
            "status": "done",
            "rows": [{"system": system, "data": data}],
            "main": {"measure": "nDCG@10", "values": dict(enumerate(values))},
        }

    rows = drop_rows(
        [cell("old1", [1, 1, 1]), cell("old2", [0, 1, 1]), cell("fresh", [0, 0, 1])], ["old1", "old2"], ["fresh"]
    )
    drop = next(r for r in rows if r["measure"] == "drop")
    assert drop["value"] == pytest.approx(5 / 6 - 1 / 3)
    assert drop["ci_low"] < drop["value"] < drop["ci_high"]
    assert drop["n"] == 9
    assert drop_rows([], [], []) == []

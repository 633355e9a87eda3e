"""The command, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rerank_core.cli import run as run_app
from rerank_summary.cli import app

Find = Callable[[str], Path]
Run = Callable[..., "Done"]


class Done:
    """What a command printed."""

    def __init__(self, stdout: str, stderr: str) -> None:
        self.stdout, self.stderr = stdout, stderr


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run the command in this process (the start of Python would cost more than the work); check its exit code."""

    def call(*args: object, ok: int = 0) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            run_app(app, [str(a) for a in args])
        out = capsys.readouterr()
        assert exit_.value.code == ok, out.err
        return Done(out.out, out.err)

    return call


def rows(done: Done) -> dict[tuple[str, str], dict]:
    return {(r["system"], r["measure"]): r for r in json.loads(done.stdout)}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.jsonl"
    lines = []
    for k, animal in enumerate(["cat", "dog", "bird", "fox", "owl", "cow"]):
        lines.append(
            {
                "id": f"d{k}",
                "source": f"The {animal} sat on the mat. It ran away when it rained. Nobody saw the {animal} again.",
                "reference": f"The {animal} ran away.",
                "candidates": [
                    {"id": "lead", "text": f"The {animal} sat on the mat.", "human": {"relevance": 3}},
                    {"id": "good", "text": f"The {animal} ran away when it rained.", "human": {"relevance": 5}},
                    {"id": "wrong", "text": "A train was late in Leeds.", "human": {"relevance": 1}},
                ],
            }
        )
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return path


@pytest.mark.parametrize(
    "method", ["first", "longest", "lead", "lexrank", "mbr-rouge1", "mbr-mean", "learned", "default"]
)
def test_rerank_then_eval(run: Run, method: str, small: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    run("rerank", small, "--method", method, "-o", out, "--explain")
    rankings = [json.loads(x) for x in out.read_text().splitlines()]
    assert len(rankings) == 6 and all(len(r["ranking"]) == 3 for r in rankings)
    if method != "first":
        assert all(x["reason"] for r in rankings for x in r["ranking"])
    done = run("eval", out, "--data", small, "--json")
    found = rows(done)
    for measure in ("rouge1", "rouge2", "rougeL", "rougeLsum", "human_mean", "human_relevance", "kendall_tau"):
        row = found["out", measure]
        assert row["n"] == 6 and row["ci_low"] <= row["value"] <= row["ci_high"]
    assert found["out", "rouge1"]["flavour"] == "rouge-score"
    assert found["oracle", "human_mean"]["value"] == 5
    assert "lowest input index" in done.stderr and "depends on the target" in done.stderr


def test_human_scores_and_references_do_not_change_a_ranking(run: Run, small: Path, tmp_path: Path) -> None:
    blind = tmp_path / "blind.jsonl"
    with blind.open("w") as file:
        for line in small.read_text().splitlines():
            value = json.loads(line)
            value.pop("reference")
            value["candidates"] = [{k: v for k, v in c.items() if k != "human"} for c in value["candidates"]]
            file.write(json.dumps(value) + "\n")
    for path in (small, blind):
        run("rerank", path, "-o", tmp_path / f"{path.stem}.out")
    assert (tmp_path / "small.out").read_bytes() == (tmp_path / "blind.out").read_bytes()


def test_several_systems_trec_and_best_texts(run: Run, small: Path, tmp_path: Path) -> None:
    run("rerank", small, "--method", "longest", "-o", tmp_path / "a.jsonl", "--best", tmp_path / "best.txt")
    run("rerank", small, "--method", "lead", "-o", tmp_path / "b.trec")
    assert len((tmp_path / "b.trec").read_text().splitlines()) == 18
    assert len((tmp_path / "best.txt").read_text().splitlines()) == 6
    run("rerank", small, "--method", "first", "--run", tmp_path / "b.trec", "-o", tmp_path / "c.jsonl")
    found = rows(run("eval", tmp_path / "a.jsonl", tmp_path / "c.jsonl", "--data", small, "--json"))
    assert {"a", "c"} <= {system for system, _ in found}


def test_rouge_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "h.txt").write_text("the cat sat\nrunning dogs\n")
    (tmp_path / "r.txt").write_text("the cat sat\nrun dog\n")
    found = rows(
        run(
            "rouge",
            "--hypotheses",
            tmp_path / "h.txt",
            "--references",
            tmp_path / "r.txt",
            "--flavour",
            "rouge-score",
            "--json",
        )
    )
    assert found["h.txt", "rouge1"]["value"] == 100 and found["h.txt", "rouge1"]["flavour"] == "rouge-score"
    plain = ("--flavour", "rouge-score-nostem", "--json")
    found = rows(run("rouge", "--hypotheses", tmp_path / "h.txt", "--references", tmp_path / "r.txt", *plain))
    assert found["h.txt", "rouge1"]["value"] == 50
    (tmp_path / "r.txt").write_text("one\n")
    assert (
        "1 references but 2 hypotheses"
        in run("rouge", "--hypotheses", tmp_path / "h.txt", "--references", tmp_path / "r.txt", ok=2).stderr
    )


@pytest.mark.slow
def test_fit_generate_train_and_convert(run: Run, small: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.json.gz"
    done = run("fit", small, "-o", model, "--target", "rouge1=1", "--folds", 2, "--json")
    assert ("learned (out of fold)", "rouge1") in rows(done)
    run("rerank", small, "--method", "learned", "--set", f"model={model}", "-o", tmp_path / "l.jsonl")
    generated = tmp_path / "g.jsonl"
    report = json.loads(run("generate", small, "-o", generated, "--beams", 4, "--json").stdout)
    assert report["documents"] == 6 and report["adherence_f1"] == 1 and report["unique_plans"] == 1
    assert 0 <= report["diversity"] <= 1 and report["rouge1_max"] >= report["rouge1_mean"]
    run("rerank", generated, "-o", tmp_path / "g.out")
    run("train", "experts", small, "-o", tmp_path / "experts", "--set", "epochs=2")
    run("rerank", small, "--method", "experts", "--set", f"model={tmp_path / 'experts'}", "-o", tmp_path / "e.jsonl")
    assert "exists already" in run("train", "experts", small, "-o", tmp_path / "experts", ok=2).stderr
    run("convert", small, "-o", tmp_path / "again.jsonl")
    assert len((tmp_path / "again.jsonl").read_text().splitlines()) == 6


def test_audit_and_its_exit_code(run: Run, small: Path, tmp_path: Path) -> None:
    leaky = tmp_path / "leaky.jsonl"
    leaky.write_text(small.read_text().replace('ran away when it rained.", "human', 'ran away.", "human'))
    assert "reference-among-candidates" in run("audit", leaky).stdout
    run("audit", leaky, "--strict", ok=1)
    assert any(f["kind"] for f in json.loads(run("audit", small, "--json").stdout))


LINE = {"id": "a", "source": "s", "reference": "r", "candidates": [{"id": "x", "text": "t"}, {"id": "y", "text": "u"}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidates": []}, "has no candidates"),
        ({"candidates": [{"id": "x", "text": "1"}, {"id": "x", "text": "2"}]}, "'x' occurs twice"),
        ({"candidates": [{"id": "x", "text": None}]}, "'text' must be text"),
    ],
)
def test_bad_files_give_one_line_and_leave_nothing_behind(run: Run, change: dict, message: str, tmp_path: Path) -> None:
    path, out = tmp_path / "f.jsonl", tmp_path / "out.jsonl"
    path.write_text(json.dumps({**LINE, **change}) + "\n")
    done = run("rerank", path, "--method", "mbr-rouge1", "-o", out, ok=2)
    assert message in done.stderr and f"{path}:1:" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr
    assert not out.exists()


def test_other_bad_input(run: Run, tmp_path: Path) -> None:
    path, out = tmp_path / "f.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(b'{"id": "a", "candidates": ["\xff\xfe"]}\n')
    assert "invalid UTF-8" in run("rerank", path, "-o", out, ok=2).stderr
    path.write_text(json.dumps(LINE) + "\n")
    assert "no method 'best'" in run("rerank", path, "--method", "best", "-o", out, ok=2).stderr
    assert "needs a seq2seq model" in run("rerank", path, "--method", "brio", "-o", out, ok=2).stderr
    assert "needs an NLI model" in run("rerank", path, "--method", "nli", "-o", out, ok=2).stderr
    run("rerank", path, "--method", "mbr-rouge1", "-o", out)
    bare = {**LINE, "reference": None}
    path.write_text(json.dumps(bare) + "\n")
    assert "neither a reference nor human scores" in run("eval", out, "--data", path, "--json", ok=2).stderr
    scored = [{"id": i, "text": "t", "human": {"c": float("nan")}} for i in "xy"]
    path.write_text(json.dumps({**LINE, "candidates": scored}) + "\n")
    assert "finite number was expected" in run("eval", out, "--data", path, "--json", ok=2).stderr
    assert "cannot be read" in run("audit", tmp_path / "absent.jsonl", ok=2).stderr


def test_odd_but_legal_lists_work(run: Run, tmp_path: Path) -> None:
    lists = [
        {**LINE, "id": "one", "candidates": ["only"]},
        {**LINE, "id": "empty", "candidates": ["", "text"]},
        {**LINE, "id": "same", "candidates": ["r", "r"]},
        {**LINE, "id": "long", "candidates": ["word and " * 5000, "short"]},
        {"id": "bare", "candidates": ["a", "b"]},
    ]
    path, out = tmp_path / "f.jsonl", tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(x) + "\n" for x in lists))
    run("rerank", path, "-o", out)
    assert [json.loads(x)["id"] for x in out.read_text().splitlines()] == ["one", "empty", "same", "long", "bare"]


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['rerank-summary', '--help']\n"
        "from rerank_summary.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "import rerank_summary.domain\n"
        "heavy = {'torch', 'transformers', 'lightgbm', 'pandas', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in ("rerank", "eval", "rouge", "fit", "generate", "judge", "audit", "demo"):
        assert command in done.stdout


@pytest.mark.shared_data
def test_judge_command(run: Run, shared_data: Find, tmp_path: Path) -> None:
    done = run(
        "judge", shared_data("summary/faireval/fastchat_reviews.jsonl.gz"), "--human",
        shared_data("summary/faireval/vicuna80.jsonl.gz"), "--json", "--doubtful", tmp_path / "d.jsonl",
    )  # fmt: skip
    accuracy = next(r for r in json.loads(done.stdout) if r["measure"] == "accuracy")
    assert accuracy["value"] == 0.4875 and accuracy["reading"] == "first-line"
    assert "second position preferred 10:0 (binomial p=.002)" in done.stderr
    assert (tmp_path / "d.jsonl").exists()
    assert (
        "--pair"
        in run(
            "judge", "--questions", shared_data("summary/faireval/vicuna80.jsonl.gz"), "-o", tmp_path / "x", ok=2
        ).stderr
    )


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
@pytest.mark.shared_data
def test_memory_of_a_thousand_documents(shared_data: Find, tmp_path: Path) -> None:
    from dataclasses import replace

    from rerank_summary.data import read_records, write_records

    base = list(read_records(shared_data("summary/summeval/summeval.jsonl.gz")))
    many = (replace(r, request=replace(r.request, id=f"{k}-{r.id}")) for k in range(10) for r in base)
    path = tmp_path / "many.jsonl.gz"
    write_records(path, many)
    code = (
        "import sys\nfrom pathlib import Path\nfrom rerank_summary.cli import main\n"
        f"sys.argv = ['x', 'rerank', {str(path)!r}, '--method', 'mbr-mean', '-o', {str(tmp_path / 'o')!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        # not ru_maxrss, which a child inherits from the process that started it
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert int(done.stdout) < 400
    assert len((tmp_path / "o").read_text().splitlines()) == 1000

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from rerank_core.cli import run
from rerank_peptide.cli import app


def call(*args: object) -> int:
    with pytest.raises(SystemExit) as done:
        run(app, [str(a) for a in args])
    return int(done.value.code or 0)


def rows(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    return {r["measure"]: r for r in json.loads(capsys.readouterr().out)}


@pytest.mark.parametrize("method", ["default", "features", "axial", "score", "votes", "mass", "mass-score", "hand"])
def test_rerank_and_eval_with_every_method(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    out = tmp_path / f"{method}.mztab"
    assert (
        call("rerank", files["spectra"], "--candidates", f"graph={files['candidates']}", "--method", method, "-o", out)
        == 0
    )
    capsys.readouterr()
    assert call("eval", out, "--gold", files["spectra"], "--json") == 0
    got = rows(capsys)
    assert {"peptide_recall", "aa_precision", "aa_recall", "auc", "oracle@20", "ECE"} <= set(got)
    # Every labelled spectrum's list holds its peptide: the oracle of a permutation is 1 whatever the method did.
    assert got["oracle@20"]["value"] == 1.0
    assert (
        0 <= got["peptide_recall"]["ci_low"] <= got["peptide_recall"]["value"] <= got["peptide_recall"]["ci_high"] <= 1
    )
    if method in ("default", "features"):
        assert got["peptide_recall"]["value"] >= 0.5 and got["ECE"]["value"] is not None
    assert not list(tmp_path.glob("*.parts"))


def test_written_mztab_is_read_by_pyteomics_and_by_us(files: dict[str, Path], tmp_path: Path) -> None:
    from pyteomics import mztab

    from rerank_peptide.masses import parse_peptide
    from rerank_peptide.mztab import read_predictions
    from rerank_peptide.tables import read_candidates

    out = tmp_path / "r.mztab"
    assert call("rerank", files["spectra"], "-c", f"graph={files['candidates']}", "-o", out) == 0
    table = mztab.MzTab(str(out)).spectrum_match_table
    predictions = read_predictions(out)
    assert len(table) == sum(map(len, predictions.values())) == len(read_candidates(out, "x").hits)
    for row in table.to_dict("records"):
        tokens = parse_peptide(row["opt_global_cv_MS:1003169_proforma_peptidoform_sequence"])
        assert "".join(t[0] for t in tokens if t[0].isalpha()) == row["sequence"]
        # Within the engine's precursor tolerance, isotope offset 0 or 1.
        assert abs(row["calc_mass_to_charge"] - row["exp_mass_to_charge"]) < 0.6
    tops = [p[0] for p in predictions.values()]
    ordered = sorted(tops, key=lambda p: -(p.probability or 0))
    q = table[table["opt_global_rank"].astype(int) == 1].set_index("PSM_ID")["opt_global_q_value"].astype(float)
    assert (q >= 0).all() and (q <= 1).all() and ordered[0].probability is not None
    pairs = sorted(
        zip(table[table["opt_global_rank"].astype(int) == 1]["search_engine_score[1]"].astype(float), q, strict=True),
        reverse=True,
    )
    assert all(a[1] <= b[1] + 1e-9 for a, b in pairwise(pairs)), "q-values rise as probability falls"


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_other_outputs(files: dict[str, Path], tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"r.{suffix}"
    assert (
        call(
            "rerank",
            files["spectra"],
            "-c",
            f"graph={files['candidates']}",
            "--method",
            "hand",
            "--top-match",
            "2",
            "-o",
            out,
        )
        == 0
    )
    assert out.read_text().count("\n") > 16


def test_candidates_then_rerank_without_files(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        call(
            "candidates", files["spectra"], "--engine", "graph", "--top", "5", "--expand", "3", "-o", tmp_path / "c.csv"
        )
        == 0
    )
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == "spectrum_index,title,rank,sequence,score,engine" and len(lines) > 16


def test_result_says_which_engines_proposed_and_which_residues_are_doubtful(
    files: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "r.jsonl"
    call("rerank", files["spectra"], "-c", f"one={files['candidates']}", "--method", "axial", "-o", out)
    first = json.loads(out.read_text().splitlines()[0])
    assert first["proposed_by"] == "graph"  # the file's own engine column
    assert len(first["aa_scores"]) == len(first["rmd"]) > 0


def test_plots(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "r.mztab"
    call("rerank", files["spectra"], "-c", f"graph={files['candidates']}", "--method", "score", "-o", out)
    assert call("plot", out, "--spectra", files["spectra"], "-o", tmp_path / "plots", "--index", "0") == 0
    assert "<svg" in (tmp_path / "plots" / "spectrum-0.svg").read_text()
    page = (tmp_path / "plots" / "index.html").read_text()
    assert "color:" in page and "data:image/svg+xml;base64," in page and "src='spectrum" not in page
    assert call("plot", out, "--spectra", files["spectra"], "-o", tmp_path / "plots", "--index", "9999") == 2


def test_simulate(tmp_path: Path) -> None:
    from rerank_peptide.proteins import TEXTBOOK
    from rerank_peptide.spectra import read_spectra

    (tmp_path / "p.fasta").write_text(
        "".join(f">{n.split(',')[0].replace(' ', '_')}\n{s}\n" for n, s in TEXTBOOK.items())
    )
    assert call("simulate", tmp_path / "p.fasta", "-n", "30", "-o", tmp_path / "s.mgf.gz") == 0
    file = read_spectra(tmp_path / "s.mgf.gz")
    assert len(file.spectra) == len(file.labels) == 30
    (tmp_path / "empty.fasta").write_text("")
    assert call("simulate", tmp_path / "empty.fasta", "-n", "3", "-o", tmp_path / "e.mgf") == 2
    assert not (tmp_path / "e.mgf").exists()


def test_bad_usage_is_one_line_and_writes_nothing(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, cands = files["spectra"], f"graph={files['candidates']}"
    out = tmp_path / "o.mztab"
    (tmp_path / "empty.csv").write_text("title,sequence\n")
    (tmp_path / "cfg.yaml").write_text("task: axial\nwonder: 1\n")
    for args in (
        ("rerank", tmp_path / "no.mgf", "-c", cands, "-o", out),
        ("rerank", good, "-c", "nofile", "-o", out),
        ("rerank", good, "-c", f"a={tmp_path / 'absent.csv'}", "-o", out),
        ("rerank", good, "-c", f"a={tmp_path / 'empty.csv'}", "-o", out),
        ("rerank", good, "-c", cands, "--method", "wonder", "-o", out),
        ("rerank", good, "-c", cands, "-o", tmp_path / "o.xyz"),
        ("rerank", good, "-c", cands, "-c", cands, "-o", out),
        ("rerank", good, "-c", cands, "-s", "model=/no/such/folder", "-o", out),
        ("candidates", good, "--engine", "wonder", "-o", tmp_path / "o.csv"),
        ("candidates", good, "--engine", "transformer", "-o", tmp_path / "o.csv"),
        ("eval", tmp_path / "no.mztab", "--gold", good),
        ("fit", tmp_path / "cfg.yaml", "-o", tmp_path / "m"),
        ("fit", tmp_path / "absent.yaml", "-o", tmp_path / "m"),
    ):
        capsys.readouterr()
        assert call(*args) == 2, args
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, (args, error)
    assert not out.exists() and not (tmp_path / "o.xyz").exists() and not (tmp_path / "o.csv").exists()


def test_interrupted_run_gives_the_same_bytes(files: dict[str, Path], tmp_path: Path) -> None:
    args = ("rerank", files["spectra"], "-c", f"graph={files['candidates']}", "--method", "features")
    call(*args, "-o", tmp_path / "a.mztab")
    call(*args, "-o", tmp_path / "b.mztab")
    assert (tmp_path / "a.mztab").read_bytes() == (tmp_path / "b.mztab").read_bytes()


def test_help_is_light() -> None:
    code = (
        "import sys; import rerank_peptide.cli, rerank_peptide.domain; "
        "print([m for m in ('torch', 'transformers', 'lightgbm', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

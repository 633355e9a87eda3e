from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rerank_core.errors import InputError
from rerank_peptide.data import join
from rerank_peptide.masses import mz, parse_peptide, to_casanovo
from rerank_peptide.spectra import Spectrum, SpectrumFile
from rerank_peptide.tables import read_candidates

SAMPLES = {
    "adanovo.mztab": ("AEEHANR", ("index", "0")),
    "casanovo.mztab": ("AEEHANR", ("index", "0")),
    "deepnovo.tab": ("EAEHAGGR", ("index", "0")),
    "instanovo_beams.csv": ("HQGVM+15.995VGM+15.995GQK", ("index", "0")),
    "pepnet.tsv": ("SLEHANR", ("title", "controllerType=0 controllerNumber=1 scan=0")),
    "pihelixnovo.tsv": ("AEEHANR", ("title", "controllerType=0 controllerNumber=1 scan=0")),
    "piprimenovo.tsv": ("AEEHANR", ("title", "controllerType=0 controllerNumber=1 scan=0")),
}


def spectrum(index: int, peptide: str, charge: int = 2, title: str | None = None) -> Spectrum:
    peaks = np.linspace(110, 800, 30)
    return Spectrum(index, title or f"t{index}", peaks, np.ones(30), mz(parse_peptide(peptide), charge), charge)


def spectra(*peptides: str) -> SpectrumFile:
    return SpectrumFile([spectrum(i, p) for i, p in enumerate(peptides)], path="s.mgf")


@pytest.mark.shared_data
@pytest.mark.parametrize("name", SAMPLES)
def test_every_engines_file(shared_data: Callable[[str], Path], name: str) -> None:
    file = read_candidates(shared_data(f"peptide/candidates/format_samples/{name}"), "engine")
    peptide, key = SAMPLES[name]
    assert to_casanovo(file.hits[0].tokens) == peptide and file.hits[0].key == key
    assert file.hits[0].score is not None and file.hits[0].rank == 1
    assert not file.skipped


@pytest.mark.shared_data
def test_fifty_thousand_rows_agree_with_the_unified_column(shared_data: Callable[[str], Path]) -> None:
    import pandas as pd

    path = shared_data("peptide/candidates/six_engines_9000_spectra.parquet")
    start = time.process_time()
    file = read_candidates(path, "x")
    seconds = time.process_time() - start
    print(f"{len(file.hits)} rows in {seconds:.1f} CPU s, skipped {dict(file.skipped)}")
    assert seconds <= 10
    wanted = pd.read_parquet(path).dropna(subset=["sequence"])
    raw = {(h.engine, h.key[1]): h.tokens for h in file.hits}
    for row in wanted.sample(2000, random_state=0).itertuples():
        assert raw[row.engine, str(row.spectrum_index)] == parse_peptide(row.sequence)


def test_generic_csv_by_title_and_by_index(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,sequence,score,rank\nt1,AEEHANR,0.5,1\n")
    (tmp_path / "b.tsv").write_text("spectrum_index\tpeptide\n1\tAEEHANR\n")
    for name in ("a.csv", "b.tsv"):
        joined = join(spectra("GGGGK", "AEEHANR"), [read_candidates(tmp_path / name, "e")])
        assert [len(r.candidates) for r in joined.requests] == [0, 1]
        assert any("1 of 2 spectra have no candidate (index 0)" in n for n in joined.notes)


def test_rows_that_are_no_peptide_are_counted_by_reason(tmp_path: Path) -> None:
    rows = [
        "t0,PEPTIDEK,1",
        "t0,PEBK,1",
        "t0,PEXK,1",
        "t0,,1",
        f"t0,{'G' * 120},1",
        "t0,M[Wonder]K,1",
        "t0,AAK,nan",
        "t0,AAR,inf",
    ]
    (tmp_path / "a.csv").write_text("title,sequence,score\n" + "\n".join(rows) + "\n")
    file = read_candidates(tmp_path / "a.csv", "e")
    assert [to_casanovo(h.tokens) for h in file.hits] == ["PEPTIDEK", "AAK", "AAR"]
    assert [h.score for h in file.hits] == [1.0, None, None]
    assert sum(file.skipped.values()) == 7
    assert all("\n" not in reason for reason in file.skipped)


def test_engines_agreeing_up_to_isoleucine_become_one_candidate(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,sequence,score\nt0,PEPTIDEK,0.9\nt0,EPPTIDEK,0.2\n")
    (tmp_path / "b.csv").write_text("title,sequence,score\nt0,PEPTLDEK,-3\n")
    files = [read_candidates(tmp_path / f"{n}.csv", n) for n in "ab"]
    (request,) = join(spectra("PEPTIDEK"), files).requests
    assert request.ids == ["PEPTIDEK", "EPPTIDEK"]
    assert {k for k in request.candidates[0].features if k.startswith("rank:")} == {"rank:a", "rank:b"}
    assert request.candidates[0].features["score:b"] == -3


def test_candidates_of_other_spectra_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("title,sequence\n" + "other,PEPTIDEK\n" * 3)
    with pytest.raises(InputError, match="names a spectrum"):
        join(spectra("PEPTIDEK"), [read_candidates(tmp_path / "a.csv", "e")])
    lines = "".join(f"{i},GGGGGGGGGK\n" for i in range(30))
    (tmp_path / "b.csv").write_text("spectrum_index,sequence\n" + lines)
    with pytest.raises(InputError, match="weigh"):
        join(spectra(*["WWWWWWWWK"] * 30), [read_candidates(tmp_path / "b.csv", "e")])


def test_repeated_titles_are_said_and_not_guessed(tmp_path: Path) -> None:
    twins = SpectrumFile(
        [spectrum(i, "PEPTIDEK", title="same") for i in (0, 1)] + [spectrum(2, "AEEHANR")], path="s.mgf"
    )
    (tmp_path / "a.csv").write_text("title,sequence\nsame,PEPTIDEK\nt2,AEEHANR\n")
    joined = join(twins, [read_candidates(tmp_path / "a.csv", "e")])
    assert [len(r.candidates) for r in joined.requests] == [0, 0, 1]
    assert any("repeat an earlier title" in n for n in joined.notes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "empty"),
        ("a.csv", "foo,bar\n1,2\n", "needed"),
        ("a.csv", "title,sequence\nt,A,B\n", "columns"),
        ("a.mztab", "MTD\tx\ty\n", "no PSH"),
        ("a.mztab", "PSH\tsequence\tspectra_ref\nPSM\tAAK\tnull\n", "names no index"),
        ("a.mztab", "PSH\tsequence\tspectra_ref\nPSM\tnull\tms_run[1]:index=0\n", "no usable candidate"),
        ("a.parquet", "x", "Parquet"),
        ("a.xlsx", "x", "unknown candidate format"),
    ],
)
def test_bad_files_give_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_candidates(tmp_path / name, "e")
    assert "\n" not in str(error.value)


def test_casanovo_five_proforma_and_plain_with_modifications(tmp_path: Path) -> None:
    columns = "sequence modifications search_engine_score[1] spectra_ref"
    proforma = "opt_global_cv_MS:1003169_proforma_peptidoform_sequence"
    head = "\t".join(["PSH", *columns.split(), proforma]) + "\n"
    (tmp_path / "a.mztab").write_text(
        head
        + "PSM\tMAK\tnull\t0.9\tms_run[1]:index=0\t[Acetyl]-M[Oxidation]AK\n"
        + "PSM\tMAK\t0-CHEMMOD:+42.011,1-UNIMOD:35\t0.8\tms_run[1]:index=1\tnull\n"
        + "PSM\t+42.011M+15.995AK\tnull\t0.7\tms_run[1]:index=2\tnull\n"
    )
    assert {h.tokens for h in read_candidates(tmp_path / "a.mztab", "c").hits} == {("+42.011", "M+15.995", "A", "K")}

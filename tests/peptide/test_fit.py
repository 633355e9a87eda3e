from __future__ import annotations

from pathlib import Path

import pytest

from rerank_core.errors import InputError
from rerank_peptide.axial_rerank import AxialRanker
from rerank_peptide.config import AblateConfig, FitConfig, read_config
from rerank_peptide.fit import fit
from rerank_peptide.lists import examples, split_proteins
from rerank_peptide.proteins import TEXTBOOK


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "p.fasta"
    path.write_text("".join(f">p{i}\n{s}\n" for i, s in enumerate(TEXTBOOK.values())))
    return path


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_features_fit_and_rerank_with_the_result(tmp_path: Path, fasta: Path, files: dict[str, Path]) -> None:
    from rerank_peptide.domain import domain

    path = config(
        tmp_path,
        "task: features\nsimulated: {proteins: p.fasta, n: 24}\nlists: [graph, mutated]\ntrees: 10\nfolds: 2\n",
    )
    fit(path, tmp_path / "m")
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"model.txt", "ranker.json", "calibration.json", "fit.json"}
    reranker = domain.method("features", {"model": str(tmp_path / "m")})
    assert reranker.fingerprint() != domain.method("features").fingerprint()


@pytest.mark.slow
def test_axial_training_resumes_to_the_same_weights(tmp_path: Path, fasta: Path) -> None:
    text = (
        "task: axial\nsimulated: {proteins: p.fasta, n: 12}\ndim: 32\nheads: 4\nfeedforward: 32\nencoder_layers: 1\n"
        "decoder_layers: 1\nmax_peaks: 20\nrows: 4\nbatch_size: 4\ncheckpoint_every: 3\nseed: 5\nsteps: {steps}\n"
    )
    whole = config(tmp_path, text.replace("{steps}", "6"))
    fit(whole, tmp_path / "a")
    first = read_config(whole, FitConfig)
    # Interrupt after the first checkpoint, then go on.
    from rerank_peptide import axial_fit

    class Stop(Exception):
        pass

    original = axial_fit._checkpoint

    def stop(*args: object) -> None:
        original(*args)  # type: ignore[arg-type]
        raise Stop

    axial_fit._checkpoint = stop  # type: ignore[assignment]
    try:
        with pytest.raises(Stop):
            fit(whole, tmp_path / "b")
    finally:
        axial_fit._checkpoint = original
    fit(whole, tmp_path / "b")
    assert first.steps == 6
    assert AxialRanker(str(tmp_path / "a")).fingerprint() == AxialRanker(str(tmp_path / "b")).fingerprint()


@pytest.mark.slow
def test_transformer_fits_and_sequences(tmp_path: Path, fasta: Path, files: dict[str, Path]) -> None:
    from rerank_peptide.engines.transformer import candidates
    from rerank_peptide.masses import peptide_mass
    from rerank_peptide.spectra import read_spectra

    path = config(
        tmp_path,
        "task: transformer\nsimulated: {proteins: p.fasta, n: 20}\ndim: 32\nlayers: 1\nmax_peaks: 20\nsteps: 4\nbatch_size: 4\n",
    )
    fit(path, tmp_path / "t")
    spectra = read_spectra(files["spectra"]).spectra[:2]
    for spectrum, hits in zip(spectra, candidates(spectra, 3, str(tmp_path / "t")), strict=True):
        assert len(hits) <= 3
        for tokens, _ in hits:
            off = abs(spectrum.mass - peptide_mass(tokens))
            assert min(off, abs(off - 1.00335)) < 0.1


def test_proteins_are_split_and_examples_carry_their_group(tmp_path: Path, fasta: Path) -> None:
    train, held = split_proteins(list(TEXTBOOK.items()), 0.3)
    assert not {n for n, _ in train} & {n for n, _ in held} and len(held) == 3
    path = config(tmp_path, "task: features\nsimulated: {proteins: p.fasta, n: 6, holdout: 0.3}\n")
    settings = read_config(path, FitConfig)
    a, b = examples(settings, ("mutated",)), examples(settings, ("mutated",), test=True)
    assert not {e.group for e in a} & {e.group for e in b}
    assert all(e.gains().max() == 1 for e in a)


@pytest.mark.slow
def test_ablation_table(tmp_path: Path, fasta: Path) -> None:
    from rerank_peptide.ablate import ablate

    path = config(
        tmp_path, "simulated: {proteins: p.fasta, n: 30}\nmethods: [score, hand, features]\nk: [1, 5]\nfolds: 2\n"
    )
    rows = {r["row"]: r for r in ablate(path, tmp_path / "o")}
    assert rows["features, K=1"]["peptide_recall"] == rows["score"]["peptide_recall"]
    assert all(rows["oracle"]["peptide_recall"] >= r["peptide_recall"] for r in rows.values())
    assert (tmp_path / "o" / "ablation.csv").read_text().startswith("row,n,peptide_recall")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "no YAML"),
        ("task: wonder", "task"),
        ("task: features\ntrees: 0\n", "trees"),
        ("task: axial\ndim: x\n", "dim"),
    ],
)
def test_bad_configurations_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_config(config(tmp_path, text), FitConfig)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError):
        read_config(config(tmp_path, "wonder: 1"), AblateConfig)

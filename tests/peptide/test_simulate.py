from __future__ import annotations

import time

import numpy as np
import pytest

from rerank_peptide.intensity import encode, ms2pip_intensities, packaged
from rerank_peptide.masses import parse_peptide, residue_masses
from rerank_peptide.pipeline import residue_support
from rerank_peptide.proteins import TEXTBOOK, digest
from rerank_peptide.simulate import COVERAGE, EXPLAINED, PEAKS, simulate, simulate_proteome


@pytest.fixture(scope="module")
def peptides() -> list[str]:
    return [p for p, _ in digest(TEXTBOOK.items())]


def test_same_seed_same_spectra(peptides: list[str]) -> None:
    a, b, c = (simulate(peptides[:5], seed=s)[0] for s in (1, 1, 2))
    assert all(
        np.array_equal(x.mz, y.mz) and np.array_equal(x.intensity, y.intensity) for x, y in zip(a, b, strict=True)
    )
    assert not np.array_equal(a[0].mz, c[0].mz)


def test_spectra_hold_their_peptides(peptides: list[str]) -> None:
    spectra, labels = simulate(peptides, seed=0)
    support = [np.mean(residue_support(s, parse_peptide(labels[s.id]))) for s in spectra]
    assert np.mean(support) > 0.75
    for s in spectra:
        assert (np.diff(s.mz) > 0).all() and (s.intensity > 0).all() and s.charge >= 2


def test_marginals_follow_the_measured_deciles(peptides: list[str]) -> None:
    from rerank_peptide.features import BASE_NAMES, spectrum_features

    spectra, labels = simulate(peptides * 4, seed=3)
    rows = np.array([spectrum_features(s, [parse_peptide(labels[s.id])])[0] for s in spectra])

    def distance(values: np.ndarray, deciles: np.ndarray) -> float:
        grid = np.sort(values)
        expected = np.interp(grid, deciles, np.linspace(0, 1, 11))
        return float(np.abs(np.arange(1, grid.size + 1) / grid.size - expected).max())

    assert distance(rows[:, BASE_NAMES.index("coverage")], COVERAGE + np.linspace(0, 1e-6, 11)) <= 0.15
    assert distance(rows[:, BASE_NAMES.index("explained")], EXPLAINED) <= 0.15
    assert distance(np.array([s.mz.size for s in spectra]), PEAKS) <= 0.15


def test_speed(peptides: list[str]) -> None:
    simulate(peptides[:3])
    start = time.process_time()
    spectra, _ = simulate(peptides)
    assert len(spectra) / (time.process_time() - start) >= 100


def test_a_proteome_is_cut_into_groups_of_proteins() -> None:
    (batch,) = list(simulate_proteome(list(TEXTBOOK.items()), 20, seed=0))
    assert len(batch[0]) == len(batch[2]) == 20 and set(batch[2]) <= set(TEXTBOOK)


def test_network_agrees_with_ms2pip(peptides: list[str]) -> None:
    pytest.importorskip("ms2pip", reason="extra ms2pip is not installed")
    tokens = [parse_peptide(p) for p in peptides[:60]]
    exact = ms2pip_intensities(tokens, [2] * len(tokens))
    ours = packaged()([encode(t) for t in tokens], [2] * len(tokens))
    r = []
    for e, o in zip(exact, ours, strict=True):
        assert e is not None and e.shape == o.shape
        r.append(np.corrcoef(np.log2(e[:, :2] + 1e-3).ravel(), np.log2(o[:, :2] + 1e-3).ravel())[0, 1])
    assert np.median(r) > 0.9


def test_ms2pip_skips_what_it_cannot_take() -> None:
    pytest.importorskip("ms2pip", reason="extra ms2pip is not installed")
    got = ms2pip_intensities([("A", "K"), ("P", "E", "P", "T", "K")], [2, 2])
    assert got[0] is None and got[1] is not None and got[1].shape == (4, 4)


def test_intensities_have_one_row_a_bond() -> None:
    tokens = parse_peptide("+42.011PEM+15.995K")
    (rates,) = packaged()([encode(tokens)], [2])
    assert rates.shape == (residue_masses(tokens).size - 1, 4) and (rates >= 0).all()

from __future__ import annotations

import numpy as np
import pytest

from rerank_peptide.evidence import N_SITE, N_SUMMARY, SITE_NAMES, evidence
from rerank_peptide.masses import PROTON, WATER, parse_peptide, peptide_mass, residue_masses
from rerank_peptide.spectra import Spectrum


def column(table: np.ndarray, name: str) -> np.ndarray:
    return table[:, SITE_NAMES.index(name)]


def by_hand(text: str, keep: dict[str, dict[int, float]], charge: int = 2) -> Spectrum:
    """Build a spectrum of the named b and y ions at the named bonds; values are intensities."""
    masses = residue_masses(parse_peptide(text))
    prefix = np.cumsum(masses)[:-1]
    x = {"b": prefix + PROTON, "y": masses.sum() - prefix + WATER + PROTON}
    peaks = sorted((float(x[ion][bond]), v) for ion, found in keep.items() for bond, v in found.items())
    mz, intensity = np.array(peaks).T
    return Spectrum(0, "t", mz, intensity, peptide_mass(parse_peptide(text)) / charge + PROTON, charge)


def test_every_bond_knows_its_own_ions() -> None:
    spectrum = by_hand("PEPTIDEK", {"b": {1: 100.0, 3: 1.0}, "y": {1: 10.0}})
    (table,), summary = evidence(spectrum, [parse_peptide("PEPTIDEK")])
    assert table.shape == (8, N_SITE) and summary.shape == (1, N_SUMMARY)
    assert column(table, "b.seen").tolist() == [0, 1, 0, 1, 0, 0, 0, 0]
    assert column(table, "y.seen").tolist() == [0, 1, 0, 0, 0, 0, 0, 0]
    # Strength is the logarithm of the share of the strongest peak, four decades to 0.
    assert column(table, "b.strength")[[1, 3]] == pytest.approx([1.0, 0.5])
    assert column(table, "y.strength")[1] == pytest.approx(0.75)
    assert column(table, "b.rank")[[1, 3]] == pytest.approx([1.0, 1 / 3])
    assert np.abs(column(table, "b.error")).max() < 1e-6
    assert not column(table, "b2.seen").any(), "charge-2 fragments are for charge 3 and up"
    assert not table[-1].any(), "the last residue has no bond to a next one"


def test_a_terminal_modification_has_no_bond_and_shifts_the_b_ions() -> None:
    spectrum = by_hand("[+42.011]-AGK", {"b": {0: 5.0}, "y": {0: 2.0}})
    (with_mod, without), _ = evidence(spectrum, [parse_peptide("[+42.011]-AGK"), parse_peptide("AGK")])
    assert len(with_mod) == 4 and not with_mod[0].any()
    assert column(with_mod, "b.seen").tolist() == [0, 1, 0, 0]
    assert column(without, "b.seen").tolist() == [0, 0, 0] and column(without, "y.seen").tolist() == [1, 0, 0]


def test_order_and_company_of_candidates_do_not_matter() -> None:
    spectrum = by_hand("PEPTIDEK", {"b": {1: 100.0, 3: 1.0}, "y": {1: 10.0, 4: 7.0}}, charge=3)
    peptides = [parse_peptide(p) for p in ("PEPTIDEK", "EPPTLDEK", "[+42.011]-AAK", "K")]
    sites, summary = evidence(spectrum, peptides)
    back, backwards = evidence(spectrum, peptides[::-1])
    for a, b in zip(sites, back[::-1], strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(summary, backwards[::-1])
    (alone,), _ = evidence(spectrum, peptides[:1])
    assert np.allclose(alone, sites[0], atol=1e-6)

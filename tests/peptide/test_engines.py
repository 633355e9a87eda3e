from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_peptide.engines import compnovo, expand, graph
from rerank_peptide.masses import ISOTOPE, PROTON, WATER, fold, parse_peptide, peptide_mass, residue_masses
from rerank_peptide.matching import peptide_match
from rerank_peptide.spectra import Spectrum


def ideal(peptide: str, charge: int = 2, isotope: int = 0) -> Spectrum:
    tokens = parse_peptide(peptide)
    masses = residue_masses(tokens)
    prefix = np.cumsum(masses)[:-1]
    mz = np.concatenate([prefix + PROTON, masses.sum() - prefix + WATER + PROTON])
    intensity = np.concatenate([np.full(prefix.size, 0.5), np.full(prefix.size, 1.0)])
    order = np.argsort(mz)
    total = peptide_mass(tokens) + isotope * ISOTOPE
    return Spectrum(0, "ideal", mz[order], intensity[order], total / charge + PROTON, charge)


@pytest.mark.parametrize(
    "peptide", ["LAHYNKR", "VATVSLPR", "EGVNDNEEGFFSAR", "TC+57.021VADESHAGC+57.021EK", "AM+15.995TFK"]
)
def test_graph_finds_a_complete_ladder(peptide: str) -> None:
    found = graph.paths(ideal(peptide))
    truth = parse_peptide(peptide)
    assert any(peptide_match(truth, t) for t, _ in found[:20])
    scores = [s for _, s in found]
    assert scores == sorted(scores, reverse=True)


def test_every_path_weighs_what_the_precursor_weighs() -> None:
    for isotope in (0, 1):
        spectrum = ideal("EGVNDNEEGFFSAR", isotope=isotope)
        for tokens, _ in graph.paths(spectrum):
            off = spectrum.mass - peptide_mass(tokens)
            assert min(abs(off), abs(off - ISOTOPE)) < 0.06  # precursor tolerance and rounding to bins


def test_best_path_is_optimal() -> None:
    """A* yields the best path first: more paths never beat it, and shorter searches are prefixes of longer ones."""
    spectrum = ideal("VATVSLPR")
    few = graph.paths(spectrum, graph.GraphParams(paths=5))
    many = graph.paths(spectrum, graph.GraphParams(paths=200))
    assert [s for _, s in few] == pytest.approx([s for _, s in many[:5]])


def test_a_spectrum_without_evidence_ends() -> None:
    noise = Spectrum(0, "n", np.array([200.0]), np.array([1.0]), 800.4, 2)
    start = time.process_time()
    graph.paths(noise)
    assert time.process_time() - start < 5


def test_complete_candidates_are_ranked_and_distinct() -> None:
    (found,) = graph.candidates([ideal("EGVNDNEEGFFSAR")], top=20)
    assert peptide_match(parse_peptide("EGVNDNEEGFFSAR"), found[0][0])
    assert len({fold(t) for t, _ in found}) == len(found) <= 20


@settings(max_examples=30, deadline=None)
@given(st.text("GASPVTLNDQKEMHFRYW", min_size=4, max_size=14))
def test_neighbours_keep_the_mass_and_differ(peptide: str) -> None:
    tokens = parse_peptide(peptide)
    near = expand.neighbours(tokens)
    assert len({fold(t) for t in near}) == len(near)
    for other in near:
        assert abs(peptide_mass(other) - peptide_mass(tokens)) <= 0.02 + 1e-9
        assert fold(other) != fold(tokens)


def test_expansion_finds_what_the_engine_missed_and_keeps_its_order() -> None:
    spectrum = ideal("EGVNDNEEGFFSAR")
    hits = [(parse_peptide("GEVNDNEEGFFSAR"), 1.0), (parse_peptide("VNEGDNEEGFFSAR"), 0.5)]
    longer = expand.expand_list(spectrum, hits, 10)
    assert longer[:2] == hits
    assert any(peptide_match(parse_peptide("EGVNDNEEGFFSAR"), t) for t, _ in longer)
    assert [s for _, s in longer] == sorted((s for _, s in longer), reverse=True)


@pytest.mark.slow
def test_compnovo_when_installed() -> None:
    if not compnovo.available():
        pytest.skip("OpenMS (Debian package topp) is not installed")
    found = compnovo.candidates([ideal("VATVSLPR"), ideal("LAHYNKR")], top=10)
    assert len(found) == 2
    assert any(peptide_match(parse_peptide("VATVSLPR"), t) for t, _ in found[0])

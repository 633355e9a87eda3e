from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_peptide.masses import masses_of, parse_peptide
from rerank_peptide.matching import PROTEOBENCH, STANDARD, aa_match, peptide_match, pmd, pmd_pairs, rmd

masses = st.lists(st.floats(50, 200), min_size=1, max_size=15).map(np.array)


@pytest.mark.shared_data
def test_oracle_of_pmd_rmd_and_matches(shared_data: Callable[[str], Path]) -> None:
    with gzip.open(shared_data("peptide/oracle/pmd_rmd_aamatch.json.gz"), "rt") as file:
        oracle = json.load(file)
    worst_pmd = worst_rmd = 0.0
    correct = predicted = true = matched = 0
    for pair in oracle["pairs"]:
        query, target = masses_of(pair["query_tokens"]), masses_of(pair["target_tokens"])
        assert parse_peptide(pair["query"]) == tuple(pair["query_tokens"])
        worst_pmd = max(worst_pmd, abs(pmd(query, target) - pair["pmd"]))
        worst_rmd = max(worst_rmd, float(np.abs(rmd(query, target) - np.array(pair["rmd"])).max()))
        for mode in ("best", "forward", "backward"):
            flags, match = aa_match(target, query, mode)
            assert flags.tolist() == pair[f"aa_match_{mode}"]["aa"], (pair["query"], pair["target"], mode)
            assert match == pair[f"aa_match_{mode}"]["pep"]
        flags, match = aa_match(target, query)
        correct, predicted, true, matched = (
            correct + flags.sum(),
            predicted + query.size,
            true + target.size,
            matched + match,
        )
    print(f"worst PMD {worst_pmd:.1e}, worst RMD {worst_rmd:.1e} over {len(oracle['pairs'])} pairs")
    assert worst_pmd <= 1e-6 and worst_rmd <= 1e-6
    expected = oracle["aggregate"]["order_true_pred"]
    assert correct / predicted == pytest.approx(expected["aa_precision"], abs=1e-9)
    assert correct / true == pytest.approx(expected["aa_recall"], abs=1e-9)
    assert matched / len(oracle["pairs"]) == pytest.approx(expected["pep_precision"], abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [("PELK", "PEIK", 0.0), ("PEQK", "PEKK", 0.0007), ("NGK", "GGGK", 2.1089), ("FK", "M+15.995K", 0.0006)],
)
def test_known_distances(a: str, b: str, value: float) -> None:
    assert pmd(masses_of(parse_peptide(a)), masses_of(parse_peptide(b))) == pytest.approx(value, abs=1e-4)


@settings(deadline=None)
@given(masses, masses)
def test_pmd_is_a_symmetric_distance(a: np.ndarray, b: np.ndarray) -> None:
    assert pmd(a, b) == pytest.approx(pmd(b, a), abs=1e-9)
    assert pmd(a, a) == 0
    assert abs(len(a) - len(b)) <= pmd(a, b) + 1e-9 <= len(a) + len(b) + 1e-9


@settings(deadline=None)
@given(masses)
def test_a_peptide_matches_itself_in_every_mode(a: np.ndarray) -> None:
    assert not np.any(rmd(a, a))
    for mode in ("best", "forward", "backward"):
        for tolerance in (STANDARD, PROTEOBENCH):
            flags, match = aa_match(a, a, mode, tolerance)
            assert match and flags.all() and flags.size == a.size


def test_rmd_takes_equal_prefixes_as_right() -> None:
    deviation = rmd(masses_of(parse_peptide("AANK")), masses_of(parse_peptide("AAGGK")))
    assert np.abs(deviation).max() < 1e-4


def test_ppm_tolerance_tells_lysine_from_glutamine() -> None:
    a, b = parse_peptide("PEQR"), parse_peptide("PEKR")
    assert peptide_match(a, b) and not peptide_match(a, b, PROTEOBENCH)


def test_pmd_speed_on_one_core() -> None:
    rng = np.random.default_rng(0)
    alphabet = list("GASPVTLNDQKEMHFRYW")
    many = [tuple(rng.choice(alphabet, 15)) for _ in range(400)]
    left, right = rng.integers(0, 400, 20_000), rng.integers(0, 400, 20_000)
    pmd_pairs(many, left[:10], right[:10])
    start = time.process_time()
    pmd_pairs(many, left, right)
    assert 20_000 / (time.process_time() - start) >= 20_000

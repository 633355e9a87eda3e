"""Measures by hand, and intervals that know dialogues."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_recommend.measures import Case, cases_of, difference, gains, summarise

RANKS = st.lists(st.integers(0, 60), min_size=1, max_size=40)


def value(rows, subset: str, measure: str):
    return next(r.row for r in rows if r.subset == subset and r.row.measure == measure)


def test_new_items_are_judged_without_what_was_mentioned() -> None:
    cases = cases_of("t", "d", ["a", "b", "c", "x"], ["c", "a", "z"], seen=["a", "b"])
    assert [(c.gold, c.rank, c.repeated) for c in cases] == [("c", 1, False), ("a", 1, True), ("z", 0, False)]


def test_three_measures_by_hand() -> None:
    assert gains([1, 2, 0, 11], "R", 10).tolist() == [1, 1, 0, 0]
    assert gains([1, 2, 0, 3], "MRR", 10).tolist() == [1, 1 / 2, 0, 1 / 3]
    assert gains([3], "nDCG", 10)[0] == pytest.approx(1 / math.log2(4))


def test_new_repeated_and_all_stand_side_by_side() -> None:
    cases = [Case("1", "a", "x", 1, False), Case("1", "a", "y", 0, True), Case("2", "b", "z", 3, False)]
    rows = summarise("s", cases, n_boot=50)
    assert value(rows, "new", "R@1").value == 1 / 2 and value(rows, "new", "R@1").n == 2
    assert value(rows, "repeated", "R@50").value == 0.0
    assert value(rows, "all", "R@5").value == pytest.approx(2 / 3)


def test_clean_rows_only_where_training_knew_a_dialogue() -> None:
    cases = [Case("1", "a", "x", 1, False), Case("2", "b", "z", 0, False, clean=False)]
    rows = summarise("s", cases, n_boot=50)
    assert value(rows, "clean-new", "R@1").value == 1.0 and value(rows, "clean-new", "R@1").n == 1
    assert {r.subset for r in summarise("s", cases[:1], n_boot=5)} == {"new", "repeated", "all"}


def test_an_empty_subset_has_no_value() -> None:
    rows = summarise("s", [Case("1", "a", "x", 1, False)], n_boot=5)
    assert value(rows, "repeated", "R@1").as_dict()["value"] is None


def test_one_dialogue_with_many_turns_is_one_case() -> None:
    many = [Case(str(i), "a", i, 1, False) for i in range(200)] + [Case("x", "b", "x", 0, False)]
    low = value(summarise("s", many, n_boot=400), "new", "R@1").ci_low
    assert low == 0.0  # dialogue b alone is drawn in a quarter of the samples


@given(RANKS, st.integers(0, 5))
def test_interval_holds_the_value_and_the_seed_decides(ranks: list[int], seed: int) -> None:
    cases = [Case(str(i), f"d{i // 3}", i, r, False) for i, r in enumerate(ranks)]
    first = [r.as_dict() for r in summarise("s", cases, seed=seed, n_boot=60)]
    assert first == [r.as_dict() for r in summarise("s", cases, seed=seed, n_boot=60)]
    for row in first:
        if row["value"] is not None:
            assert -1e-9 <= row["ci_low"] <= row["ci_high"] <= 1 + 1e-9


@given(RANKS)
def test_difference_with_itself_is_nothing(ranks: list[int]) -> None:
    cases = [Case(str(i), str(i), i, r, i % 2 == 0) for i, r in enumerate(ranks)]
    d = difference(cases, cases, "R", 10, "all", n_boot=50)
    assert (d.value, d.ci_low, d.ci_high) == (0.0, 0.0, 0.0)


def test_difference_refuses_other_cases() -> None:
    with pytest.raises(ValueError, match="same cases"):
        difference([Case("1", "a", "x", 1, False)], [Case("2", "a", "x", 1, False)], "R", 1)


def test_difference_by_hand() -> None:
    a = [Case(str(i), str(i), i, 1, False) for i in range(4)]
    b = [Case(str(i), str(i), i, 1 if i else 0, False) for i in range(4)]
    assert difference(a, b, "R", 1).value == 0.25
    assert np.isnan(difference(a, b, "R", 1, "repeated").value)

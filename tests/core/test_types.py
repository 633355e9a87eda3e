from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core import Candidate, Cost, Dataset, Ranked, Ranking, Request, Status

ids = st.lists(st.text(min_size=1, max_size=3), max_size=12, unique=True)
numbers = st.floats(allow_nan=True, allow_infinity=True)


def req(names, scores=None):
    return Request("q", "?", tuple(Candidate(n, n, None if scores is None else scores[i]) for i, n in enumerate(names)))


@given(ids, st.data())
def test_from_scores_is_a_permutation_sorted_by_score(names, data):
    scores = data.draw(st.lists(numbers, min_size=len(names), max_size=len(names)))
    ranking = Ranking.from_scores(req(names), scores)
    assert sorted(ranking.ids) == sorted(names)
    by = dict(zip(names, scores, strict=True))
    got = [by[i] for i in ranking.ids]
    real = [s for s in got if not math.isnan(s)]
    assert real == sorted(real, reverse=True)
    assert all(math.isnan(s) for s in got[len(real) :]), "NaN goes last"
    assert (ranking.status is Status.REPAIRED) == (len(real) < len(got))
    for value in set(real):
        tied = [i for i in ranking.ids if by[i] == value]
        assert tied == [n for n in names if by[n] == value], "ties keep the first-stage order"


@given(ids, st.lists(st.text(max_size=3), max_size=20))
def test_from_order_mends_any_answer_and_says_so(names, answer):
    ranking = Ranking.from_order(req(names), answer)
    assert sorted(ranking.ids) == sorted(names)
    clean = len(answer) == len(set(answer)) and set(answer) == set(names)
    assert (ranking.status is Status.OK) == clean
    if clean:
        assert ranking.ids == answer


def test_wrong_number_of_scores_is_refused():
    with pytest.raises(ValueError, match="2 scores for 3 candidates"):
        Ranking.from_scores(req("abc"), [1, 2])


def test_double_ids_are_refused_and_named():
    with pytest.raises(ValueError, match="'a' occurs twice"):
        req(["a", "b", "a"])
    with pytest.raises(ValueError, match="'a' occurs twice"):
        Ranking("q", (Ranked("a"), Ranked("a")))
    with pytest.raises(ValueError, match="'q' occurs twice"):
        Dataset([req("a"), req("b")], {})


def test_apply_reorders_and_refuses_a_foreign_ranking():
    request = req("abc", [3.0, 2.0, 1.0])
    ranking = Ranking.from_scores(request, [1, 3, 2])
    after = ranking.apply(request)
    assert after.ids == ["b", "c", "a"]
    assert after.first_stage().tolist() == [3, 2, 1]
    with pytest.raises(ValueError, match="not a permutation"):
        ranking.apply(req("abd"))


def test_first_stage_scores_fall_back_to_the_given_order():
    assert req("ab").first_stage().tolist() == [0, -1]
    mixed = Request("q", "?", (Candidate("a", 1, 5.0), Candidate("b", 2)))
    assert mixed.first_stage().tolist() == [0, -1]


def test_infinite_scores_stay_numbers_that_json_holds():
    ranking = Ranking.from_scores(req("abc"), [np.inf, -np.inf, 0])
    assert ranking.ids == ["a", "c", "b"]
    assert all(math.isfinite(x.score) for x in ranking.items)


def test_costs_and_statuses_add_up():
    assert Cost(1, 2, 3, 4.0) + Cost(1, 1, 1, 1.0) == Cost(2, 3, 4, 5.0)
    assert Cost(prompt_tokens=2, output_tokens=3).tokens == 5
    assert Status.OK.worst(Status.TRUNCATED, Status.REPAIRED) is Status.TRUNCATED

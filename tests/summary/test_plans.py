"""Clause units, content plans, adherence and diversity, and the embedded sample."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_summary.diversity import adherence, bleu, diversity, plan_report, quality_curve
from rerank_summary.edu import ClauseSegmenter, marked, units_of
from rerank_summary.plans import aligned_plan, beam_plans, greedy_plan, oracle_plan, salient_plans
from rerank_summary.sample import prose, records

Find = Callable[[str], Path]
TOKENS = ["and", ",", ";", "(", ")", ":", "because", "which", "when", "the", "cat", "said", "he", "it fell", "."]
STORY = (
    "The regulator said it would fine the company because it had failed to report the breach, but the firm denied this. "
    "Shares fell sharply when markets opened in London; analysts had expected worse. "
    "He bought apples, pears and plums."
)


@pytest.mark.shared_data
def test_greedy_plans_equal_the_released_code(shared_data: Find) -> None:
    oracle = json.loads(shared_data("summary/oracle/edu_gain_selection.json").read_text())
    for case in oracle["cases"]:
        plan, scores = greedy_plan(case["units"], " ".join(case["reference"]))
        assert list(plan) == case["selected"]
        assert scores == pytest.approx((case["rouge"]["rouge_1"], case["rouge"]["rouge_2"]), abs=1e-12)
    assert len(oracle["cases"]) == 10


def test_clauses_are_cut_where_clauses_begin() -> None:
    units = units_of(STORY, ClauseSegmenter())
    assert units.texts == (
        "The regulator said it would fine the company",
        "because it had failed to report the breach,",
        "but the firm denied this.",
        "Shares fell sharply",
        "when markets opened in London;",
        "analysts had expected worse.",
        "He bought apples, pears and plums.",
    )
    assert units.sentence == (0, 0, 0, 1, 1, 1, 2)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=25))
def test_segmentation_loses_nothing_and_keeps_its_minimum(tokens: list[str]) -> None:
    sentence = " ".join(tokens)
    pieces = ClauseSegmenter().segment(sentence)
    assert "".join(" ".join(pieces).split()) == "".join(sentence.split())
    if len(pieces) > 1:
        assert all(len(p.split()) >= 3 for p in pieces)


def test_extracts_read_like_sentences() -> None:
    units = units_of(STORY, ClauseSegmenter())
    assert units.realise((3, 0)) == "The regulator said it would fine the company. Shares fell sharply."
    assert units.realise((0, 1)).endswith("because it had failed to report the breach.")
    assert units.realise(()) == ""
    assert marked(units, (3,)).count("<e>") == 1
    assert marked(units).count("</e>") == 7


def test_oracle_takes_the_better_of_two_plans() -> None:
    units = ["the cat sat", "dogs ran off", "a bird sang", "the cat sat down"]
    plan, soft = oracle_plan(units, ["the cat sat down", "dogs ran off"])
    assert plan == (1, 3) and soft[1] == pytest.approx(1, abs=1e-6) and soft[2] == 0
    assert aligned_plan(units, [])[0] == () and greedy_plan([], "x")[0] == ()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 20), st.integers(1, 3), st.integers(0, 99))
def test_beam_plans_increase_are_unique_and_keep_their_lengths(n: int, beams: int, shortest: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    similarity = rng.random((n, n))
    plans = beam_plans(rng.random(n), (similarity + similarity.T) / 2, beams=beams, shortest=shortest, longest=4)
    assert 1 <= len(plans) <= beams and len(set(plans)) == len(plans)
    for plan in plans:
        assert list(plan) == sorted(set(plan)) and min(shortest, n) <= len(plan) <= 4


def test_beam_plans_find_the_best_plan_of_all() -> None:
    salience = np.array([0.1, 0.9, 0.3, 0.8])
    best = beam_plans(salience, np.zeros((4, 4)), beams=1, shortest=2, longest=2)
    assert best == [(1, 3)]
    redundant = np.zeros((4, 4))
    redundant[1, 3] = redundant[3, 1] = 1.0
    assert beam_plans(salience, redundant, beams=1, shortest=2, longest=2) == [(1, 2)]


def test_an_extract_adheres_to_its_plan_completely() -> None:
    units = units_of(STORY, ClauseSegmenter())
    for plan in salient_plans(units, beams=6, longest=3):
        assert adherence(plan, units.texts, units.realise(plan))["f1"] == 1
    nothing = adherence((0,), units.texts, "zebra")
    assert nothing == {"precision": 0, "recall": 0, "f1": 0}


def test_bleu_and_diversity() -> None:
    tokens = ["the", "cat", "sat", "on", "the", "mat"]
    assert bleu(tokens, [tokens]) == pytest.approx(1)
    assert bleu(tokens, [["dog"]]) == 0 == bleu([], [tokens])
    assert bleu(tokens[:4], [tokens]) == pytest.approx(np.exp(1 - 6 / 4))  # all n-grams match, brevity penalty only
    same, other = ["the cat sat on it"] * 3, ["the cat sat on it", "dogs ran far away now", "five birds sang a song"]
    assert diversity(same) == pytest.approx(0) and diversity(other) > 0.9 and diversity(["one"]) == 0


def test_plan_report_and_quality_curve() -> None:
    units = ["the cat sat", "dogs ran off", "a bird sang"]
    report = plan_report([units], [[(0,), (0, 2)]], [["the cat sat", "the cat sat a bird sang"]])
    assert report["adherence_f1"] == 1 and report["unique_plans"] == 1 and report["units_a_plan"] == 1.5
    curve = quality_curve([[1.0, 3.0], [2.0, 1.0, 0.0]])
    assert curve["mean"] == pytest.approx(1.5) and curve["max"] == 2.5 and curve["best_place"] == 1.5
    np.testing.assert_allclose(curve["curve"], [1.5, 2.0, 0.0])


def test_the_sample_is_real_large_and_gives_nothing_away() -> None:
    found = records()
    assert len(found) >= 50
    for r in found:
        assert 4 <= len(r.request.candidates) <= 8
        texts = [c.content for c in r.request.candidates]
        assert len(set(texts)) == len(texts)
        assert r.references[0].lower() not in (t.lower() for t in texts)
    assert found == records()


def test_prose_leaves_markup_behind() -> None:
    description = (
        "# Title\n\n[![badge](x)](y)\n\nThis **package** does [useful](http://x) things for `you` every day.\n\n"
        "```python\nimport x\n```\n\n- item one of a list that is long\n\n| a | b |\n\nIt is fast and it is small too.\n"
    )
    assert prose(description) == "This package does useful things for you every day.\nIt is fast and it is small too."

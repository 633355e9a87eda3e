"""Measures against Valentine's definitions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_schema.evaluation import evaluate
from rerank_schema.gold import GoldPairs
from rerank_schema.match import MATCH, NO, Match
from rerank_schema.measures import (
    Judged,
    precision_recall_f1,
    recall_at_gold,
    reciprocal_ranks,
    valentine_one_to_one,
)

# Random result sets with the figures that valentine 1.0.1 gives for them, made by benchmarks/schema_valentine_oracle.py.
CASES = json.loads((Path(__file__).parent / "valentine_measures.json").read_text("utf-8"))


def _matches(scores: list[tuple[str, str, float]]) -> list[Match]:
    out: list[Match] = []
    rank: dict[str, int] = {}
    for s, t, score in sorted(scores, key=lambda x: -x[2]):
        rank[s] = rank.get(s, 0) + 1
        out.append(Match("", s, "", t, score, rank[s]))
    return out


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_equal_to_valentine(case: dict) -> None:
    gold = GoldPairs(tuple((("", s), ("", t)) for s, t in dict.fromkeys(map(tuple, case["gold"]))))
    judged = Judged(_matches(case["scores"]), gold)
    ranks = reciprocal_ranks(judged)
    p, r, f = precision_recall_f1(valentine_one_to_one(judged.scores), judged.gold)
    ours = {
        "MeanReciprocalRank": sum(ranks.values()) / len(ranks) if ranks else 0.0,
        "RecallAtSizeofGroundTruth": recall_at_gold(judged),
        "Precision": p,
        "Recall": r,
        "F1Score": f,
    }
    for name, value in ours.items():
        assert value == pytest.approx(case["valentine"][name], abs=1e-9), name


names = st.sampled_from("abcd")


@given(
    st.dictionaries(st.tuples(names, names), st.floats(0, 1), max_size=10),
    st.sets(st.tuples(names, names), min_size=1, max_size=6),
)
def test_figures_stay_in_range_and_perfect_is_one(scores: dict, gold: set) -> None:
    pairs = GoldPairs(tuple((("", s), ("", t)) for s, t in sorted(gold)))
    rows = evaluate(_matches([(s, t, v) for (s, t), v in scores.items()]), pairs, system="x", n_boot=10)
    assert all(0 <= row.value <= 1 for row in rows)
    perfect = [Match("", s, "", t, 1.0, 1, None, MATCH) for s, t in sorted(gold)]
    best = {row.measure: row.value for row in evaluate(perfect, pairs, system="x", n_boot=10)}
    assert best["F1"] == best["P"] == best["R"] == best["Recall@GT"] == 1.0


def test_a_source_without_candidates_counts_zero() -> None:
    gold = GoldPairs(((("", "a"), ("", "x")), (("", "b"), ("", "y"))))
    rows = {r.measure: r for r in evaluate([Match("", "a", "", "x", 1.0, 1, None, NO)], gold, system="x", n_boot=10)}
    assert rows["MRR"].value == 0.5
    assert rows["MRR"].n == 2
    assert rows["F1"].value == 0.0


def test_tables_count_where_the_gold_names_them() -> None:
    match = Match("t1", "a", "u1", "x", 1.0, 1, None, MATCH)
    same = GoldPairs(((("t1", "a"), ("u1", "x")),))
    other = GoldPairs(((("t2", "a"), ("u1", "x")),))
    value = lambda gold: {r.measure: r.value for r in evaluate([match], gold, system="x", n_boot=10)}["MRR"]  # noqa: E731
    assert value(same) == 1.0
    assert value(other) == 0.0

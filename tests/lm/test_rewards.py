"""Rewards against their oracles, and against the answers that game the released ones."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_lm.rewards import (
    REWARDS,
    Gold,
    erank,
    grouprank,
    mm_r5_format,
    mm_r5_rank,
    prorank,
    rank_r1,
    rbo,
    reasonrank,
)


@pytest.mark.shared_data
def test_reasonrank_equals_the_oracle(shared_data):
    oracle = json.loads(shared_data("text/oracle/reasonrank_reward.json").read_text())
    window = oracle["initial_list"]
    gains = tuple(1.0 if d in oracle["relevant_docids"] else 0.0 for d in window)
    gold = Gold(gains, tuple(int(x) - 1 for x in re.findall(r"\d+", oracle["ground_truth"])))
    assert len(oracle["cases"]) == 11
    for case in oracle["cases"]:
        assert reasonrank(case["text"], gold, official=True) == pytest.approx(case["reward"], abs=1e-9), case["name"]
        if case["name"] != "out_of_range":
            assert reasonrank(case["text"], gold) == pytest.approx(case["reward"], abs=1e-9), case["name"]
    [gamed] = [c for c in oracle["cases"] if c["name"] == "out_of_range"]
    assert reasonrank(gamed["text"], gold) == 0


def _r5(ids: list[int]) -> str:
    return f"<think>x</think><answer>{ids}</answer>"


@pytest.mark.parametrize(
    ("positives", "ids", "reward"),
    [({1}, [2, 1, 3], 0.125), ({1, 3}, [3, 1, 2], 1.0), ({1, 3}, [1, 2, 3], (1 + 1 / 27) / 1.125), ({1}, [2, 3], 0.0)],
)
def test_mm_r5_rank(positives, ids, reward):
    gold = Gold(tuple(1.0 if i + 1 in positives else 0.0 for i in range(3)))
    assert mm_r5_rank(_r5(ids), gold) == pytest.approx(reward, abs=1e-9)


def test_mm_r5_format():
    gold = Gold((1.0, 0.0, 0.0))
    assert mm_r5_format(_r5([1, 2, 3, 7, 8]), gold) == pytest.approx(0.2)
    assert mm_r5_format(_r5([2, 1, 3]), gold) == 1.0
    assert mm_r5_format("[1, 2, 3]", gold) == 0.0
    assert mm_r5_format(_r5([1, 1, 1]), gold, official=True) == 1.0  # the released reward's flaw
    assert mm_r5_format(_r5([1, 1, 1]), gold) == pytest.approx(1 / 3)


def test_rank_r1():
    gold = Gold((0.0, 1.0, 1.0))
    assert rank_r1("<think>a</think>\n<answer> [2] </answer>", gold) == 1
    assert rank_r1("<think>a</think><answer>[3]</answer>", gold) == 1
    assert rank_r1("<think>a</think><answer>[3]</answer>", gold, official=True) == 0
    assert rank_r1("<answer>[2]</answer>", gold) == rank_r1("<think>a</think><answer>2</answer>", gold) == 0


def test_grouprank_rewards_order_and_spread():
    gold = Gold((2.0, 0.0, 1.0))
    perfect = grouprank('{"1": 10, "2": 0, "3": 5}', gold)
    squeezed = grouprank('{"1": 3, "2": 1, "3": 2}', gold)
    wrong = grouprank('{"1": 0, "2": 10, "3": 5}', gold)
    assert perfect == pytest.approx(1.0) and perfect > squeezed > wrong
    assert grouprank('{"1": 10, "2": 0}', gold) == grouprank("[1", gold) == -1


def test_prorank():
    assert [prorank(t, Gold((1.0,))) for t in ("1", "0", " 1\n", "1.", "yes")] == [2, 1, 2, 0, 0]


def test_erank_judges_a_grade_by_its_list():
    assert erank(["<answer>9</answer>", "3", "3"], [1, 0, 0]) == [1.0, 0.0, 0.0]
    assert erank(["3", "9", "3"], [1, 0, 0]) == [pytest.approx(1 / 2.5), -1.0, -1.0]
    assert erank(["no grade", "1"], [1, 0]) == [-1.0, -1.0]
    assert erank(["5", "4"], [0, 0]) == [0.0, 0.0]


@given(st.permutations(range(8)), st.sampled_from([1.0, 0.9, 0.5]))
def test_rbo_is_one_for_itself_and_symmetric(order, p):
    assert rbo(order, order, p) == pytest.approx(1.0)
    assert rbo(order, range(8), p) == pytest.approx(rbo(range(8), order, p))


@given(st.text(max_size=60))
def test_no_text_breaks_a_reward(text):
    gold = Gold((1.0, 0.0, 0.0))
    for reward in REWARDS.values():
        assert -1.0 <= reward(text, gold) <= 2.0
        assert -1.0 <= reward(f"<think></think><answer>{text}</answer>", gold, official=True) <= 2.0

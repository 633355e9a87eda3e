"""Strategies keep their promise for every answer, and fusion notices answers that mean nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.types import Status
from rerank_recommend import care
from rerank_recommend.model import Recommender
from rerank_recommend.rerank import run_strategy
from rerank_recommend.sample import sample_turns

ITEMS = st.lists(st.integers(0, 40), max_size=30, unique=True)


@given(ITEMS, ITEMS, st.floats(0, 1), st.booleans(), st.integers(0, 30))
def test_lists_hold_every_item_once(
    llm: list[int], expert: list[int], trust: float, ordered: bool, n_known: int
) -> None:
    union = set(llm) | set(expert)
    known = expert[:n_known:3]
    fused = care.fuse(llm, expert, trust, known=known, ordered=ordered)
    assert sorted(fused) == sorted(union)
    assert [fused.index(k) for k in known] == [expert.index(k) for k in known]
    assert sorted(care.expand(llm, expert)) == sorted(union)
    assert sorted(care.rerank(llm, expert, 10)) == sorted(expert)


@given(ITEMS, ITEMS, st.integers(0, 30))
def test_model_items_come_first_and_the_rest_keeps_the_experts_order(llm: list[int], expert: list[int], k: int) -> None:
    ordered = care.rerank(llm, expert, k)
    named = [i for i in llm if i in expert[:k]]
    assert ordered[: len(named)] == named
    assert ordered[len(named) :] == [i for i in expert if i not in named]


@given(ITEMS, ITEMS)
def test_without_trust_the_experts_list_stays(llm: list[int], expert: list[int]) -> None:
    assert care.fuse(llm, expert, 0.0)[: len(expert)] == expert


@given(ITEMS.filter(len), ITEMS)
def test_the_head_of_a_reliable_model_keeps_its_place(llm: list[int], expert: list[int]) -> None:
    assert care.fuse(llm, expert, 1.0)[0] == llm[0]


def test_reliability_tells_answers_from_other_turns_answers() -> None:
    rng = np.random.default_rng(0)
    experts = [rng.permutation(500)[:100].tolist() for _ in range(60)]
    answers = [[*rng.choice(e[:40], 4, replace=False).tolist(), *rng.integers(0, 500, 6).tolist()] for e in experts]
    answers = [list(dict.fromkeys(a)) for a in answers]
    weights = [care.reciprocal(e) for e in experts]
    dialogues = [f"d{i // 2}" for i in range(60)]
    right = care.reliability(answers, weights, dialogues, 500)
    wrong = care.reliability([answers[(i + 20) % 60] for i in range(60)], weights, dialogues, 500)
    none = care.reliability([[] for _ in answers], weights, dialogues, 500)
    assert right.value == 1.0 and right.z > 5
    assert wrong.value == 0.0
    assert none.value == 0.0
    assert care.reliability(answers[:3], weights[:3], dialogues[:3], 500).value == 1.0  # too few to tell


def test_order_matters_only_where_the_upper_half_is_better() -> None:
    rng = np.random.default_rng(0)
    experts = [care.reciprocal(rng.permutation(200).tolist()) for _ in range(40)]
    best_first = [sorted(rng.choice(200, 10, replace=False).tolist(), key=lambda i, e=e: -e[i]) for e in experts]
    dialogues = [str(i) for i in range(40)]
    assert care.order_matters(best_first, experts, dialogues) > 3
    mixed = [rng.permutation(x).tolist() for x in best_first]
    assert care.order_matters(mixed, experts, dialogues) < 2


def test_every_strategy_ranks_only_catalogue_items_once(films: Recommender) -> None:
    turns, gold = sample_turns()
    answers = {t.id: "1. Alien\n2. Alien\n3. No such film\n4. " + str(gold[t.id][0]) for t in turns[:30]}
    known = set(films.catalogue.column_of)
    for strategy in care.STRATEGIES:
        outcome = run_strategy(films, turns[:30], strategy, answers)
        for request, ranking in zip(outcome.requests, outcome.rankings, strict=True):
            assert set(ranking.ids) == set(request.ids) <= known
            assert len(set(ranking.ids)) == len(ranking.ids)


def test_a_turn_without_an_answer_keeps_the_experts_list_and_says_so(films: Recommender) -> None:
    turns, _ = sample_turns()
    outcome = run_strategy(films, turns[:12], "fuse", {t.id: "I am sorry, I cannot do that." for t in turns[:12]})
    expert = run_strategy(films, turns[:12], "experts")
    assert [r.ids for r in outcome.rankings] == [r.ids for r in expert.rankings]
    assert {r.status for r in outcome.rankings} == {Status.FALLBACK}


def test_popularity_bias_by_hand() -> None:
    bias = care.popularity_bias([[0, 1], [0, 2]], [10, 4, 0, 0], k=2, head_share=0.25)
    assert bias["ARP"] == (7 + 5) / 2
    assert bias["coverage"] == 3 / 4
    assert bias["head"] == 2 / 4
    assert care.popularity_bias([[0], [1], [2], [3]], [1, 1, 1, 1], k=1)["gini"] == 0.0

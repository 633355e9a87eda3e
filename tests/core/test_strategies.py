from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from judges_for_tests import TEXT, FirstPlace, Mad, Perfect, request, true_order

from rerank_core.budget import Budget
from rerank_core.reranker import Chain, Fuse, Top
from rerank_core.strategies import (
    AllPairs,
    BubbleSort,
    Groupwise,
    HeapSort,
    Item,
    Pointwise,
    PositionBalanced,
    Setwise,
    Shuffled,
    SlidingWindow,
    Tournament,
    Triple,
)
from rerank_core.strategies.programs import split_groups, windows
from rerank_core.types import Status

ALL = {
    "pointwise": lambda j: Pointwise(j, TEXT),
    "all-pairs": lambda j: AllPairs(j, TEXT),
    "copeland": lambda j: AllPairs(j, TEXT, copeland=True, both_orders=True),
    "heap": lambda j: HeapSort(j, TEXT, k=5),
    "bubble": lambda j: BubbleSort(j, TEXT, k=5),
    "setwise": lambda j: Setwise(j, TEXT, k=5, arity=3),
    "window": lambda j: SlidingWindow(j, TEXT, size=10, stride=5),
    "groupwise": lambda j: Groupwise(j, TEXT, size=6),
    "groupwise-anchored": lambda j: Groupwise(j, TEXT, size=6, interleaved=True, anchors=2),
    "tournament": lambda j: Tournament(j, TEXT, size=10, keep=5),
}
COMBINED = {
    "balanced": lambda j: SlidingWindow(PositionBalanced(j), TEXT, size=10, stride=5),
    "balanced-pairs": lambda j: HeapSort(PositionBalanced(j, rounds=2), TEXT, k=5),
    "shuffled": lambda j: Groupwise(Shuffled(j), TEXT, size=6),
    "shuffled-set": lambda j: Setwise(Shuffled(j), TEXT, k=5),
    "chain": lambda j: Chain(Pointwise(j, TEXT), Top(8, BubbleSort(j, TEXT, k=5))),
    "fuse": lambda j: Fuse([Pointwise(j, TEXT), AllPairs(j, TEXT)], "rrf"),
    "fuse-z": lambda j: Fuse([Pointwise(j, TEXT), AllPairs(j, TEXT)], "zscore"),
}

values = st.lists(st.integers(-1000, 1000), max_size=40, unique=True)


@pytest.mark.parametrize("name", [*ALL, *COMBINED])
@given(lists=st.lists(values, max_size=3), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_a_mad_judge_still_gives_a_permutation(name, lists, seed):
    reranker = (ALL | COMBINED)[name](Mad(seed))
    requests = [request(v, f"q{i}") for i, v in enumerate(lists)]
    for req, ranking in zip(requests, reranker.rerank(requests), strict=True):
        assert ranking.id == req.id
        assert sorted(ranking.ids) == sorted(req.ids)


@pytest.mark.parametrize("name", [*ALL, *COMBINED])
@given(v=values)
@settings(max_examples=25, deadline=None)
def test_a_perfect_judge_puts_the_true_top_5_on_top(name, v):
    req = request(v)
    (ranking,) = (ALL | COMBINED)[name](Perfect()).rerank([req])
    assert ranking.ids[:5] == true_order(req)[:5]
    assert ranking.status in (Status.OK, Status.REPAIRED if name.startswith("fuse") else Status.OK)


@pytest.mark.parametrize("name", [*ALL, "balanced", "balanced-pairs", "shuffled", "shuffled-set"])
@given(v=values, calls=st.integers(0, 30))
@settings(max_examples=25, deadline=None)
def test_a_budget_of_calls_is_never_overdrawn_and_flagged_when_spent(name, v, calls):
    judge = Perfect()
    req = request(v)
    strategy = (ALL | COMBINED)[name](judge)
    (ranking,) = strategy.within(Budget(calls=calls)).rerank([req])
    assert judge.calls <= calls
    assert ranking.cost.calls == judge.calls
    assert sorted(ranking.ids) == sorted(req.ids)
    unlimited = Perfect()
    (free,) = (ALL | COMBINED)[name](unlimited).rerank([req])
    assert (ranking.status is Status.BUDGET) == (unlimited.calls > calls)
    if unlimited.calls <= calls:
        assert ranking.ids == free.ids


@given(n=st.integers(1, 200), arity=st.integers(2, 19), k=st.integers(1, 20), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_setwise_heap_sort_finds_the_true_top_k(n, arity, k, seed):
    v = np.random.default_rng(seed).permutation(n).tolist()
    judge = Perfect()
    req = request(v)
    (ranking,) = Setwise(judge, TEXT, k=k, arity=arity).rerank([req])
    assert ranking.ids[:k] == true_order(req)[:k]
    assert ranking.cost.calls == judge.calls
    # What was not popped keeps its first-stage order.
    assert [i for i in req.ids if i in set(ranking.ids[k:])] == ranking.ids[k:]


@pytest.mark.parametrize(
    ("n", "calls"), [(100, 9), (20, 1), (15, 1), (10, 1), (2, 1), (1, 0), (0, 0), (25, 2), (30, 2)]
)
def test_window_counts_follow_rankllm(n, calls):
    assert len(list(windows(n, 20, 10))) == calls


@given(n=st.integers(2, 150), size=st.integers(2, 30), data=st.data())
def test_windows_reach_from_the_last_candidate_to_the_first(n, size, data):
    stride = data.draw(st.integers(1, max(1, size // 2)))
    spans = list(windows(n, size, stride))
    assert spans[0][1] == n
    assert spans[-1][0] == 0
    assert all(0 <= s < e <= n and e - s <= size for s, e in spans)
    assert all(later[1] > earlier[0] for earlier, later in pairwise(spans)), "neighbouring windows overlap"


def test_window_position_bias_cancels_when_balanced():
    req = request([3, 1, 2, 5, 4])
    (biased,) = SlidingWindow(FirstPlace(), TEXT).rerank([req])
    assert biased.ids == req.ids
    first, second = Item("3", "a"), Item("1", "b")
    assert PositionBalanced(FirstPlace()).prefer([Triple("?", first, second)]).tolist() == [0.5]
    assert PositionBalanced(Perfect()).prefer([Triple("?", first, second)]).tolist() == [1.0]


def test_requests_share_batches():
    judge = Perfect()
    HeapSort(judge, TEXT, k=3).rerank([request(list(range(20)), f"q{i}") for i in range(8)])
    assert max(judge.batches) == 8, "the open questions of all requests go out together"


def test_a_budget_of_tokens_and_of_seconds_stops_too():
    req = request(list(range(30)))
    (ranking,) = BubbleSort(Perfect(), TEXT, k=10).within(Budget(tokens=100)).rerank([req])
    assert ranking.status is Status.BUDGET
    assert ranking.cost.tokens <= 111
    (ranking,) = Pointwise(Perfect(), TEXT).within(Budget(seconds=0)).rerank([req])
    assert ranking.status is Status.BUDGET
    assert ranking.ids == req.ids


def test_best_so_far_is_better_than_nothing():
    rng = np.random.default_rng(0)
    better = 0
    for _ in range(20):
        req = request(rng.permutation(50).tolist())
        (partial,) = BubbleSort(Perfect(), TEXT, k=10).within(Budget(calls=60)).rerank([req])
        better += partial.ids[0] == true_order(req)[0]
    assert better == 20, "one full pass costs 49 calls and finds the best"


@given(n=st.integers(0, 60), size=st.integers(2, 12), anchors=st.integers(0, 5), interleaved=st.booleans())
def test_groups_cover_every_position_once_besides_anchors(n, size, anchors, interleaved):
    if anchors >= size:
        with pytest.raises(ValueError, match="anchors"):
            split_groups(n, size, interleaved, anchors)
        return
    groups = split_groups(n, size, interleaved, anchors)
    assert all(len(g) <= size for g in groups)
    assert sorted({p for g in groups for p in g}) == list(range(n))
    others = [p for g in groups for p in g if p >= anchors]
    assert len(others) == len(set(others))


def test_anchors_align_groups_that_were_scored_on_different_scales():
    class Shifted(Perfect):
        def score_groups(self, groups):
            # Every group but the first is read with another zero and unit.
            return [
                (2.0 * v + 500.0 if g.items[-1].id != "d5" else v)
                for g, v in zip(groups, super().score_groups(groups), strict=True)
            ]

    v = [60, 10, 55, 50, 45, 40, 58, 5, 30, 20]
    req = request(v)
    (aligned,) = Groupwise(Shifted(), TEXT, size=6, anchors=2).rerank([req])
    (raw,) = Groupwise(Shifted(), TEXT, size=6, anchors=0).rerank([req])
    assert aligned.ids == true_order(req)
    assert raw.ids != true_order(req)


def test_strategies_are_bit_identical_for_a_seed():
    req = [request(np.random.default_rng(3).permutation(60).tolist())]
    a = Tournament(Shuffled(FirstPlace(), seed=1), TEXT, seed=5).rerank(req)
    b = Tournament(Shuffled(FirstPlace(), seed=1), TEXT, seed=5).rerank(req)
    c = Tournament(Shuffled(FirstPlace(), seed=1), TEXT, seed=6).rerank(req)
    assert a == b
    assert a[0].ids != c[0].ids


def test_a_strategy_refuses_a_judge_of_the_wrong_kind():
    class OnlyScores:
        name = "s"

        def score(self, pairs):
            return np.zeros(len(pairs))

    with pytest.raises(TypeError, match="prefer"):
        HeapSort(OnlyScores(), TEXT)

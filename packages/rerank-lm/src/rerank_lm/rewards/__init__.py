"""Rewards for reinforcement learning: pure functions from an answer's text and a window's gold to a number.

Every reward takes ``official=True`` where the released code rewards something it should not; the default mends it.
"""

from collections.abc import Callable

from rerank_lm.rewards._window import Gold, ndcg, rbo, recall
from rerank_lm.rewards.erank import erank
from rerank_lm.rewards.grouprank import grouprank
from rerank_lm.rewards.mm_r5 import mm_r5, mm_r5_format, mm_r5_rank
from rerank_lm.rewards.prorank import prorank
from rerank_lm.rewards.rank_r1 import rank_r1
from rerank_lm.rewards.reasonrank import reasonrank

REWARDS: dict[str, Callable[..., float]] = {
    "rank-r1": rank_r1,
    "reasonrank": reasonrank,
    "grouprank": grouprank,
    "prorank": prorank,
    "mm-r5": mm_r5,
}
"""Rewards of a single answer by name. ERank's needs a query's answers together: [`erank`][rerank_lm.rewards.erank.erank]."""

__all__ = [
    "REWARDS", "Gold", "erank", "grouprank", "mm_r5", "mm_r5_format", "mm_r5_rank", "ndcg", "prorank", "rank_r1", "rbo",
    "reasonrank", "recall",
]  # fmt: skip

"""ReasonRank's multi-view reward (2025): ranking quality, recall and agreement with the teacher's permutation."""

from __future__ import annotations

import re

from rerank_lm.rewards._window import Gold, answer_of, ndcg, rbo, recall


def reasonrank(text: str, gold: Gold, *, official: bool = False) -> float:
    """``nDCG@10 + 0.2 Recall@10 + 0.1 RBO``; -1 without the format, 0 for a list that is not the window's.

    Relevance is binary; RBO has p = 1 as in the released code (the paper speaks of p < 1). The released code checks
    only how many ids there are and drops those out of range afterwards, so a list ending in ``[99]`` is rewarded; ours
    gives 0 for it, ``official`` reproduces it.
    """
    answer = answer_of(text)
    if answer is None:
        return -1.0
    ids = [int(x) - 1 for x in re.findall(r"\[(\d{1,6})\]", answer)]
    n = gold.n
    if len(ids) != n or len(set(ids)) != n:
        return 0.0
    kept = [i for i in ids if 0 <= i < n]
    if len(kept) != n and not official:
        return 0.0
    binary = [1.0 if g > 0 else 0.0 for g in gold.gains]
    quality = ndcg(kept, binary, 10) + 0.2 * recall(kept, gold.positives, 10)
    return quality + 0.1 * rbo(kept, gold.permutation)

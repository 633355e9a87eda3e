"""GroupRank's reward (2025): ranking quality and a distribution of scores like the gold one.

The paper names ranking metrics and a distributional term; its weights are not public. **Ours:** 0.5 nDCG,
0.2 recall, 0.2 RBO (p = 0.9) and 0.1 for the distribution.
"""

from __future__ import annotations

import numpy as np

from rerank_lm.parsing import parse_scores
from rerank_lm.rewards._window import Gold, ndcg, rbo, recall

LOW, HIGH = 0.0, 10.0


def grouprank(text: str, gold: Gold, *, official: bool = False) -> float:
    """-1 unless the answer scores every candidate exactly once on 0..10.

    Else ``0.5 nDCG@min(10, n) + 0.2 Recall@m + 0.2 RBO + 0.1 (1 - W1 / 10)``, m the number of relevant candidates and
    W1 the mean distance between the sorted scores and the sorted gains spread over 0..10.
    """
    del official  # nothing official is known
    n = gold.n
    scores = parse_scores(text, n, LOW, HIGH)
    if n == 0 or np.isnan(scores).any():
        return -1.0
    order = np.argsort(-scores, kind="stable").tolist()
    top = max(gold.gains)
    wanted = np.sort(np.array(gold.gains) * (HIGH / top if top > 0 else 0.0))
    distance = float(np.abs(np.sort(scores) - wanted).mean())
    m = len(gold.positives)
    return (
        0.5 * ndcg(order, gold.gains, min(10, n))
        + 0.2 * recall(order, gold.positives, m)
        + 0.2 * rbo(order, gold.permutation, 0.9)
        + 0.1 * (1 - distance / (HIGH - LOW))
    )

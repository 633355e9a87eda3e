"""ERank's listwise-derived reward (2025): a pointwise grade is judged by the list it makes with the others.

Only the idea is public. **Ours:** a positive earns ``1 / rank`` with ``rank = 1 + #(higher) + #(ties) / 2``; a negative
loses the share of the query's positives that do not score above it; an answer without a grade loses 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rerank_lm.parsing import parse_grade


def erank(texts: Sequence[str], gains: Sequence[float], *, low: float = 0, high: float = 10) -> list[float]:
    """Return one reward a candidate of a query, from all candidates' answers."""
    scores = [parse_grade(t, low, high) for t in texts]
    positives = [i for i, g in enumerate(gains) if g > 0]
    out = []
    for i, score in enumerate(scores):
        if math.isnan(score):
            out.append(-1.0)
        elif i in positives:
            higher = sum(s > score for j, s in enumerate(scores) if j != i)
            ties = sum(s == score for j, s in enumerate(scores) if j != i)
            out.append(1.0 / (1 + higher + ties / 2))
        else:
            beaten = sum(not scores[p] > score for p in positives)
            out.append(-beaten / len(positives) if positives else 0.0)
    return out

"""What a reward may know of a window, and the measures rewards are made of."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Gold:
    """Truth of a window, in the order in which its candidates are numbered.

    Parameters
    ----------
    gains
        One a candidate; positive means relevant.
    order
        A teacher's permutation (0-based), best first; by falling gain where there is none.
    """

    gains: tuple[float, ...]
    order: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        """Number of candidates."""
        return len(self.gains)

    @property
    def permutation(self) -> tuple[int, ...]:
        """The teacher's order, or the gains'."""
        return self.order or tuple(sorted(range(self.n), key=lambda i: -self.gains[i]))

    @property
    def positives(self) -> frozenset[int]:
        """Positions of the relevant candidates."""
        return frozenset(i for i, g in enumerate(self.gains) if g > 0)


THINK_ANSWER = re.compile(r"<think>.*?</think>\s*<answer>(.*?)</answer>", flags=re.DOTALL)


def answer_of(text: str) -> str | None:
    """Return what stands in the answer tags after the reasoning, or None where the format is not kept."""
    match = THINK_ANSWER.search(text)
    return match.group(1) if match else None


def ndcg(order: Sequence[int], gains: Sequence[float], k: int) -> float:
    """nDCG@k with linear gains; 0 where nothing is relevant. Positions outside the window gain nothing."""
    n = len(gains)
    got = sum(gains[i] / math.log2(r + 2) for r, i in enumerate(order[:k]) if 0 <= i < n)
    best = sum(g / math.log2(r + 2) for r, g in enumerate(sorted(gains, reverse=True)[:k]))
    return got / best if best > 0 else 0.0


def recall(order: Sequence[int], positives: frozenset[int], k: int) -> float:
    """Share of the positives among the first k; 0 where there are none."""
    return len(set(order[:k]) & positives) / len(positives) if positives else 0.0


def rbo(a: Sequence[int], b: Sequence[int], p: float = 1.0) -> float:
    """Rank-biased overlap of two lists without repeats, over the longer one's depth.

    ``p = 1``: mean over depths d of ``|a[:d] & b[:d]| / d``; below 1 each depth weighs ``p^(d-1)``, normalised to sum to
    1 (a truncated RBO, so that equal lists score 1). Webber et al., TOIS 2010.
    """
    depth = max(len(a), len(b))
    if depth == 0:
        return 1.0
    total = weights = 0.0
    seen_a: set[int] = set()
    seen_b: set[int] = set()
    for d in range(1, depth + 1):
        seen_a.update(a[d - 1 : d])
        seen_b.update(b[d - 1 : d])
        weight = 1.0 if p == 1.0 else p ** (d - 1)
        total += weight * len(seen_a & seen_b) / d
        weights += weight
    return total / weights

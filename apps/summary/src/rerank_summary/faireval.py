"""Calibrating model judges of answer pairs, and measuring how far they can be trusted.

Source: P. Wang et al., "Large Language Models are not Fair Evaluators", ACL 2024: multiple evidence calibration (MEC),
balanced position calibration (BPC), balanced position diversity entropy (BPDE). BPDE is not in the released script;
entropies here use the natural logarithm (only their order matters).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rerank_core.types import FloatArray

OUTCOMES = ("win", "tie", "lose")
_FLIP = {"win": "lose", "lose": "win", "tie": "tie"}
Scores = tuple[float, float]


def outcome(a: float, b: float) -> str:
    """``win``, ``tie`` or ``lose`` of the first number."""
    return "win" if a > b else "lose" if a < b else "tie"


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A pair's calibrated verdict, from the first answer's side.

    Parameters
    ----------
    scores
        Mean score of each answer over all samples and both orders; NaN where every sample abstained.
    verdict
        ``win``, ``tie``, ``lose``, or None where every sample abstained.
    bpde
        Entropy of the outcomes; 0 where all agree.
    conflict
        Whether the two orders' mean scores lead to different verdicts; None without samples in both orders.
    abstained
        How many samples could not be read.
    """

    scores: Scores
    verdict: str | None
    bpde: float
    conflict: bool | None
    abstained: int = 0


def calibrate(forward: Sequence[Scores | None], backward: Sequence[Scores | None] = ()) -> Calibrated:
    """Calibrate one pair (A, B).

    Parameters
    ----------
    forward
        Samples with A shown first, as printed; None for an abstention. MEC is more than one sample.
    backward
        Samples with B shown first, *as printed* (B's score first). BPC is having any.

    Returns
    -------
    CS = mean over the samples of both orders, as in the paper's equation for k samples an order; where abstentions
    leave the orders unequal, each order is averaged first, so that neither position weighs more.
    """
    ahead = [s for s in forward if s is not None]
    behind = [(b, a) for a, b in (s for s in backward if s is not None)]
    abstained = len(forward) + len(backward) - len(ahead) - len(behind)
    if not ahead and not behind:
        return Calibrated((math.nan, math.nan), None, 0.0, None, abstained)
    means = [np.mean(x, axis=0) for x in (ahead, behind) if x]
    a, b = (float(v) for v in np.mean(means, axis=0))
    outcomes = [outcome(*s) for s in (*ahead, *behind)]
    conflict = outcome(*means[0]) != outcome(*means[1]) if len(means) == 2 else None
    return Calibrated((a, b), outcome(a, b), entropy(outcomes), conflict, abstained)


def entropy(outcomes: Sequence[str]) -> float:
    """Entropy of outcomes in nats: BPDE when they come from both orders."""
    n = len(outcomes)
    return -sum(c / n * math.log(c / n) for c in Counter(outcomes).values()) + 0.0 if n else 0.0


def most_doubtful(bpde: Mapping[str, float], share: float = 0.2) -> list[str]:
    """Ids of the ``share`` of pairs with the highest BPDE, most doubtful first, ties by order of appearance."""
    count = math.ceil(share * len(bpde) - 1e-9)
    return sorted(bpde, key=lambda k: -bpde[k])[:count]


def with_humans(
    verdicts: Mapping[str, str | None], bpde: Mapping[str, float], human: Mapping[str, str], share: float = 0.2
) -> dict[str, str | None]:
    """Human in the loop: take the human verdict where doubt is highest."""
    ask = set(most_doubtful(bpde, share))
    return {k: human.get(k, v) if k in ask else v for k, v in verdicts.items()}


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a judge agrees with people; all shares 0 to 1."""

    n: int
    accuracy: float
    kappa: float
    macro_f1: float
    abstained: int


def agreement(verdicts: Sequence[str | None], human: Sequence[str], *, abstention: str = "wrong") -> Agreement:
    """Accuracy, Cohen's kappa and macro-F1 against human outcomes.

    Parameters
    ----------
    verdicts, human
        ``win``, ``tie`` or ``lose`` each; a verdict may be None.
    abstention
        What a None counts as: ``wrong`` (a fourth class that is never right), ``tie``, or ``skip``.
    """
    pairs = list(zip(verdicts, human, strict=True))
    abstained = sum(v is None for v, _ in pairs)
    if abstention == "skip":
        pairs = [(v, h) for v, h in pairs if v is not None]
    fill = "tie" if abstention == "tie" else "abstained"
    found = [v if v is not None else fill for v, _ in pairs]
    truth = [h for _, h in pairs]
    if not pairs:
        return Agreement(0, math.nan, math.nan, math.nan, abstained)
    accuracy = float(np.mean([a == b for a, b in zip(found, truth, strict=True)]))
    return Agreement(len(pairs), accuracy, cohen_kappa(found, truth), macro_f1(found, truth), abstained)


def cohen_kappa(a: Sequence[str], b: Sequence[str]) -> float:
    """Cohen's kappa of two raters; 1 where both give one and the same label throughout."""
    n = len(a)
    observed = sum(x == y for x, y in zip(a, b, strict=True)) / n
    left, right = Counter(a), Counter(b)
    expected = sum(left[k] * right[k] for k in left) / n**2
    return (observed - expected) / (1 - expected) if expected < 1 else 1.0


def macro_f1(found: Sequence[str], truth: Sequence[str]) -> float:
    """Mean F1 over the three outcomes that occur in either list."""
    scores = []
    for k in OUTCOMES:
        hits = sum(a == k == b for a, b in zip(found, truth, strict=True))
        size = sum(a == k for a in found) + sum(b == k for b in truth)
        if size:
            scores.append(2 * hits / size)
    return float(np.mean(scores)) if scores else math.nan


@dataclass(frozen=True, slots=True)
class PositionBias:
    """Whether a judge prefers a position.

    Parameters
    ----------
    first, ties, second
        How often the first answer shown won, neither, the second.
    p
        Two-sided exact binomial test of first against second at 1/2, ties left out.
    identical
        Whether the two answers were the same text throughout: then any preference *is* position bias.
    """

    first: int
    ties: int
    second: int
    p: float
    identical: bool = False

    @property
    def sentence(self) -> str:
        """The finding in words."""
        if self.first == self.second:
            return f"neither position preferred {self.first}:{self.second}"
        side, high, low = (
            ("first", self.first, self.second) if self.first > self.second else ("second", self.second, self.first)
        )
        text = f"{side} position preferred {high}:{low} (binomial p={_p(self.p)})"
        return text if self.identical else text + ", answers differ: quality may explain it"


def _p(p: float) -> str:
    return f"{p:.3f}".replace("0.", ".", 1) if p >= 0.0005 else "<.001"


def position_bias(outcomes: Sequence[str | None], *, identical: bool = False) -> PositionBias:
    """Count and test outcomes of the answer shown first; None (abstention) is left out."""
    from scipy.stats import binomtest

    c = Counter(o for o in outcomes if o is not None)
    decided = c["win"] + c["lose"]
    p = float(binomtest(c["win"], decided, 0.5).pvalue) if decided else 1.0
    return PositionBias(c["win"], c["tie"], c["lose"], p, identical)


def majority(labels: Sequence[str]) -> str | None:
    """The label most people gave; None where there is no single one."""
    top = Counter(labels).most_common(2)
    return top[0][0] if top and (len(top) == 1 or top[0][1] > top[1][1]) else None


def flip(verdict: str | None) -> str | None:
    """The verdict seen from the other answer's side."""
    return None if verdict is None else _FLIP[verdict]


def mean_scores(samples: Sequence[Scores | None]) -> FloatArray:
    """Mean scores over the samples that could be read, shape (2,); NaN without any."""
    held = [s for s in samples if s is not None]
    return np.mean(held, axis=0) if held else np.full(2, math.nan)

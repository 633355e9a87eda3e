"""FairEval: two answers scored with the evidence first, several times, in both orders.

Source: Wang et al., "Large Language Models are not Fair Evaluators" (ACL 2024). MEC: evidence before scores, k samples.
BPC: both orders, mean of 2k scores. HITL: the pairs with the highest position-diversity entropy go to a person; that
entropy is not in the released script, its logarithm here is natural.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from rerank_core.strategies.judges import Triple
from rerank_core.types import FloatArray
from rerank_lm import prompts
from rerank_lm.backends.base import Capability, Completion, Prompt, Sampling
from rerank_lm.judges.base import Options, TextJudge, task_of, text_of
from rerank_lm.parsing import parse_pair_scores

Scores = tuple[float, float]


def calibrated_scores(forward: Sequence[Scores], backward: Sequence[Scores]) -> Scores:
    """Return both answers' mean scores over all samples.

    Parameters
    ----------
    forward
        Scores as printed, first answer first.
    backward
        Scores as printed with the answers swapped: the first number is the second answer's.

    Raises
    ------
    ValueError
        When there is no sample at all.
    """
    first = [a for a, _ in forward] + [b for _, b in backward]
    second = [b for _, b in forward] + [a for a, _ in backward]
    if not first:
        raise ValueError("no usable sample")
    return float(np.mean(first)), float(np.mean(second))


def outcomes(forward: Sequence[Scores], backward: Sequence[Scores]) -> list[str]:
    """Return ``win``, ``tie`` or ``lose`` of the first answer, one a sample."""
    pairs = [*forward, *((b, a) for a, b in backward)]
    return ["win" if a > b else "lose" if a < b else "tie" for a, b in pairs]


def bpde(forward: Sequence[Scores], backward: Sequence[Scores]) -> float:
    """Balanced position diversity entropy ``-sum p ln p`` over win, tie and lose; 0 where all samples agree."""
    results = outcomes(forward, backward)
    shares = [results.count(r) / len(results) for r in ("win", "tie", "lose")]
    return float(-sum(p * np.log(p) for p in shares if p > 0)) + 0.0


def for_a_person(entropies: FloatArray, share: float = 0.2) -> np.ndarray:
    """Return positions of the ``share`` of pairs with the highest entropy, highest first (the paper's beta = 20 %)."""
    n = round(share * len(entropies))
    return np.argsort(-np.asarray(entropies), kind="stable")[:n]


@dataclass(frozen=True)
class PositionBias:
    """How often the first and the second place won, and how likely so uneven a split is by chance."""

    first: int
    tie: int
    second: int
    p: float

    def __str__(self) -> str:
        a, b = ("second", self.second) if self.second >= self.first else ("first", self.first)
        other = self.first if a == "second" else self.second
        return f"{a} position preferred {b}:{other} ({self.tie} ties, binomial p={self.p:.3f})"


def position_bias(scores: Sequence[Scores]) -> PositionBias:
    """Count wins by place; two-sided binomial test of an even split, ties left out.

    On a model against itself every win is position bias; on other pairs compare both orders first.
    """
    from scipy.stats import binomtest

    first, second = sum(a > b for a, b in scores), sum(a < b for a, b in scores)
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return PositionBias(first, len(scores) - first - second, second, p)


@dataclass(frozen=True)
class FairEvalOptions(Options):
    """How often and how a pair is scored.

    Parameters
    ----------
    samples
        k a order; with one sample the temperature should be 0.
    both_orders
        Balanced position calibration.
    evidence_first
        Multiple evidence calibration; False is the vanilla prompt (scores in the first line).
    """

    samples: int = 3
    both_orders: bool = True
    evidence_first: bool = True
    temperature: float = 1.0
    max_tokens: int = 512
    seed: int = 0


class FairEval(TextJudge):
    """Calibrated scores of two answers, as a preference."""

    name = "faireval"
    needs = (Capability.GENERATE,)
    options_type: ClassVar[type[Options]] = FairEvalOptions

    @property
    def calls_per_question(self) -> int:
        """Samples in each order."""
        return int(self.options.samples) * (2 if self.options.both_orders else 1)

    def _prompt(self, triple: Triple) -> Prompt:
        o, query, task = self.options, text_of(triple.query, self.name), task_of(triple)
        both = [text_of(triple.first.content, self.name), text_of(triple.second.content, self.name)]
        return self._fit(
            lambda c: prompts.pair_scores(task, query, c[0], c[1], evidence_first=o.evidence_first),
            both,
            reserve=o.max_tokens,
        )[0]

    def samples(self, triples: Sequence[Triple]) -> list[tuple[list[Scores], list[Scores]]]:
        """Return the usable score pairs of each triple, in the given order and swapped, as printed."""
        o = self.options
        swapped = [replace(t, first=t.second, second=t.first) for t in triples]
        out: list[tuple[list[Scores], list[Scores]]] = [([], []) for _ in triples]
        for side, questions in enumerate((list(triples), swapped if o.both_orders else [])):
            asked = [self._prompt(t) for t in questions]
            for k in range(o.samples if asked else 0):
                sampling = Sampling(o.max_tokens, o.temperature, o.seed + k)
                answers: Sequence[Completion] = self._spent(self.backend.generate(asked, sampling))
                for i, answer in enumerate(answers):
                    read = parse_pair_scores(answer.text)
                    if read.scores is None:
                        self.report[f"abstained: {read.reason}"] += 1
                    else:
                        out[i][side].append(read.scores)
        return out

    def prefer(self, triples: Sequence[Triple]) -> FloatArray:
        """Return 0.5 plus an eighteenth of the calibrated difference (scores span 9); 0.5 where all abstained."""
        out = np.full(len(triples), 0.5)
        for i, (forward, backward) in enumerate(self.samples(triples)):
            if forward or backward:
                a, b = calibrated_scores(forward, backward)
                out[i] = np.clip(0.5 + (a - b) / 18.0, 0.0, 1.0)
        return out

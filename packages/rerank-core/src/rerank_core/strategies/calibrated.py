"""Judges made fair: every question asked in swapped or shuffled order too, and the answers averaged.

Sources: balanced position calibration and multiple evidence calibration of FairEval (Wang et al., ACL 2024);
permutation self-consistency (Tang et al., NAACL 2024).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rerank_core.reranker import digest
from rerank_core.strategies.judges import Group, Order, Triple
from rerank_core.types import Cost, FloatArray, Status


@dataclass(frozen=True)
class PositionBalanced:
    """Asks in both orders and averages (FairEval's BPC); ``rounds`` repeats the pair of questions (MEC).

    For a pairwise judge the swapped order is (second, first); for a list, set or group judge it is the reverse.
    What is left of a position bias that does not depend on content cancels out.
    """

    judge: Any
    rounds: int = 1

    @property
    def name(self) -> str:
        """The inner name, marked."""
        return f"balanced({self.judge.name})"

    @property
    def cost(self) -> Cost:
        """The inner judge's running total."""
        return getattr(self.judge, "cost", Cost())

    @property
    def calls_per_question(self) -> int:
        """Two a round."""
        return 2 * self.rounds * getattr(self.judge, "calls_per_question", 1)

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("balanced", self.rounds, self.judge.fingerprint())

    def __getattr__(self, verb: str) -> Any:
        # A wrapper can do what its judge can do, and says so to hasattr().
        if verb in _WRAPPED and hasattr(self.judge, verb):
            return lambda questions: _WRAPPED[verb](self.judge, questions, [_orders(q, self.rounds) for q in questions])
        raise AttributeError(verb)


@dataclass(frozen=True)
class Shuffled:
    """Asks about ``rounds`` seeded random orders and averages (permutation self-consistency)."""

    judge: Any
    rounds: int = 3
    seed: int = 0

    @property
    def name(self) -> str:
        """The inner name, marked."""
        return f"shuffled({self.judge.name}, {self.rounds})"

    @property
    def cost(self) -> Cost:
        """The inner judge's running total."""
        return getattr(self.judge, "cost", Cost())

    @property
    def calls_per_question(self) -> int:
        """One a round."""
        return self.rounds * getattr(self.judge, "calls_per_question", 1)

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("shuffled", self.rounds, self.seed, self.judge.fingerprint())

    def __getattr__(self, verb: str) -> Any:
        if verb in _WRAPPED and hasattr(self.judge, verb):
            return lambda questions: _WRAPPED[verb](self.judge, questions, [self._draw(q) for q in questions])
        raise AttributeError(verb)

    def _draw(self, question: Group | Triple) -> list[list[int]]:
        # Seeded by the question itself, so that neither batch nor order of asking changes an answer.
        ids = [i.id for i in _items(question)]
        rng = np.random.default_rng([self.seed, int(digest(ids, str(question.query))[:8], 16)])
        return [rng.permutation(len(ids)).tolist() for _ in range(self.rounds)]


def _items(question: Group | Triple) -> tuple[Any, ...]:
    return (question.first, question.second) if isinstance(question, Triple) else question.items


def _orders(question: Group | Triple, rounds: int) -> list[list[int]]:
    n = len(_items(question))
    return [list(range(n)), list(range(n))[::-1]] * rounds


def _permuted(question: Any, order: Sequence[int]) -> Any:
    items = _items(question)
    if isinstance(question, Triple):
        return replace(question, first=items[order[0]], second=items[order[1]])
    return replace(question, items=tuple(items[p] for p in order))


def _ask(judge: Any, verb: str, questions: Sequence[Any], orders: list[list[list[int]]]) -> list[list[Any]]:
    flat = [_permuted(q, o) for q, mine in zip(questions, orders, strict=True) for o in mine]
    answers = list(getattr(judge, verb)(flat)) if flat else []
    out, at = [], 0
    for mine in orders:
        out.append(answers[at : at + len(mine)])
        at += len(mine)
    return out


def _prefer(judge: Any, questions: Sequence[Triple], orders: list[list[list[int]]]) -> FloatArray:
    out = []
    for mine, answers in zip(orders, _ask(judge, "prefer", questions, orders), strict=True):
        given = np.clip(np.array(answers, dtype=np.float64), 0.0, 1.0)
        votes = np.where([o[0] == 0 for o in mine], given, 1.0 - given)
        out.append(float(np.nanmean(votes)) if not np.isnan(votes).all() else np.nan)
    return np.array(out, dtype=np.float64)


def _order(judge: Any, questions: Sequence[Group], orders: list[list[list[int]]]) -> list[Order]:
    out = []
    for q, mine, answers in zip(questions, orders, _ask(judge, "order", questions, orders), strict=True):
        n = len(q.items)
        places, status = np.zeros(n), Status.OK
        for o, answer in zip(mine, answers, strict=True):
            status = status.worst(answer.status)
            valid = list(dict.fromkeys(p for p in answer.permutation if 0 <= p < n))
            valid += [p for p in range(n) if p not in set(valid)]
            for place, p in enumerate(valid):
                places[o[p]] += place
        order = sorted(range(n), key=lambda p: places[p])
        cost = sum((a.cost for a in answers), Cost())
        out.append(Order(tuple(order), status, tuple((-places / max(1, len(mine))).tolist()), cost))
    return out


def _choose(judge: Any, questions: Sequence[Group], orders: list[list[list[int]]]) -> np.ndarray:
    out = []
    for q, mine, answers in zip(questions, orders, _ask(judge, "choose", questions, orders), strict=True):
        votes = np.zeros(len(q.items))
        for o, answer in zip(mine, answers, strict=True):
            if 0 <= int(answer) < len(o):
                votes[o[int(answer)]] += 1
        # A tie goes to the item that stands first in the question: the parent in a heap, which keeps it.
        out.append(int(votes.argmax()) if votes.any() else -1)
    return np.array(out, dtype=np.int64)


def _score_groups(judge: Any, questions: Sequence[Group], orders: list[list[list[int]]]) -> list[FloatArray]:
    out = []
    for q, mine, answers in zip(questions, orders, _ask(judge, "score_groups", questions, orders), strict=True):
        rows = np.full((len(mine), len(q.items)), np.nan)
        for row, o, answer in zip(rows, mine, answers, strict=True):
            values = np.asarray(answer, dtype=np.float64).reshape(-1)
            if values.shape == (len(o),):
                row[o] = np.where(np.isfinite(values), values, np.nan)
        usable = ~np.isnan(rows).all(axis=0)
        scores = np.full(len(q.items), np.nan)
        scores[usable] = np.nanmean(rows[:, usable], axis=0)
        out.append(scores)
    return out


_WRAPPED: dict[str, Callable[..., Any]] = {
    "prefer": _prefer,
    "order": _order,
    "choose": _choose,
    "score_groups": _score_groups,
}

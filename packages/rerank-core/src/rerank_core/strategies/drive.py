"""Runs the asking programs of many requests in lockstep, so that a judge sees full batches, under one budget.

A strategy is written for one request, as a generator: it yields a list of questions, gets the list of answers, and
keeps ``state.order`` (positions of the candidates, best first) as good as it knows at any moment. The driver collects
the open questions of all requests into one judge call, counts calls, tokens and seconds, and, when the budget is
spent, stops asking and takes each request's order as it stands. A program that can use the answers that still came
catches [`BudgetSpent`][].
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from rerank_core.budget import Budget, Meter
from rerank_core.rendering import Rendering
from rerank_core.strategies.judges import Item
from rerank_core.types import Cost, Ranking, Request, Status

Program: TypeAlias = Generator[list[Any], list[Any], None]


class BudgetSpent(Exception):
    """Thrown into a program when the budget ends; ``answers`` are those to its first questions."""

    def __init__(self, answers: list[Any]) -> None:
        super().__init__("budget spent")
        self.answers = answers


@dataclass
class State:
    """What a program knows of one request.

    ``order`` holds candidate positions, best so far first. ``scores``, where a program sets it, holds one number a
    candidate in the request's order, to be reported beside the order.
    """

    query: Any
    items: tuple[Item, ...]
    instruction: str
    seed: int
    order: list[int] = field(default_factory=list)
    scores: np.ndarray | None = None
    status: Status = Status.OK
    cost: Cost = field(default_factory=Cost)

    @property
    def n(self) -> int:
        """Number of candidates."""
        return len(self.items)


def render(request: Request[Any, Any], rendering: Rendering[Any, Any], seed: int) -> State:
    """Render a request for a judge; the order starts as the first stage's."""
    first = request.first_stage()
    order = np.lexsort((np.arange(len(first)), -first))
    rank = np.empty(len(first), dtype=int)
    rank[order] = np.arange(len(first))
    items = tuple(Item(rendering.candidate(c), c.id, c.score, int(rank[i])) for i, c in enumerate(request.candidates))
    return State(rendering.query(request.query), items, rendering.instruction, seed, order.tolist())


def run_programs(
    requests: Sequence[Request[Any, Any]],
    rendering: Rendering[Any, Any],
    program: Callable[[State], Program],
    ask: Callable[[Sequence[Any]], Sequence[Any]],
    *,
    judge_cost: Callable[[], Cost] = Cost,
    calls_per_question: int = 1,
    budget: Budget | None = None,
    batch: int = 256,
    seed: int = 0,
) -> list[Ranking]:
    """Drive one program a request to its end, or to the end of the budget.

    Parameters
    ----------
    ask
        The judge: a list of questions in, a list of answers out. An exception ends the run.
    judge_cost
        The judge's running total; tokens are shared among the questions of a batch evenly.
    calls_per_question
        What one question costs in calls (a position-balanced judge asks twice).
    batch
        Most questions in one judge call.
    """
    meter = Meter(budget)
    states = [render(r, rendering, seed + i) for i, r in enumerate(requests)]
    running: dict[int, tuple[Program, list[Any]]] = {}
    for i, state in enumerate(states):
        if state.n:
            steps = program(state)
            with suppress(StopIteration):
                running[i] = steps, next(steps)
    while running:
        asked = [(i, q) for i, (_, questions) in running.items() for q in questions]
        answers: list[Any] = []
        for start in range(0, len(asked), batch):
            part = _affordable(asked[start : start + batch], meter, calls_per_question)
            if part:
                before = judge_cost()
                answers.extend(ask([q for _, q in part]))
                _charge(part, states, meter, judge_cost() - before, calls_per_question)
            if len(part) < len(asked[start : start + batch]):
                break
        running = _advance(running, answers, states)
    return [_finish(r, s) for r, s in zip(requests, states, strict=True)]


def _affordable(asked: list[tuple[int, Any]], meter: Meter, calls_per_question: int) -> list[tuple[int, Any]]:
    left = meter.left()
    if left.spent:
        return []
    return asked if left.calls is None else asked[: left.calls // calls_per_question]


def _charge(
    part: list[tuple[int, Any]], states: list[State], meter: Meter, spent: Cost, calls_per_question: int
) -> None:
    n = len(part)
    each = Cost(calls_per_question, spent.prompt_tokens // n, spent.output_tokens // n, spent.seconds / n)
    for i, _ in part:
        states[i].cost = states[i].cost + each
    meter.add(Cost(calls_per_question * n, spent.prompt_tokens, spent.output_tokens))


def _advance(
    running: dict[int, tuple[Program, list[Any]]], answers: list[Any], states: list[State]
) -> dict[int, tuple[Program, list[Any]]]:
    """Hand the answers out; a program whose questions were not all answered is stopped where it stands."""
    still: dict[int, tuple[Program, list[Any]]] = {}
    at = 0
    for i, (steps, questions) in running.items():
        mine = answers[at : at + len(questions)]
        at += len(questions)
        if len(mine) < len(questions):
            states[i].status = states[i].status.worst(Status.BUDGET)
            with suppress(StopIteration, BudgetSpent):
                steps.throw(BudgetSpent(mine))
            continue
        with suppress(StopIteration):
            still[i] = steps, steps.send(mine)
    return still


def _finish(request: Request[Any, Any], state: State) -> Ranking:
    ids = request.ids
    scores = None
    if state.scores is not None:
        scores = {i: float(x) for i, x in zip(ids, state.scores, strict=True)}
    return Ranking.from_order(
        request, [ids[j] for j in state.order], scores=scores, status=state.status, cost=state.cost
    )

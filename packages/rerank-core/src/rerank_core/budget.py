"""Budgets: how much a rerank may cost before the best order so far has to do."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TypeVar

from rerank_core.types import Cost

_N = TypeVar("_N", int, float)


@dataclass(frozen=True, slots=True)
class Budget:
    """Upper limits; None means no limit. ``tokens`` counts prompt and output together."""

    calls: int | None = None
    tokens: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if any(x is not None and x < 0 for x in (self.calls, self.tokens, self.seconds)):
            raise ValueError("a budget cannot be negative")

    def left_after(self, cost: Cost) -> Budget:
        """Return what is left of the budget after a cost; never below zero."""
        return Budget(
            None if self.calls is None else max(0, self.calls - cost.calls),
            None if self.tokens is None else max(0, self.tokens - cost.tokens),
            None if self.seconds is None else max(0.0, self.seconds - cost.seconds),
        )

    def smaller(self, other: Budget | None) -> Budget:
        """Return the tighter of two budgets, limit by limit."""
        if other is None:
            return self
        return Budget(
            _least(self.calls, other.calls), _least(self.tokens, other.tokens), _least(self.seconds, other.seconds)
        )

    @property
    def spent(self) -> bool:
        """Whether any limit has reached zero."""
        return self.calls == 0 or self.tokens == 0 or self.seconds == 0


class Meter:
    """Counts calls, tokens and seconds against a budget from the moment it is made."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self.cost = Cost()
        self._start = time.perf_counter()

    def add(self, cost: Cost) -> None:
        """Count a cost (its seconds are ignored: the meter has its own clock)."""
        self.cost = self.cost + replace(cost, seconds=0.0)

    @property
    def seconds(self) -> float:
        """Seconds since the meter was made."""
        return time.perf_counter() - self._start

    def left(self) -> Budget:
        """Return what is left now."""
        return self.budget.left_after(replace(self.cost, seconds=self.seconds))


def _least(a: _N | None, b: _N | None) -> _N | None:
    return b if a is None else a if b is None else min(a, b)

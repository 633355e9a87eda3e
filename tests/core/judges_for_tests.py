"""Judges whose answers are known, wrong or mad."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from rerank_core.domain import TextRendering
from rerank_core.strategies.judges import Group, Order, Pair, Triple
from rerank_core.types import Candidate, Cost, Request

TEXT = TextRendering("which is larger", str, lambda c: str(c.content))


def request(values, id="q", scores=None) -> Request:
    return Request(
        id,
        "?",
        tuple(Candidate(f"d{i}", v, None if scores is None else scores[i]) for i, v in enumerate(values)),
    )


def true_order(req: Request) -> list[str]:
    return [c.id for c in sorted(req.candidates, key=lambda c: -c.content)]


@dataclass
class Perfect:
    """Reads the number in the text; the larger the better."""

    name: str = "perfect"
    calls: int = 0
    batches: list[int] = field(default_factory=list)

    @property
    def cost(self) -> Cost:
        return Cost(self.calls, prompt_tokens=10 * self.calls, output_tokens=self.calls)

    def fingerprint(self) -> str:
        return "perfect"

    def _count(self, questions) -> None:
        self.calls += len(questions)
        self.batches.append(len(questions))

    def score(self, pairs: list[Pair]):
        self._count(pairs)
        return np.array([float(p.item.content) for p in pairs])

    def prefer(self, triples: list[Triple]):
        self._count(triples)
        return np.array([float(float(t.first.content) > float(t.second.content)) for t in triples])

    def choose(self, groups: list[Group]):
        self._count(groups)
        return np.array([int(np.argmax([float(i.content) for i in g.items])) for g in groups])

    def score_groups(self, groups: list[Group]):
        self._count(groups)
        return [np.array([float(i.content) for i in g.items]) for g in groups]

    def order(self, groups: list[Group]):
        self._count(groups)
        return [Order(tuple(np.argsort([-float(i.content) for i in g.items]).tolist())) for g in groups]


@dataclass
class FirstPlace(Perfect):
    """Always prefers what it reads first: pure position bias."""

    name: str = "first-place"

    def prefer(self, triples):
        return np.ones(len(triples))

    def choose(self, groups):
        return np.zeros(len(groups), dtype=int)

    def order(self, groups):
        return [Order(tuple(range(len(g.items)))) for g in groups]

    def score_groups(self, groups):
        return [-np.arange(len(g.items), dtype=float) for g in groups]


@dataclass
class Mad:
    """Answers from a seeded bag of nonsense: NaN, infinities, positions that do not exist, doubles, gaps."""

    seed: int = 0
    name: str = "mad"
    cost: Cost = field(default_factory=Cost)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def fingerprint(self) -> str:
        return f"mad{self.seed}"

    def _numbers(self, n: int):
        pool = np.array([math.nan, math.inf, -math.inf, 0.5, 0.0, 1.0, -3.0, 1e300])
        return np.where(self.rng.random(n) < 0.5, self.rng.choice(pool, n), self.rng.normal(size=n))

    def score(self, pairs):
        return self._numbers(len(pairs))

    def prefer(self, triples):
        return self._numbers(len(triples))

    def choose(self, groups):
        return self.rng.integers(-3, 12, len(groups))

    def score_groups(self, groups):
        return [self._numbers(self.rng.integers(0, len(g.items) + 2)) for g in groups]

    def order(self, groups):
        return [Order(tuple(self.rng.integers(-2, 15, self.rng.integers(0, 15)).tolist())) for _ in groups]

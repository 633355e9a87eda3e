"""Questions and scripted models that several test files use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rerank_core.strategies import Group, Item, Pair, Triple
from rerank_core.types import Cost
from rerank_lm.backends.base import Capability, Completion, Partial, Prompt, Sampling, TokenScores


class Scripted(Partial):
    """Answers what a test says: the only way to get a malformed answer on purpose."""

    name = "scripted"
    context = None
    capabilities = frozenset({Capability.GENERATE, Capability.NEXT_TOKEN, Capability.IMAGES})

    def __init__(
        self, texts: Sequence[str] | Callable[[Prompt], str] = (), *, finish: str = "stop", logits: Any = None
    ):
        self.texts, self.finish, self.logits = texts, finish, logits
        self.asked: list[Prompt] = []

    def fingerprint(self) -> str:
        return "scripted"

    def count(self, text: str) -> int:
        return len(text.split())

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        out = []
        for p in prompts:
            text = self.texts(p) if callable(self.texts) else self.texts[len(self.asked) % len(self.texts)]
            self.asked.append(p)
            out.append(Completion(text, self.finish, Cost(1, 10, 5)))  # type: ignore[arg-type]
        return out

    def next_token(self, prompts: Sequence[Prompt], tokens: Sequence[str]) -> list[TokenScores]:
        self.asked += prompts
        return [TokenScores(np.array(self.logits(p, tokens), dtype=float), Cost(1, 10, 0)) for p in prompts]


def group(query: str, *contents: str) -> Group:
    return Group(query, tuple(Item(c, str(i), -float(i), i) for i, c in enumerate(contents)), "Rank the passages.")


def pair(query: str, content: str) -> Pair:
    return Pair(query, Item(content, "d"), "Judge passages.")


def triple(query: str, first: str, second: str) -> Triple:
    return Triple(query, Item(first, "a"), Item(second, "b"), "Judge passages.")

"""What strategies ask and what judges answer.

A judge knows text or pictures, never a domain. It scores one candidate, compares two, scores a group, picks the best
of a few, or orders a few. Batches may mix requests; answers come back in the order of the questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from numpy.typing import NDArray

from rerank_core.rendering import Content, Picture
from rerank_core.types import Cost, FloatArray, Status

__all__ = [
    "Content",
    "Group",
    "GroupJudge",
    "Item",
    "Judge",
    "ListJudge",
    "Order",
    "Pair",
    "PairwiseJudge",
    "Picture",
    "PointwiseJudge",
    "SetJudge",
    "Triple",
]


@dataclass(frozen=True, slots=True)
class Item:
    """A rendered candidate. ``score`` and ``rank`` (0-based) are the first stage's."""

    content: Content
    id: str = ""
    score: float | None = None
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Pair:
    """One query and one candidate: how relevant?"""

    query: Content
    item: Item
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class Triple:
    """One query and two candidates: which is better?"""

    query: Content
    first: Item
    second: Item
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """One query and a few candidates, in the order in which the judge is to see them."""

    query: Content
    items: tuple[Item, ...]
    instruction: str = ""


@dataclass(frozen=True, slots=True)
class Order:
    """A list judge's answer: positions of the group's items, best first (a permutation of range(n))."""

    permutation: tuple[int, ...]
    status: Status = Status.OK
    scores: tuple[float, ...] | None = None  # in the group's order, where the judge has any
    cost: Cost = field(default_factory=Cost)


class Judge(Protocol):
    """What all judges have. ``cost`` is a running total since the judge was made."""

    @property
    def name(self) -> str: ...

    @property
    def cost(self) -> Cost: ...

    def fingerprint(self) -> str: ...


@runtime_checkable
class PointwiseJudge(Judge, Protocol):
    """Scores candidates one by one."""

    def score(self, pairs: Sequence[Pair]) -> FloatArray:
        """Return shape (n_pairs,), higher is better."""
        ...


@runtime_checkable
class PairwiseJudge(Judge, Protocol):
    """Compares two candidates."""

    def prefer(self, triples: Sequence[Triple]) -> FloatArray:
        """Return P(first is better), shape (n_triples,); 0.5 is a tie."""
        ...


@runtime_checkable
class SetJudge(Judge, Protocol):
    """Picks the best of a few candidates."""

    def choose(self, groups: Sequence[Group]) -> NDArray:
        """Return the position of the best item of each group, shape (n_groups,); -1 where the answer was unusable."""
        ...


@runtime_checkable
class GroupJudge(Judge, Protocol):
    """Scores a few candidates together."""

    def score_groups(self, groups: Sequence[Group]) -> list[FloatArray]:
        """Return one array of shape (n_items,) a group, higher is better; all NaN where the answer was unusable."""
        ...


@runtime_checkable
class ListJudge(Judge, Protocol):
    """Orders a few candidates."""

    def order(self, groups: Sequence[Group]) -> list[Order]:
        """Return one order a group."""
        ...

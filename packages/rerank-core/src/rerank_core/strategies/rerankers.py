"""The strategies as rerankers: a judge, a rendering, and a way of asking.

Each takes a judge and a domain's rendering, honours a budget (best order so far, status ``budget``), is seeded where
it draws at random, and reports calls and tokens in each ranking's cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from rerank_core.budget import Budget
from rerank_core.rendering import Rendering
from rerank_core.reranker import digest
from rerank_core.strategies import programs
from rerank_core.strategies.drive import Program, State, run_programs
from rerank_core.strategies.judges import GroupJudge, ListJudge, PairwiseJudge, PointwiseJudge, SetJudge
from rerank_core.types import Cost, Ranking, Request

DEEP = 1 << 30  # no limit on the depth


@dataclass(frozen=True)
class Strategy:
    """What all strategies share.

    Parameters
    ----------
    depth
        Only the first ``depth`` candidates are asked about; the rest keep their order below.
    batch
        Most questions in one judge call.
    """

    judge: Any
    rendering: Rendering[Any, Any]
    depth: int = DEEP
    batch: int = 256
    seed: int = 0
    budget: Budget | None = None

    verb: ClassVar[str] = ""
    kind: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not hasattr(self.judge, self.verb):
            raise TypeError(f"{self.kind} needs a judge with {self.verb}(); {self.judge!r} has none")

    @property
    def name(self) -> str:
        """Strategy and judge."""
        return f"{self.kind}[{self.judge.name}]"

    def within(self, budget: Budget) -> Strategy:
        """Bind a budget."""
        return replace(self, budget=budget.smaller(self.budget))

    def fingerprint(self) -> str:
        """Return the digest of judge, rendering and settings."""
        settings = {k: v for k, v in vars(self).items() if k not in ("judge", "rendering", "budget", "batch")}
        return digest(self.kind, settings, self.judge.fingerprint(), rendering_print(self.rendering))

    def program(self, state: State) -> Program:
        """Return the asking program of one request."""
        raise NotImplementedError

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Ask the judge about all requests in lockstep."""
        ask: Callable[[Sequence[Any]], Sequence[Any]] = getattr(self.judge, self.verb)
        return run_programs(
            requests,
            self.rendering,
            self.program,
            ask,
            judge_cost=lambda: getattr(self.judge, "cost", Cost()),
            calls_per_question=getattr(self.judge, "calls_per_question", 1),
            budget=self.budget,
            batch=self.batch,
            seed=self.seed,
        )


def rendering_print(rendering: Rendering[Any, Any]) -> str:
    """Return what names a rendering: its type, instruction and functions."""
    functions = [getattr(rendering, n, None) for n in ("render_query", "render_candidate")]
    return digest(
        type(rendering).__qualname__, rendering.instruction, [getattr(f, "__qualname__", "") for f in functions]
    )


@dataclass(frozen=True)
class Pointwise(Strategy):
    """Scores every candidate by itself: n calls, one batch."""

    judge: PointwiseJudge
    verb: ClassVar[str] = "score"
    kind: ClassVar[str] = "pointwise"

    def program(self, state: State) -> Program:
        """Ask about every candidate."""
        return programs.pointwise(state, self.depth)


@dataclass(frozen=True)
class AllPairs(Strategy):
    """Compares every pair: n(n - 1)/2 calls, twice that with ``both_orders``. ``copeland`` counts wins, not degrees."""

    judge: PairwiseJudge
    copeland: bool = False
    both_orders: bool = False
    verb: ClassVar[str] = "prefer"
    kind: ClassVar[str] = "all-pairs"

    def program(self, state: State) -> Program:
        """Ask about every pair."""
        return programs.all_pairs(state, self.depth, self.copeland, self.both_orders)


@dataclass(frozen=True)
class HeapSort(Strategy):
    """Finds the best ``k`` by heap sort over comparisons: about 2n + 2k log2 n calls."""

    judge: PairwiseJudge
    k: int = 10
    verb: ClassVar[str] = "prefer"
    kind: ClassVar[str] = "heap-sort"

    def program(self, state: State) -> Program:
        """Heapify and pop."""
        return programs.heap_sort(state, self.depth, self.k)


@dataclass(frozen=True)
class BubbleSort(Strategy):
    """Finds the best ``k`` by ``k`` bubble passes: at most k n calls."""

    judge: PairwiseJudge
    k: int = 10
    verb: ClassVar[str] = "prefer"
    kind: ClassVar[str] = "bubble-sort"

    def program(self, state: State) -> Program:
        """Bubble up."""
        return programs.bubble_sort(state, self.depth, self.k)


@dataclass(frozen=True)
class Setwise(Strategy):
    """Finds the best ``k`` by heap sort whose question picks the best of ``arity + 1``: about n/c + k log_c n calls."""

    judge: SetJudge
    k: int = 10
    arity: int = 2
    verb: ClassVar[str] = "choose"
    kind: ClassVar[str] = "setwise"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.arity < 1:
            raise ValueError("arity must be at least 1")

    def program(self, state: State) -> Program:
        """Heapify and pop."""
        return programs.setwise(state, self.depth, self.k, self.arity)


@dataclass(frozen=True)
class SlidingWindow(Strategy):
    """Orders windows from the back to the front: n = 100, size 20, stride 10 makes 9 calls."""

    judge: ListJudge
    size: int = 20
    stride: int = 10
    passes: int = 1
    verb: ClassVar[str] = "order"
    kind: ClassVar[str] = "sliding-window"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.stride <= self.size:
            raise ValueError("the stride must lie between 1 and the window's size")

    def program(self, state: State) -> Program:
        """Slide."""
        return programs.sliding_window(state, self.depth, self.size, self.stride, self.passes)


@dataclass(frozen=True)
class Groupwise(Strategy):
    """Scores groups of at most ``size`` independently and merges: n / size calls, one batch."""

    judge: GroupJudge
    size: int = 10
    interleaved: bool = False
    anchors: int = 0
    retry: bool = True
    verb: ClassVar[str] = "score_groups"
    kind: ClassVar[str] = "groupwise"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.anchors < self.size:
            raise ValueError("anchors must be fewer than a group's size")

    def program(self, state: State) -> Program:
        """Score the groups."""
        return programs.groupwise(state, self.depth, self.size, self.interleaved, self.anchors, self.retry)


@dataclass(frozen=True)
class Tournament(Strategy):
    """Groups play, the best ``keep`` of each go on, points add up over ``rounds`` seeded tournaments."""

    judge: ListJudge
    size: int = 10
    keep: int = 5
    rounds: int = 2
    verb: ClassVar[str] = "order"
    kind: ClassVar[str] = "tournament"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.keep <= self.size // 2:
            raise ValueError("keep must lie between 1 and half the size, or a stage would send nobody home")

    def program(self, state: State) -> Program:
        """Play."""
        return programs.tournament(state, self.depth, self.size, self.keep, self.rounds)

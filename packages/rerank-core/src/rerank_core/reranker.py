"""The reranker protocol and the combinators that make rerankers out of rerankers.

A reranker sees many requests at once, so that a model can fill its batches across them. Everything here works with
any object that has ``name``, ``rerank(requests)`` and ``fingerprint()``; no base class is needed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rerank_core.budget import Budget, Meter
from rerank_core.types import Cost, FloatArray, Ranking, Request, Status


@runtime_checkable
class Reranker(Protocol):
    """Anything that reorders candidates.

    ``rerank`` returns one ranking a request, in the order of the requests. ``fingerprint`` names configuration and
    weights: two rerankers with the same fingerprint give the same rankings, so it keys caches and checkpoints.
    """

    @property
    def name(self) -> str: ...

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]: ...

    def fingerprint(self) -> str: ...


@runtime_checkable
class Budgeted(Protocol):
    """A reranker that can stop in the middle and return its best order so far."""

    def within(self, budget: Budget) -> Reranker:
        """Return the same reranker bound to a budget for its next ``rerank`` call."""
        ...


def within(reranker: Reranker, budget: Budget | None) -> Reranker:
    """Bind a budget where the reranker can honour one; otherwise return it unchanged."""
    if budget is not None and isinstance(reranker, Budgeted):
        return reranker.within(budget)
    return reranker


def digest(*parts: object) -> str:
    """Return a short hex digest of configuration values; dataclasses, arrays and nested containers are welcome."""
    h = hashlib.sha256()
    for part in parts:
        h.update(json.dumps(part, sort_keys=True, default=_plain, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        h.update(b"\x00")
    return h.hexdigest()[:32]


def _plain(x: Any) -> Any:
    if is_dataclass(x) and not isinstance(x, type):
        return {"__type__": type(x).__name__, **asdict(x)}
    if isinstance(x, np.ndarray):
        return {
            "dtype": str(x.dtype),
            "shape": x.shape,
            "sha": hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest(),
        }
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, Mapping):
        return dict(x)
    if isinstance(x, (set, frozenset)):
        return sorted(x, key=repr)
    if isinstance(x, bytes):
        return hashlib.sha256(x).hexdigest()
    return repr(x)


class FirstStage:
    """Keeps the first-stage order: the baseline every other reranker is compared with."""

    name = "first"

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Return the candidates as they came."""
        return [Ranking.from_scores(r, r.first_stage()) for r in requests]

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("first")


@dataclass(frozen=True)
class Scores:
    """A reranker out of a function that scores.

    Parameters
    ----------
    score
        ``score(requests) -> list of arrays``, one of shape (n_candidates,) a request, higher is better.
    config
        Everything that changes the scores; goes into the fingerprint.
    """

    name: str
    score: Callable[[Sequence[Request[Any, Any]]], Sequence[FloatArray]]
    config: object = None

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Score and sort."""
        return [Ranking.from_scores(r, s) for r, s in zip(requests, self.score(requests), strict=True)]

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("scores", self.name, self.config)


class Chain:
    """Rerankers one after the other; each sees the order and the scores of the one before.

    Under a budget each stage gets what the stages before it left.
    """

    def __init__(self, *stages: Reranker, budget: Budget | None = None) -> None:
        if not stages:
            raise ValueError("a chain needs at least one reranker")
        self.stages, self._budget = stages, budget

    @property
    def name(self) -> str:
        """The stages' names joined by ``>>``."""
        return " >> ".join(s.name for s in self.stages)

    def within(self, budget: Budget) -> Chain:
        """Bind a budget."""
        return Chain(*self.stages, budget=budget)

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Run the stages in turn."""
        meter = Meter(self._budget)
        current = list(requests)
        total: list[Ranking] = []
        for stage in self.stages:
            rankings = within(stage, meter.left() if self._budget else None).rerank(current)
            meter.add(sum((r.cost for r in rankings), Cost()))
            current = [ranking.apply(request) for ranking, request in zip(rankings, current, strict=True)]
            total = [_after(b, a) for a, b in zip(total, rankings, strict=True)] if total else list(rankings)
        return total

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("chain", [s.fingerprint() for s in self.stages])


class Top:
    """Reranks the first ``k`` candidates and leaves the rest, in its order, below them."""

    def __init__(self, k: int, reranker: Reranker) -> None:
        if k < 1:
            raise ValueError("k must be at least 1")
        self.k, self.reranker = k, reranker

    @property
    def name(self) -> str:
        """The inner name with the depth."""
        return f"{self.reranker.name}@{self.k}"

    def within(self, budget: Budget) -> Top:
        """Bind a budget."""
        return Top(self.k, within(self.reranker, budget))

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Rerank the heads; tail scores are placed below the lowest head score."""
        heads = [replace(r, candidates=r.candidates[: self.k]) for r in requests]
        return [_with_tail(r, head) for r, head in zip(requests, self.reranker.rerank(heads), strict=True)]

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("top", self.k, self.reranker.fingerprint())


def _with_tail(request: Request[Any, Any], head: Ranking) -> Ranking:
    scores = {r.id: r.score for r in head.items if r.score is not None}
    floor = min(scores.values(), default=0.0)
    ids = head.ids
    tail = [c.id for c in request.candidates if c.id not in set(ids)]
    scores.update((i, floor - 1.0 - rank) for rank, i in enumerate(tail))
    reasons = {r.id: r.reason for r in head.items if r.reason is not None}
    return Ranking.from_order(
        request, [*ids, *tail], scores=scores, status=head.status, cost=head.cost, reasons=reasons
    )


def _after(later: Ranking, earlier: Ranking) -> Ranking:
    return replace(later, cost=earlier.cost + later.cost, status=later.status.worst(earlier.status))


class Fuse:
    """Fuses the rankings of several rerankers over the same candidates.

    Parameters
    ----------
    rerankers
        At least one.
    method
        A fusion of [`rerank_core.fusion`][], by name (``rrf``, ``zscore``, ``minmax``, ``borda``, ``combsum``,
        ``combmnz``, ``head``).
    weights
        One a reranker, by default equal.
    """

    def __init__(
        self,
        rerankers: Sequence[Reranker],
        method: str = "rrf",
        *,
        weights: Sequence[float] | None = None,
        budget: Budget | None = None,
        **options: Any,
    ) -> None:
        from rerank_core.fusion import FUSIONS

        if method not in FUSIONS:
            raise ValueError(f"unknown fusion {method!r}; known: {', '.join(sorted(FUSIONS))}")
        if not rerankers:
            raise ValueError("fusion needs at least one reranker")
        self.rerankers, self.method, self.weights, self.options = tuple(rerankers), method, weights, options
        self._budget = budget

    @property
    def name(self) -> str:
        """Method and inner names."""
        return f"{self.method}({', '.join(r.name for r in self.rerankers)})"

    def within(self, budget: Budget) -> Fuse:
        """Bind a budget."""
        return Fuse(self.rerankers, self.method, weights=self.weights, budget=budget, **self.options)

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Run every reranker and fuse request by request."""
        from rerank_core.fusion import fuse

        meter = Meter(self._budget)
        lists: list[list[Ranking]] = []
        for reranker in self.rerankers:
            lists.append(within(reranker, meter.left() if self._budget else None).rerank(requests))
            meter.add(sum((r.cost for r in lists[-1]), Cost()))
        fused = []
        for request, *rankings in zip(requests, *lists, strict=True):
            runs = [{x.id: x.score for x in r.items if x.score is not None} for r in rankings]
            scores = fuse(runs, self.method, weights=self.weights, **self.options)
            fused.append(
                Ranking.from_scores(
                    request,
                    [scores.get(i, np.nan) for i in request.ids],
                    status=Status.OK.worst(*(r.status for r in rankings)),
                    cost=sum((r.cost for r in rankings), Cost()),
                )
            )
        return fused

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("fuse", self.method, self.weights, self.options, [r.fingerprint() for r in self.rerankers])

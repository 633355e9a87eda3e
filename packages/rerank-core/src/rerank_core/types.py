"""The values everything else speaks: candidates, requests, rankings, gold.

A ranking is always a permutation of its request's candidates: nothing lost, nothing invented, nothing twice.
That promise is kept here and nowhere else: [`Ranking.from_scores`][] and [`Ranking.from_order`][] build the
permutation themselves, and ``Ranking`` refuses repeated ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Q = TypeVar("Q")
C = TypeVar("C")

FloatArray: TypeAlias = NDArray[np.float64]

EMPTY: Mapping[str, float] = MappingProxyType({})

Gold: TypeAlias = Mapping[str, Mapping[str, float]]
"""Request id -> candidate id -> gain (higher is better). It never travels with a request."""


class Status(StrEnum):
    """How a ranking came about, from best to worst."""

    OK = "ok"
    REPAIRED = "repaired"  # the reranker's answer had gaps, doubles or NaN that were mended
    TRUNCATED = "truncated"  # some input was cut to fit the model
    BUDGET = "budget"  # the budget was spent; best order so far
    FALLBACK = "fallback"  # nothing usable came back; first-stage order

    def worst(self, *others: Status) -> Status:
        """Return the worst of this status and the others."""
        return max((self, *others), key=_SEVERITY.__getitem__)


_SEVERITY = {status: i for i, status in enumerate(Status)}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a ranking cost. Costs add up with ``+``."""

    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            self.seconds + other.seconds,
        )

    def __sub__(self, other: Cost) -> Cost:
        return Cost(
            self.calls - other.calls,
            self.prompt_tokens - other.prompt_tokens,
            self.output_tokens - other.output_tokens,
            self.seconds - other.seconds,
        )

    @property
    def tokens(self) -> int:
        """Prompt and output tokens together."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Candidate(Generic[C]):
    """One thing that may be put on top.

    Parameters
    ----------
    id
        Unique within its request.
    content
        What the domain ranks: a passage, a program, a column, a peptide, a vector row.
    score
        First-stage score, higher is better, or None where the first stage gave only an order.
    features
        Named, finite numbers that a learned reranker may use.
    """

    id: str
    content: C
    score: float | None = None
    features: Mapping[str, float] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, slots=True)
class Request(Generic[Q, C]):
    """A query and its candidates in first-stage order.

    Parameters
    ----------
    group
        Requests that only make sense together (all columns of one table pair) share a group; the engine never
        cuts a batch inside one.

    Raises
    ------
    ValueError
        When two candidates share an id.
    """

    id: str
    query: Q
    candidates: tuple[Candidate[C], ...]
    group: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.candidates, tuple):
            object.__setattr__(self, "candidates", tuple(self.candidates))
        if len({c.id for c in self.candidates}) != len(self.candidates):
            raise ValueError(f"request {self.id!r}: candidate id {_first_double(self.ids)!r} occurs twice")

    @property
    def ids(self) -> list[str]:
        """Candidate ids in first-stage order."""
        return [c.id for c in self.candidates]

    def first_stage(self) -> FloatArray:
        """First-stage scores, shape (n_candidates,); where any is missing, ``-rank`` of the given order instead."""
        if all(c.score is not None for c in self.candidates):
            return np.array([c.score for c in self.candidates], dtype=np.float64)
        return -np.arange(len(self.candidates), dtype=np.float64)

    def take(self, ids: Iterable[str], scores: Mapping[str, float | None] | None = None) -> Request[Q, C]:
        """Return the request with only the named candidates, in that order, optionally with new scores."""
        by_id = {c.id: c for c in self.candidates}
        chosen = [by_id[i] for i in ids]
        if scores is not None:
            chosen = [replace(c, score=scores.get(c.id)) for c in chosen]
        return replace(self, candidates=tuple(chosen))


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate's place in a ranking. ``score`` is None where the reranker gave none (or NaN)."""

    id: str
    score: float | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """A permutation of a request's candidates, best first.

    Make one with [`from_scores`][rerank_core.types.Ranking.from_scores] or
    [`from_order`][rerank_core.types.Ranking.from_order]; both give a permutation whatever they are given.

    Raises
    ------
    ValueError
        When an id occurs twice.
    """

    id: str
    items: tuple[Ranked, ...]
    status: Status = Status.OK
    cost: Cost = field(default_factory=Cost)

    def __post_init__(self) -> None:
        if len({r.id for r in self.items}) != len(self.items):
            raise ValueError(f"ranking {self.id!r}: candidate id {_first_double(self.ids)!r} occurs twice")

    @property
    def ids(self) -> list[str]:
        """Candidate ids, best first."""
        return [r.id for r in self.items]

    @classmethod
    def from_scores(
        cls,
        request: Request[Q, C],
        scores: ArrayLike,
        *,
        status: Status = Status.OK,
        cost: Cost | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> Ranking:
        """Sort a request's candidates by score.

        Parameters
        ----------
        scores
            Shape (n_candidates,), higher is better, in the request's order. NaN goes last and gets no score; ties
            keep the first-stage order.

        Raises
        ------
        ValueError
            When there are not exactly as many scores as candidates.
        """
        values = np.asarray(scores, dtype=np.float64).reshape(-1)
        n = len(request.candidates)
        if values.shape != (n,):
            raise ValueError(f"request {request.id!r}: {values.size} scores for {n} candidates")
        missing = np.isnan(values)
        keys = np.where(missing, -np.inf, values)
        order = np.lexsort((np.arange(n), -keys, missing))
        why = reasons or {}
        items = tuple(
            Ranked(
                request.candidates[i].id,
                _finite(float(values[i])),
                why.get(request.candidates[i].id),
            )
            for i in order
        )
        if missing.any():
            status = status.worst(Status.REPAIRED)
        return cls(request.id, items, status, cost or Cost())

    @classmethod
    def from_order(
        cls,
        request: Request[Q, C],
        ids: Iterable[str],
        *,
        scores: Mapping[str, float] | None = None,
        status: Status = Status.OK,
        cost: Cost | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> Ranking:
        """Put candidates in the named order; mend what is wrong with it and say so in the status.

        Parameters
        ----------
        ids
            Best first. Unknown ids are dropped, repeated ones count once, missing ones follow in first-stage order;
            each of these makes the status at least ``repaired``.
        scores
            Scores to report; by default n, n - 1, ..., 1 down the ranking.
        """
        known = {c.id for c in request.candidates}
        seen: dict[str, None] = {}
        given = 0
        for i in ids:
            given += 1
            if i in known:
                seen.setdefault(i)
        mended = given != len(seen) or len(seen) != len(known)
        order = [*seen, *(c.id for c in request.candidates if c.id not in seen)]
        n, why = len(order), reasons or {}
        items = tuple(
            Ranked(i, _finite(scores.get(i)) if scores is not None else float(n - rank), why.get(i))
            for rank, i in enumerate(order)
        )
        return cls(request.id, items, status.worst(Status.REPAIRED) if mended else status, cost or Cost())

    def apply(self, request: Request[Q, C]) -> Request[Q, C]:
        """Return the request with its candidates in this ranking's order and with its scores."""
        if set(self.ids) != set(request.ids):
            raise ValueError(f"ranking {self.id!r} is not a permutation of request {request.id!r}")
        return request.take(self.ids, {r.id: r.score for r in self.items})

    def scores_for(self, request: Request[Q, C]) -> FloatArray:
        """Scores in the request's order, shape (n_candidates,); NaN where there is none."""
        by_id = {r.id: r.score for r in self.items}
        return np.array([math.nan if by_id[i] is None else by_id[i] for i in request.ids], dtype=np.float64)


@dataclass(frozen=True)
class Dataset(Generic[Q, C]):
    """Requests with their truth, kept apart.

    Parameters
    ----------
    gold
        Gains; a request or candidate that is not in it has gain 0.
    splits
        Request id -> the thing never to be split inside (database, dialogue, document, protein). A request that is
        not in it is a split of its own.
    name
        Where it comes from, shown in tables.
    """

    requests: Sequence[Request[Q, C]]
    gold: Gold
    splits: Mapping[str, str] = field(default_factory=dict)
    name: str = ""

    def __post_init__(self) -> None:
        ids = [r.id for r in self.requests]
        if len(set(ids)) != len(ids):
            raise ValueError(f"dataset {self.name!r}: request id {_first_double(ids)!r} occurs twice")

    def group_of(self, request_id: str) -> str:
        """Return the split group of a request."""
        return self.splits.get(request_id, request_id)

    def only(self, ids: Iterable[str]) -> Dataset[Q, C]:
        """Return the part of the dataset that holds the named requests."""
        keep = set(ids)
        return replace(self, requests=[r for r in self.requests if r.id in keep])


def _finite(x: float | None) -> float | None:
    """Return a number that JSON can hold: NaN becomes None, infinities the largest finite numbers."""
    return None if x is None or math.isnan(x) else min(max(float(x), -1e308), 1e308)


def _first_double(ids: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for i in ids:
        if i in seen:
            return i
        seen.add(i)
    return None

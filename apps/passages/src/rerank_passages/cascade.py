"""A cascade: cheap signals first, the cross-encoder where it can still change the top, stop when the top is settled.

Per query: the first stage and a distilled student (word overlap and static word vectors, no transformer), then perhaps the
bi-encoder for the best of those, then the cross-encoder in rounds down the cheap order. After a round that changed nothing in
the head, the head is settled.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rerank_core.budget import Budget
from rerank_core.reranker import FirstStage, digest
from rerank_core.types import Cost, FloatArray, Ranking, Request, Status
from rerank_passages.quite import Compressed, QuiteParams
from rerank_passages.scorers import PairScorer


class Cheap(Protocol):
    """Scores all candidates of requests at next to no cost."""

    def scores(self, requests: Sequence[Request[str, str]]) -> list[FloatArray]: ...

    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class CascadeParams:
    """Depths of the stages and the stopping rule.

    Parameters
    ----------
    bi_depth
        Candidates that the bi-encoder reads, by the student's order; 0 leaves it out.
    cross_depth
        Candidates that the cross-encoder reads at most.
    round_size
        Candidates a round of the cross-encoder.
    top
        The ranking's head that has to be settled.
    bi
        Weight of the bi-encoder beside the student in the cheap score (z-scores per query).
    patience
        Stop after so many rounds that changed nothing in the head.
    words
        The cross-encoder reads a query-dependent summary (QUITE) of at most so many words; 0 lets it read all.
    """

    bi_depth: int = 0
    cross_depth: int = 30
    round_size: int = 10
    top: int = 10
    bi: float = 2.0
    patience: int = 1
    words: int = 40


class Cascade:
    """Student, bi-encoder, cross-encoder; each reads only what the one before left open."""

    name = "cascade"

    def __init__(
        self,
        student: Cheap,
        bi: PairScorer,
        cross: PairScorer,
        params: CascadeParams | None = None,
        *,
        budget: Budget | None = None,
    ) -> None:
        self.student, self.bi, self.cross, self.params = student, bi, cross, params or CascadeParams()
        self._budget = budget

    def within(self, budget: Budget) -> Cascade:
        """Bind a budget; it limits the rounds of the cross-encoder."""
        return Cascade(self.student, self.bi, self.cross, self.params, budget=budget)

    def rerank(self, requests: Sequence[Request[str, str]]) -> list[Ranking]:
        """Rerank; every round reads the open queries together, so that batches stay full."""
        start, p = time.perf_counter(), self.params
        calls, tokens = np.zeros(len(requests), dtype=np.int64), np.zeros(len(requests), dtype=np.int64)
        cut = np.zeros(len(requests), dtype=bool)

        read = self._shortened(requests)

        def ask(scorer: PairScorer, jobs: list[tuple[int, int]]) -> dict[tuple[int, int], float]:
            if not jobs:
                return {}
            source = read if scorer is self.cross else requests
            done = scorer.score([(source[i].query, source[i].candidates[j].content) for i, j in jobs])
            for (i, _), truncated, n in zip(jobs, done.truncated, done.tokens, strict=True):
                cut[i] |= bool(truncated)
                if n:
                    calls[i], tokens[i] = calls[i] + 1, tokens[i] + n
            return dict(zip(jobs, done.scores.tolist(), strict=True))

        cheap = [_z(x) for x in self.student.scores(requests)]
        jobs = [(i, int(j)) for i, s in enumerate(cheap) for j in np.argsort(-s, kind="stable")[: p.bi_depth]]
        near = ask(self.bi, jobs)
        for i, s in enumerate(cheap):
            by_bi = [j for a, j in jobs if a == i]
            if by_bi:
                s[by_bi] += p.bi * _z(np.array([near[i, j] for j in by_bi]))
                unread = np.setdiff1d(np.arange(len(s)), by_bi)
                s[unread] = (
                    s[unread] - s[unread].max(initial=-np.inf) + s[by_bi].min() - 1 if len(unread) else s[unread]
                )
        exact, stopped = self._rounds(requests, cheap, ask, start, calls, tokens)
        seconds = (time.perf_counter() - start) / max(1, len(requests))
        out = []
        for i, (r, s) in enumerate(zip(requests, cheap, strict=True)):
            status = Status.TRUNCATED if cut[i] else Status.OK
            status = status.worst(Status.BUDGET) if stopped else status
            cost = Cost(int(calls[i]), int(tokens[i]), 0, seconds)
            out.append(Ranking.from_scores(r, _combine(s, exact[i]), status=status, cost=cost))
        return out

    def _shortened(self, requests: Sequence[Request[str, str]]) -> Sequence[Request[str, str]]:
        """Return requests with the summaries that the cross-encoder is to read."""
        if not self.params.words:
            return requests
        quite = Compressed(FirstStage(), QuiteParams(words=self.params.words))
        return [quite.shorten(r) for r in requests]

    def _rounds(self, requests, cheap, ask, start, calls, tokens):
        """Let the cross-encoder read down the cheap order until every query's head is settled or the depth reached."""
        p, budget = self.params, self._budget or Budget()
        order = [np.argsort(-s, kind="stable")[: p.cross_depth] for s in cheap]
        exact: list[FloatArray] = [np.full(len(s), np.nan) for s in cheap]
        quiet = np.zeros(len(requests), dtype=np.int64)
        at, open_queries = 0, [i for i, o in enumerate(order) if len(o)]
        while open_queries:
            spent = Cost(int(calls.sum()), int(tokens.sum()), 0, time.perf_counter() - start)
            if budget.left_after(spent).spent:
                return exact, True
            heads = {i: _head(exact[i], p.top) for i in open_queries}
            # The head must be read in full before it can be settled.
            size = max(p.top, p.round_size) if at == 0 else p.round_size
            jobs = [(i, int(j)) for i in open_queries for j in order[i][at : at + size]]
            for (i, j), s in ask(self.cross, jobs).items():
                exact[i][j] = s
            at += size
            for i in open_queries:
                quiet[i] = quiet[i] + 1 if _head(exact[i], p.top) == heads[i] else 0
            open_queries = [i for i in open_queries if quiet[i] < p.patience and at < len(order[i])]
        return exact, False

    def fingerprint(self) -> str:
        """Return the digest of settings and scorers."""
        return digest(
            "cascade", self.params, self.student.fingerprint(), self.bi.fingerprint(), self.cross.fingerprint()
        )


def _head(exact: FloatArray, k: int) -> tuple[int, ...]:
    read = np.flatnonzero(~np.isnan(exact))
    return tuple(read[np.argsort(-exact[read], kind="stable")[:k]].tolist())


def _combine(cheap: FloatArray, exact: FloatArray) -> FloatArray:
    """Put what the cross-encoder read on top, by its score; below it the cheap order."""
    scores = cheap.copy()
    read = ~np.isnan(exact)
    if read.any():
        scores[read] = exact[read]
        if (~read).any():
            scores[~read] = cheap[~read] - cheap[~read].max() + exact[read].min() - 1.0
    return scores


def _z(x: FloatArray) -> FloatArray:
    return (x - x.mean()) / max(float(x.std()), 1e-9) if len(x) else x

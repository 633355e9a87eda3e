"""The named rerankers over requests: each works on one query and its candidate list alone, from any source."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.reranker import digest
from rerank_core.types import Cost, Ranking, Request
from rerank_image.arrays import Matrix, as_matrix, l2
from rerank_image.auto import choose
from rerank_image.explain import explain, sentence
from rerank_image.methods import method, score_all, split_settings, whitened
from rerank_image.photos import Photo
from rerank_image.superglobal import SuperGlobalParams


@dataclass(frozen=True)
class ArrayReranker:
    """A method on arrays as a reranker of requests.

    Parameters
    ----------
    name
        A name of [`METHODS`][rerank_image.methods.METHODS] or ``auto``, which chooses on all candidates of a batch.
    settings
        The method's parameters, ``whiten`` and ``power``.
    reasons
        Whether SuperGlobal's first ten results say which neighbours moved them.
    seed
        Of ``auto``.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    reasons: bool = False
    seed: int = 0

    def rerank(self, requests: Sequence[Request[Photo, Photo]]) -> list[Ranking]:
        """Score every request's candidates.

        Raises
        ------
        InputError
            When descriptors of one request have different sizes or are not finite.
        """
        if self.name == "auto":
            return self._auto(requests)
        return [self._one(r) for r in requests]

    def _auto(self, requests: Sequence[Request[Photo, Photo]]) -> list[Ranking]:
        distinct = {c.id: c.content.vector for r in requests for c in r.candidates}
        if len({len(v) for v in distinct.values()}) > 1:
            raise InputError("candidates have descriptors of different sizes: not from one extractor")
        if not distinct:
            return [Ranking.from_scores(r, []) for r in requests]
        choice = choose(l2(as_matrix(np.stack(list(distinct.values())))), seed=self.seed)
        return ArrayReranker(choice.method, {**choice.settings, **self.settings}).rerank(requests)

    def _one(self, request: Request[Photo, Photo]) -> Ranking:
        start = time.perf_counter()
        if not request.candidates:
            return Ranking.from_scores(request, [])
        query, candidates = vectors_of(request)
        dims, power, rest = split_settings(self.settings)
        if dims and len(candidates) > 2:
            query, candidates = whitened(query, candidates, dims, power)
        scores = score_all(self.name, query, candidates, rest)[0]
        reasons = self._reasons(query, candidates, scores, request, rest) if self.reasons else None
        cost = Cost(seconds=time.perf_counter() - start)
        return Ranking.from_scores(request, scores, cost=cost, reasons=reasons)

    def _reasons(
        self, query: Matrix, candidates: Matrix, scores: Matrix, request: Request[Photo, Photo], rest: Mapping[str, Any]
    ) -> dict[str, str]:
        if self.name != "superglobal":
            return {}
        ids = request.ids
        first = np.argsort(-scores, kind="stable")[:10]
        params = SuperGlobalParams(**rest)
        return {ids[i]: sentence(explain(query[0], candidates, int(i), params), ids) for i in first}

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        if self.name != "auto":
            method(self.name).configure(split_settings(self.settings)[2])
        return str(digest("image", self.name, dict(self.settings), self.reasons, self.seed))


def vectors_of(request: Request[Photo, Photo]) -> tuple[Matrix, Matrix]:
    """Return a request's query (1, d) and candidates (n, d), unit norm."""
    sizes = {len(c.content.vector) for c in request.candidates} | {len(request.query.vector)}
    if len(sizes) > 1:
        raise InputError(f"request {request.id!r}: descriptors of {sorted(sizes)} dimensions: not from one extractor")
    stacked = np.stack([c.content.vector for c in request.candidates])
    return l2(as_matrix(request.query.vector[None], f"request {request.id!r}")), l2(
        as_matrix(stacked, f"request {request.id!r}")
    )

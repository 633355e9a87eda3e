"""CUR as a reranker of candidate lists: the cross-encoder reads anchors, vectors predict the rest.

The known rows of the score matrix are the bi-encoder's dimensions over the candidates (every dimension is an anchor query
of a kind), since the exact scores of other queries for these very candidates are seldom at hand. With a true score matrix
use `anchors.search` directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.reranker import digest
from rerank_core.types import Cost, Ranking, Request, Status
from rerank_passages.anchors import CurParams, search
from rerank_passages.scorers import PairScorer


class CurReranker:
    """Reads ``budget`` candidates a query; those come first by their exact scores, the rest follow by predicted ones."""

    name = "cur"

    def __init__(self, cross: PairScorer, open_encoder: Callable[[], Any], params: CurParams, seed: int = 0) -> None:
        self.cross, self.params, self.seed = cross, params, seed
        self._open_encoder, self._encoder = open_encoder, None

    @property
    def encoder(self) -> Any:
        """The bi-encoder, loaded when first needed."""
        if self._encoder is None:
            self._encoder = self._open_encoder()
        return self._encoder

    def rerank(self, requests: Sequence[Request[str, str]]) -> list[Ranking]:
        """Rerank one query after the other."""
        texts = list({c.content: None for r in requests for c in r.candidates})
        vectors = self.encoder.encode(texts)
        place = {t: i for i, t in enumerate(texts)}
        return [self._rerank(r, vectors[[place[c.content] for c in r.candidates]]) for r in requests]

    def _rerank(self, request: Request[str, str], vectors: NDArray[np.float32]) -> Ranking:
        if not request.candidates:
            return Ranking.from_scores(request, [])
        start, tokens, cut = time.perf_counter(), 0, False

        def score(items: NDArray[np.int64]) -> NDArray[np.float64]:
            nonlocal tokens, cut
            done = self.cross.score([(request.query, request.candidates[i].content) for i in items])
            tokens, cut = tokens + int(done.tokens.sum()), cut or bool(done.truncated.any())
            return done.scores

        found = search(vectors.T, score, self.params, self.seed)
        scores = found.predicted.copy()
        rest = np.setdiff1d(np.arange(len(scores)), found.items)
        scores[found.items] = found.scores
        if len(rest):
            scores[rest] += found.scores.min() - 1 - scores[rest].max()
        cost = Cost(found.calls + len(scores), tokens, 0, time.perf_counter() - start)
        return Ranking.from_scores(request, scores, status=Status.TRUNCATED if cut else Status.OK, cost=cost)

    def fingerprint(self) -> str:
        """Return the digest of settings and encoders."""
        return digest("cur", self.params, self.seed, self.cross.fingerprint(), self.encoder.fingerprint())

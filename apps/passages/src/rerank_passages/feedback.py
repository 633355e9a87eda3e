"""Relevance feedback: the reranker's verdict moves the query vector, which then ranks again.

Two ways. ``rocchio`` adds the vectors of the documents the reranker likes, weighted by their score. ``distil`` follows the
relevance-feedback section of Reddy et al., "FIRST", EMNLP 2024: the query vector is optimised by Adam so that its scores
agree with the teacher's: first the distribution (KL divergence), then the order (weighted RankNet).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank_core.budget import Budget
from rerank_core.reranker import Reranker, digest, within
from rerank_core.types import Cost, FloatArray, Ranking, Request, Status

Vector = NDArray[np.floating]


def softmax(x: FloatArray) -> FloatArray:
    """Return weights that sum to 1; shape as given."""
    e = np.exp(x - x.max())
    return e / e.sum()


def rocchio(query: Vector, documents: Vector, scores: FloatArray, *, top: int = 5, weight: float = 0.5) -> FloatArray:
    """Move a query vector towards the best documents.

    Parameters
    ----------
    query
        Unit vector, shape (d,).
    documents
        Unit vectors, shape (n, d).
    scores
        The reranker's, shape (n,).
    top
        Documents that count as relevant, weighted by the softmax of their scores' z-values.

    Returns
    -------
    ndarray
        Unit vector, shape (d,).
    """
    best = np.argsort(-scores, kind="stable")[:top]
    z = (scores - scores.mean()) / max(float(scores.std()), 1e-9)
    moved = (1 - weight) * query + weight * softmax(z[best]) @ documents[best]
    return np.asarray(moved / max(float(np.linalg.norm(moved)), 1e-12), dtype=np.float64)


@dataclass(frozen=True)
class DistilParams:
    """Steps and rates of the optimisation."""

    rate: float = 0.005
    steps: int = 100


def distil(query: Vector, documents: Vector, teacher: FloatArray, params: DistilParams | None = None) -> FloatArray:
    """Optimise a query vector until its scores agree with the teacher's.

    Scores are ``gamma / 2 * q @ d``, where gamma makes the student's range that of the teacher. First KL(teacher || student)
    for ``steps`` at ``rate``, then weighted RankNet on the teacher's order for a fifth of the steps at a fifth of the rate.

    Returns
    -------
    ndarray
        Shape (d,), not scaled.
    """
    p = params or DistilParams()
    start = documents @ query
    spread = float(start.max() - start.min())
    gamma = float(teacher.max() - teacher.min()) / spread if spread > 0 else 1.0
    target = softmax(np.asarray(teacher, dtype=np.float64))
    rank = np.argsort(np.argsort(-teacher, kind="stable"), kind="stable") + 1.0
    better = teacher[:, None] > teacher[None]
    weight = np.where(better, 1 / (rank[:, None] + rank[None]), 0.0) / max(1, int(better.sum()))

    def kl(s: FloatArray) -> FloatArray:
        return softmax(s) - target

    def ranknet(s: FloatArray) -> FloatArray:
        pull = weight / (1 + np.exp(np.clip(s[:, None] - s[None], -50, 50)))
        return pull.sum(axis=0) - pull.sum(axis=1)

    q = np.asarray(query, dtype=np.float64)
    for gradient, rate, steps in ((kl, p.rate, p.steps), (ranknet, p.rate / 5, p.steps // 5)):
        m, v = np.zeros_like(q), np.zeros_like(q)
        for t in range(1, steps + 1):
            g = gamma / 2 * gradient(gamma / 2 * (documents @ q)) @ documents
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            q = q - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return q


class Feedback:
    """Rerank, move the query vector by the result, and blend its scores into the reranker's.

    Parameters
    ----------
    inner
        The reranker whose verdict counts.
    encoder
        Has ``encode`` and ``encode_queries`` (a `BiEncoder`).
    top, weight
        See `rocchio`.
    blend
        Share of the moved query's scores; both are z-scored per query first.
    """

    def __init__(
        self, inner: Reranker, encoder: object, *, top: int = 5, weight: float = 0.7, blend: float = 0.3
    ) -> None:
        self.inner, self.encoder, self.top, self.weight, self.blend = inner, encoder, top, weight, blend

    @property
    def name(self) -> str:
        """The inner name with ``+feedback``."""
        return f"{self.inner.name}+feedback"

    def within(self, budget: Budget) -> Feedback:
        """Bind a budget to the inner reranker."""
        return Feedback(within(self.inner, budget), self.encoder, top=self.top, weight=self.weight, blend=self.blend)

    def rerank(self, requests: Sequence[Request[str, str]]) -> list[Ranking]:
        """Rerank with feedback; a ranking that the budget cut short stays as it is."""
        encoder: object = self._open()
        first = self.inner.rerank(requests)
        texts = list({c.content: None for r in requests for c in r.candidates})
        place = {t: i for i, t in enumerate(texts)}
        vectors = encoder.encode(texts)  # type: ignore[attr-defined]
        queries = encoder.encode_queries([r.query for r in requests])  # type: ignore[attr-defined]
        out = []
        for request, ranking, query in zip(requests, first, queries, strict=True):
            scores = ranking.scores_for(request)
            if ranking.status is Status.BUDGET or len(scores) < 2 or np.isnan(scores).any():
                out.append(ranking)
                continue
            documents = vectors[[place[c.content] for c in request.candidates]]
            moved = documents @ rocchio(query, documents, scores, top=self.top, weight=self.weight)
            blended = (1 - self.blend) * _z(scores) + self.blend * _z(moved)
            cost = ranking.cost + Cost(calls=len(documents))
            out.append(Ranking.from_scores(request, blended, status=ranking.status, cost=cost))
        return out

    def _open(self) -> object:
        if callable(self.encoder):
            self.encoder = self.encoder()
        return self.encoder

    def fingerprint(self) -> str:
        """Return the digest of settings, encoder and inner reranker."""
        encoder = self._open()
        return digest("feedback", self.inner.fingerprint(), encoder.fingerprint(), self.top, self.weight, self.blend)  # type: ignore[attr-defined]


def _z(x: FloatArray) -> FloatArray:
    return (x - x.mean()) / max(float(x.std()), 1e-9)

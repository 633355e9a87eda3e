"""Rerankers that need no training and no reference: overlap, length, lead, centrality, minimum Bayes risk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rerank_core.errors import UsageError
from rerank_core.reranker import digest
from rerank_core.types import FloatArray, Ranking, Request
from rerank_summary.centrality import candidate_lexrank
from rerank_summary.features import faithfulness, features
from rerank_summary.lists import CandidateList, exact
from rerank_summary.utilities import expected_utility, utility

ListScorer = Callable[[CandidateList, Request[Any, Any]], FloatArray]
"""``scorer(items, request)`` -> shape (n_candidates,), higher is better."""


@dataclass(frozen=True)
class ListReranker:
    """A reranker out of a function that scores one candidate list. Ties keep the lowest input index on top.

    Parameters
    ----------
    scorer
        Scores one list.
    config
        Everything that changes the scores; goes into the fingerprint.
    unit
        What a score is, for ``explain``: the reason reads ``"<unit> <score>"``.
    explain
        Whether rankings carry reasons.
    """

    name: str
    scorer: ListScorer = field(repr=False)
    config: object = None
    unit: str = "score"
    explain: bool = False

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Score each list and sort it."""
        rankings = []
        for request in requests:
            scores = self.scorer(CandidateList.of(request), request)
            reasons = None
            if self.explain:
                reasons = {i: f"{self.unit} {s:.4f}" for i, s in zip(request.ids, scores, strict=True)}
            rankings.append(Ranking.from_scores(request, scores, reasons=reasons))
        return rankings

    def fingerprint(self) -> str:
        """Return the digest of name and configuration."""
        return digest("summary-list", self.name, self.config, self.explain)


def longest(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
    """White-space separated words a candidate."""
    return np.array([len(t.split()) for t in items.texts], dtype=np.float64)


def median_length(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
    """Minus the distance to the list's median length in words."""
    lengths = longest(items, request)
    return -np.abs(lengths - np.median(lengths)) if len(lengths) else lengths


def lead(items: CandidateList, request: Request[Any, Any], n: int = 3) -> FloatArray:
    """ROUGE-1 F1 of each candidate to the first ``n`` source sentences."""
    return exact(items.overlap(items.lead_tokens(n), 1)[:, 2])


def source_overlap(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
    """ROUGE-2 precision of each candidate to the whole source."""
    return exact(items.overlap(items.source_tokens, 2)[:, 0])


def central(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
    """LexRank over the candidates with tf-idf cosines."""
    return candidate_lexrank(items.tokens)


def faithful(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
    """The plain faithfulness score of `rerank_summary.features`."""
    return faithfulness(features(items))


def mbr(name: str, weighting: str = "uniform") -> ListScorer:
    """Return a minimum Bayes risk scorer.

    Parameters
    ----------
    name
        A utility of `rerank_summary.utilities`.
    weighting
        ``uniform``, or ``first-stage``: pseudo-references count by the softmax of their first-stage scores
        (log-probabilities of the generator).

    Raises
    ------
    UsageError
        When either is unknown.
    """
    matrix = utility(name)
    if weighting not in ("uniform", "first-stage"):
        raise UsageError(f"unknown weighting {weighting!r}; known: uniform, first-stage")

    def score(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
        weights = None
        if weighting == "first-stage" and all(c.score is not None for c in request.candidates):
            logits = request.first_stage()
            weights = np.exp(logits - logits.max(initial=-np.inf))
        return expected_utility(matrix(items), weights)

    return score


def shuffled(seed: int) -> ListScorer:
    """Return a scorer that orders at random, the same way for the same seed and document."""

    def score(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
        rng = np.random.default_rng(int(digest(seed, request.id)[:8], 16))
        return rng.permutation(len(items.texts)).astype(np.float64)

    return score

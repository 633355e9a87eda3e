"""Similarities from an encoder: BERTScore-style token matching and plain cosines.

Source: T. Zhang et al., "BERTScore", ICLR 2020: greedy matching of token states by cosine, precision over the
candidate's tokens, recall over the reference's, F1. Here without importance weights and without baseline rescaling,
over whichever encoder is named (by default the packaged MiniLM, which is not a model BERTScore was validated with).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.types import FloatArray, Request
from rerank_summary.lists import CandidateList, exact
from rerank_summary.rerank import ListScorer
from rerank_summary.rouge import PRF
from rerank_summary.utilities import expected_utility

if TYPE_CHECKING:
    from rerank_lm.encoders import BiEncoder

ENCODER = "all-minilm-l6-v2"


@lru_cache(maxsize=2)
def _encoder(name: str) -> BiEncoder:
    from rerank_lm.encoders import BiEncoder

    return BiEncoder.load(name)


def token_f1(prediction: NDArray[Any], target: NDArray[Any]) -> PRF:
    """Greedy matching of two texts' unit token vectors, shapes (n, d) and (m, d)."""
    if not len(prediction) or not len(target):
        return PRF(0.0, 0.0, 0.0)
    cosine = prediction.astype(np.float64) @ target.astype(np.float64).T
    p, r = float(cosine.max(1).mean()), float(cosine.max(0).mean())
    return PRF(p, r, 2 * p * r / (p + r) if p + r > 0 else 0.0)


def bertscore(predictions: Sequence[str], targets: Sequence[str], encoder: str = ENCODER) -> list[PRF]:
    """Score pairs; special tokens are left out of the matching."""
    states = _states([*predictions, *targets], encoder)
    return [token_f1(states[i], states[len(predictions) + i]) for i in range(len(predictions))]


def _states(texts: Sequence[str], encoder: str) -> list[NDArray[np.float32]]:
    return [s[1:-1] for s in _encoder(encoder).encode_tokens(texts)]


def bertscore_matrix(texts: Sequence[str], encoder: str = ENCODER) -> FloatArray:
    """F1 of all pairs, shape (n, n)."""
    states = _states(texts, encoder)
    n = len(texts)
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(i, n):
            out[i, j] = out[j, i] = token_f1(states[i], states[j]).f
    return exact(out)


def embedding_mbr(encoder: str = ENCODER) -> ListScorer:
    """MBR with BERTScore-style F1 as utility."""

    def score(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
        return np.round(expected_utility(bertscore_matrix(items.texts, encoder)), 6)

    return score


def source_cosine(encoder: str = ENCODER, first_words: int = 180) -> ListScorer:
    """Cosine of each candidate to the beginning of the source (the encoder reads about that much)."""

    def score(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
        start = " ".join(items.source.split()[:first_words])
        vectors = _encoder(encoder).encode([start, *items.texts]).astype(np.float64)
        return np.round(vectors[1:] @ vectors[0], 6)

    return score

"""A student of the cross-encoder that reads no transformer: label-free signals, weighted as distillation found them.

The signals are cheap (word overlap and averages of static word vectors), and the weights are the ridge regression of the
cross-encoder's scores, z-scaled per query, on the signals, z-scaled per query: no relevance label has a part in it. The cascade
lets the student decide which candidates the cross-encoder reads.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.reranker import digest
from rerank_core.types import FloatArray, Request
from rerank_passages.retrieve import english_terms

SIGNALS = ("first", "rank", "covered", "bigrams", "near", "early", "static", "maxsim", "best", "words")

WEIGHTS = (0.291, -0.037, -0.041, 0.029, -0.011, 0.095, 0.297, 0.116, 0.242, -0.126)
"""Distilled from ms-marco-minilm-l12 on the BM25 lists of TREC DL 2020, without its judgments."""


def signals(request: Request[str, str], encoder: Any) -> FloatArray:
    """Describe every candidate; shape (n_candidates, n_signals), each column z-scaled.

    Parameters
    ----------
    encoder
        A `StaticEncoder`.

    Notes
    -----
    First-stage score; log rank; idf-weighted share of the query's terms that occur; share of its neighbouring pairs that
    do; how close together its terms stand; how early the first stands; cosine of static averages; mean and minimum over
    the query's tokens of the best cosine of static token vectors (late interaction without a forward); log length.
    """
    texts = [c.content for c in request.candidates]
    n = len(texts)
    cut = [english_terms(t) for t in texts]
    asked = english_terms(request.query)
    df = Counter(t for c in cut for t in set(c))
    idf = {t: math.log1p((n - df[t] + 0.5) / (df[t] + 0.5)) for t in asked}
    pairs = set(itertools.pairwise(asked))
    lexical = np.array([_lexical(c, asked, idf, pairs) for c in cut]).reshape(n, 4)
    vectors = encoder.encode([request.query, *texts])
    tokens = encoder.encode_tokens([request.query, *texts])
    late = np.array([_late(tokens[0], t) for t in tokens[1:]]).reshape(n, 2)
    columns = [
        request.first_stage(),
        -np.log(1.0 + np.arange(n)),
        *lexical.T,
        vectors[1:] @ vectors[0],
        *late.T,
        np.log(1.0 + np.array([len(c) for c in cut])),
    ]
    return np.stack([z(np.asarray(c, dtype=np.float64)) for c in columns], axis=1)


class Student:
    """The weighted signals as a scorer; the static encoder is opened when first needed.

    Parameters
    ----------
    weights
        Shape (n_signals,), in the order of `SIGNALS`.
    """

    def __init__(self, open_encoder: Callable[[], Any], weights: Sequence[float] = WEIGHTS) -> None:
        self.weights = np.asarray(weights, dtype=np.float64)
        self._open = functools.cache(open_encoder)

    def scores(self, requests: Sequence[Request[str, str]]) -> list[FloatArray]:
        """Return one array of shape (n_candidates,) a request."""
        return [signals(r, self._open()) @ self.weights if r.candidates else np.empty(0) for r in requests]

    def fingerprint(self) -> str:
        """Return the digest of weights and encoder."""
        return digest("student", self.weights.tolist(), self._open().fingerprint())


def _lexical(
    text: Sequence[str], asked: Sequence[str], idf: Mapping[str, float], pairs: set[tuple[str, str]]
) -> tuple[float, float, float, float]:
    places = [i for i, t in enumerate(text) if t in idf]
    if not places:
        return 0.0, 0.0, 0.0, 0.0
    covered = sum(idf[t] for t in set(asked) & set(text)) / max(sum(idf[t] for t in set(asked)), 1e-9)
    phrases = len(pairs & set(itertools.pairwise(text))) / max(1, len(pairs))
    gaps = [b - a for a, b in itertools.pairwise(places) if text[a] != text[b]]
    near = 1.0 / min(gaps) if gaps else 0.0
    return covered, phrases, near, 1.0 / (1 + places[0])


def _late(query: NDArray[np.float32], text: NDArray[np.float32]) -> tuple[float, float]:
    if not len(query) or not len(text):
        return 0.0, 0.0
    best = (query @ text.T).max(axis=1)
    return float(best.mean()), float(best.min())


def z(x: FloatArray) -> FloatArray:
    """Scale to mean 0 and deviation 1; zeros where nothing varies."""
    return (x - x.mean()) / max(float(x.std()), 1e-9) if len(x) else x


def distil(tables: Sequence[FloatArray], teacher: Sequence[FloatArray], ridge: float = 1.0) -> FloatArray:
    """Return the signals' weights: ridge regression of the teacher's z-scaled scores; shape (n_signals,).

    Parameters
    ----------
    tables
        One array of shape (n_candidates, n_signals) a request.
    teacher
        The cross-encoder's scores, one array of shape (n_candidates,) a request.
    """
    x, y = np.concatenate(list(tables)), np.concatenate([z(t) for t in teacher])
    return np.asarray(np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y))

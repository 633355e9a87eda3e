"""Pattern memory bank of MTM: what the step from a claim to the sentence that answers it usually looks like.

Sheng et al., "Article Reranking by Memory-Enhanced Key Sentence Matching for Detecting Previously Fact-Checked Claims",
ACL 2021. A residual is ``sentence - claim`` in embedding space; the memory holds K typical residuals. A sentence is a key
sentence when it is near the claim and its residual is near a pattern. Where paper and released code differ we follow the
code, named in each function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ZERO = 1e-8


@dataclass(frozen=True)
class PatternParams:
    """MTM's hyperparameters; defaults are those for Twitter.

    Parameters
    ----------
    n_patterns
        Size of the memory.
    low, high
        Quantiles of claim-sentence distances between which residuals seed the memory.
    claim_weight, pattern_weight
        Shares of nearness to the claim and nearness to a pattern.
    n_selected
        Key sentences an article.
    step
        How far a pattern moves at an update, relative to its length.
    """

    n_patterns: int = 20
    low: float = 0.25
    high: float = 0.50
    claim_weight: float = 0.6
    pattern_weight: float = 0.4
    n_selected: int = 5
    step: float = 0.3


@dataclass(frozen=True)
class KeySentences:
    """An article's key sentences for one claim.

    Parameters
    ----------
    order
        All sentences, best first, shape (n_sentences,).
    patterns
        Nearest pattern of each sentence in that order.
    scores
        Score of each sentence in that order, 0 to 1.
    weights
        Weights of the selected ones, which are the first ``len(weights)``; they sum to 1.
    """

    order: NDArray[np.int64]
    patterns: NDArray[np.int64]
    scores: Array
    weights: Array

    @property
    def selected(self) -> NDArray[np.int64]:
        """Positions of the key sentences in the article."""
        return self.order[: len(self.weights)]


def nearest_patterns(claim: Array, sentences: Array, memory: Array) -> tuple[Array, NDArray[np.int64]]:
    """Return the distance of each residual to its nearest pattern, and which pattern it is.

    Parameters
    ----------
    claim
        Shape (d,).
    sentences
        Shape (n, d).
    memory
        Shape (k, d).
    """
    if not len(sentences):
        return np.empty(0), np.empty(0, dtype=np.int64)
    distance = np.linalg.norm((sentences - claim)[:, None] - memory[None], axis=2)
    nearest = distance.argmin(axis=1)
    return distance[np.arange(len(sentences)), nearest], nearest


def scaled_nearness(distance: Array) -> Array:
    """Turn distances within one article into scores: 1 for the nearest, 0 for the farthest."""
    if not len(distance):
        return distance
    return 1 - (distance - distance.min()) / (distance.max() - distance.min() + ZERO)


def key_sentences(claim: Array, sentences: Array, memory: Array, params: PatternParams | None = None) -> KeySentences:
    """Score an article's sentences and select the best (section 3.3).

    Ties keep the article's order.
    """
    p = params or PatternParams()
    to_pattern, pattern = nearest_patterns(claim, sentences, memory)
    to_claim = np.linalg.norm(sentences - claim, axis=1) if len(sentences) else np.empty(0)
    score = p.claim_weight * scaled_nearness(to_claim) + p.pattern_weight * scaled_nearness(to_pattern)
    order = np.argsort(-score, kind="stable")
    top = score[order[: p.n_selected]]
    weights = np.ones(1) if len(top) == 1 else top / (top.sum() + ZERO)
    return KeySentences(order, pattern[order], score[order], weights)


def seed_memory(
    claims: Sequence[Array], articles: Sequence[Array], params: PatternParams | None = None, seed: int = 0
) -> Array:
    """Cluster the residuals of true (claim, article) pairs into patterns by k-means.

    Only sentences whose distance to the claim lies strictly between two quantiles count: nearer ones repeat the claim,
    farther ones have nothing to do with it. The released code takes the quantiles over all splits; here they come from
    the pairs given, which are to be training pairs.

    Parameters
    ----------
    claims
        One vector (d,) a pair.
    articles
        Sentence vectors (n, d) of the true article, one array a pair.

    Returns
    -------
    ndarray
        Shape (k, d), k at most ``n_patterns``.

    Raises
    ------
    ValueError
        When no sentence lies between the quantiles.
    """
    from scipy.cluster.vq import kmeans2

    p = params or PatternParams()
    residuals = np.concatenate([a - c for c, a in zip(claims, articles, strict=True)])
    distance = np.linalg.norm(residuals, axis=1)
    low, high = np.quantile(distance, [p.low, p.high])
    inside = residuals[(distance > low) & (distance < high)].astype(np.float64)
    if not len(inside):
        raise ValueError("no sentence lies between the quantiles: too few training pairs")
    k = min(p.n_patterns, len(np.unique(inside, axis=0)))
    best: tuple[float, Array] | None = None
    for attempt in range(10):
        centres, label = kmeans2(inside, k, minit="++", seed=seed + attempt)
        inertia = float(((inside - centres[label]) ** 2).sum())
        if best is None or inertia < best[0]:
            best = inertia, centres
    assert best is not None
    return best[1]


@dataclass(frozen=True)
class Judged:
    """A training pair after an epoch: its key sentences' residuals, gold label, and P(gold label)."""

    residuals: Array
    label: int
    probability: float


def update_memory(memory: Array, judged: Sequence[Judged], params: PatternParams | None = None) -> Array:
    """Move patterns towards residuals that led to right answers, away from those that led to wrong ones.

    Epoch bridging (section 3.4): a pair weighs ``w = |p - 0.5|``; it is right when p > 0.5, or p = 0.5 and the label
    is 0. For each pattern m, c+ and c- are the w-weighted means of the residuals nearest to it, and m moves by
    ``step * |m|`` along ``(W+ (c+ - m) + W- (m - c-)) / (W+ + W-)``. A pattern that no weighted residual is near stays.
    """
    p = params or PatternParams()
    out = memory.copy()
    d = memory.shape[1]
    sums, weights = np.zeros((2, len(memory), d)), np.zeros((2, len(memory)))
    for pair in judged:
        w = abs(pair.probability - 0.5)
        right = pair.probability > 0.5 or (pair.probability == 0.5 and pair.label == 0)
        _, nearest = nearest_patterns(np.zeros(d), pair.residuals, memory)
        for pattern, residual in zip(nearest, pair.residuals, strict=True):
            sums[int(right), pattern] += w * residual
            weights[int(right), pattern] += w
    for k, m in enumerate(memory):
        wrong, right = weights[0, k], weights[1, k]
        if wrong + right == 0:
            continue
        towards = sums[1, k] / (right + ZERO) - m if right else np.zeros(d)
        away = m - sums[0, k] / (wrong + ZERO) if wrong else np.zeros(d)
        direction = (right * towards + wrong * away) / (right + wrong)
        length = np.linalg.norm(direction)
        if length > 0:
            out[k] = m + p.step * np.linalg.norm(m) * direction / length
    return out

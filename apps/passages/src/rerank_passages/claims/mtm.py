"""Key-sentence matching with a pattern memory (MTM), over sentence vectors that any encoder gives.

Sheng et al., ACL 2021; the memory itself is `patterns`. The paper trains a BERT end to end; here, so that it runs on a CPU,
sentence vectors come from a packaged encoder and the final classifier is logistic regression over what the key sentences
say: how near they are to the claim and to a pattern, weighted as in the paper, and the fused lexical score. Epoch bridging
is the paper's: after each epoch the memory moves by the classifier's right and wrong answers, and key sentences are selected
anew. ``patterns=False`` leaves the memory out of selection and scoring, which shows what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.types import Candidate, FloatArray, Gold, Ranking, Request
from rerank_passages.claims.features import clean
from rerank_passages.claims.files import Article, Post
from rerank_passages.claims.patterns import (
    Judged,
    KeySentences,
    PatternParams,
    key_sentences,
    seed_memory,
    update_memory,
)

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class MtmParams:
    """Epochs of bridging, candidates a post, and the memory's own settings."""

    epochs: int = 3
    depth: int = 20
    memory: PatternParams = field(default_factory=PatternParams)
    patterns: bool = True


class Mtm:
    """A fitted MTM: memory, classifier weights, and how to encode."""

    def __init__(
        self, encoder: Any, memory: FloatArray, weights: FloatArray, scale: FloatArray, params: MtmParams
    ) -> None:
        self.encoder, self.memory, self.weights, self.scale, self.params = encoder, memory, weights, scale, params

    @classmethod
    def fit(
        cls,
        encoder: Any,
        articles: Sequence[Article],
        posts: Sequence[Post],
        candidates: Sequence[Sequence[tuple[int, float]]],
        gold: Gold,
        params: MtmParams | None = None,
        seed: int = 0,
    ) -> Mtm:
        """Fit on posts with gold.

        Parameters
        ----------
        encoder
            Has ``encode(texts) -> (n, d)``.
        candidates
            For every post, article positions with first-stage scores, best first.
        """
        p = params or MtmParams()
        vectors, queries = encode_articles(encoder, articles), encoder.encode([clean(x.both) for x in posts])
        place = {a.id: j for j, a in enumerate(articles)}
        true = [(i, place[a]) for i, x in enumerate(posts) for a in gold.get(x.id, {}) if a in place]
        memory = seed_memory([queries[i] for i, _ in true], [vectors[j] for _, j in true], p.memory, seed)
        pairs = [(i, j, s) for i, row in enumerate(candidates) for j, s in row[: p.depth]]
        labels = np.array([articles[j].id in gold.get(posts[i].id, {}) for i, j, _ in pairs], dtype=np.float64)
        weights, scale = np.zeros(0), np.ones((2, 0))
        for epoch in range(p.epochs):
            keys = [_select(queries[i], vectors[j], memory, p) for i, j, _ in pairs]
            x = np.array([_describe(queries[i], vectors[j], k, s, p) for (i, j, s), k in zip(pairs, keys, strict=True)])
            scale = np.stack([x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)])
            weights = logistic((x - scale[0]) / scale[1], labels)
            if p.patterns and epoch < p.epochs - 1:
                probability = _sigmoid(np.c_[(x - scale[0]) / scale[1], np.ones(len(x))] @ weights)
                judged = [
                    Judged(vectors[j][k.selected] - queries[i], int(y), float(q if y else 1 - q))
                    for (i, j, _), k, y, q in zip(pairs, keys, labels, probability, strict=True)
                ]
                memory = update_memory(memory, judged, p.memory)
        return cls(encoder, memory, weights, scale, p)

    def rank(
        self, articles: Sequence[Article], posts: Sequence[Post], candidates: Sequence[Sequence[tuple[int, float]]]
    ) -> list[Ranking]:
        """Rank candidates; every article's reason is its best key sentence."""
        vectors, queries = encode_articles(self.encoder, articles), self.encoder.encode([clean(x.both) for x in posts])
        out = []
        for post, query, row in zip(posts, queries, candidates, strict=True):
            request = Request(post.id, post.both, tuple(Candidate(articles[j].id, "", s) for j, s in row))
            scores, reasons = np.zeros(len(row)), {}
            for n, (j, s) in enumerate(row):
                key = _select(query, vectors[j], self.memory, self.params)
                x = (np.array(_describe(query, vectors[j], key, s, self.params)) - self.scale[0]) / self.scale[1]
                scores[n] = float(np.append(x, 1.0) @ self.weights)
                lines = lines_of(articles[j])
                if len(key.selected):
                    reasons[articles[j].id] = lines[int(key.selected[0])]
            out.append(Ranking.from_scores(request, scores, reasons=reasons))
        return out


def lines_of(article: Article) -> list[str]:
    """Return what an article's key sentences are chosen from: its headline and its sentences."""
    return [article.headline, *article.sentences] if article.headline else list(article.sentences)


def encode_articles(encoder: Any, articles: Sequence[Article]) -> list[Vectors]:
    """Return one array of sentence vectors (n_sentences, d) an article."""
    lines = [lines_of(a) for a in articles]
    flat = encoder.encode([s for x in lines for s in x])
    return np.split(flat, np.cumsum([len(x) for x in lines])[:-1])


def _select(query: Vectors, sentences: Vectors, memory: FloatArray, p: MtmParams) -> KeySentences:
    if p.patterns:
        return key_sentences(query, sentences, memory, p.memory)
    alone = PatternParams(claim_weight=1.0, pattern_weight=0.0, n_selected=p.memory.n_selected)
    return key_sentences(query, sentences, memory[:1], alone)


def _describe(query: Vectors, sentences: Vectors, key: KeySentences, first: float, p: MtmParams) -> list[float]:
    if not len(key.selected):
        return [first, *(0.0,) * (5 if p.patterns else 3)]
    near = sentences[key.selected] @ query
    row = [first, float(near.max()), float(key.weights @ near), float(near.mean())]
    if p.patterns:
        row += [float(key.scores[: len(key.weights)].mean()), float(np.ptp(key.scores))]
    return row


def logistic(x: FloatArray, y: FloatArray, *, ridge: float = 1.0, steps: int = 30) -> FloatArray:
    """Fit logistic regression by Newton's method; the last weight is the intercept. Classes weigh the same."""
    a = np.c_[x, np.ones(len(x))]
    weight = np.where(y > 0, 0.5 / max(y.mean(), 1e-9), 0.5 / max(1 - y.mean(), 1e-9))
    w = np.zeros(a.shape[1])
    penalty = ridge * np.diag([*(1.0,) * x.shape[1], 1e-6])
    for _ in range(steps):
        p = _sigmoid(a @ w)
        gradient = a.T @ (weight * (p - y)) + penalty @ w
        hessian = (a * (weight * p * (1 - p))[:, None]).T @ a + penalty
        step = np.linalg.solve(hessian, gradient)
        w = w - step
        if np.abs(step).max() < 1e-8:
            break
    return w


def _sigmoid(x: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-np.clip(x, -30, 30)))

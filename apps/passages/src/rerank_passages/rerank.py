"""The named rerankers of passages: encoders, late interaction, lexical scores and their fusions.

Encoders are loaded on first use, so that building a reranker costs nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank_core.budget import Budget, Meter
from rerank_core.reranker import FirstStage, Fuse, Reranker, Scores, digest
from rerank_core.types import Cost, FloatArray, Ranking, Request, Status
from rerank_passages.retrieve import bm25_scores
from rerank_passages.scorers import Lazy, PairScorer, PairScores

if TYPE_CHECKING:
    from rerank_lm.encoders import BiEncoder, CrossEncoder, StaticEncoder

CROSS_ENCODER = "ms-marco-minilm-l12"
BI_ENCODER = "all-minilm-l6-v2"
STATIC = "wordllama-l2-256"

SLICE = 128
"""Pairs between two looks at the budget."""


class PairReranker:
    """Scores every candidate against its query and sorts.

    Pairs of all requests go to the scorer together, so that it can fill its batches. Under a budget they go in slices,
    rank by rank over all requests; what is not reached stays below what was, in first-stage order, and the ranking
    says ``budget``. A candidate whose text had to be cut makes the ranking ``truncated``.
    """

    def __init__(self, name: str, scorer: PairScorer, *, budget: Budget | None = None) -> None:
        self.name, self.scorer, self._budget = name, scorer, budget

    def within(self, budget: Budget) -> PairReranker:
        """Bind a budget."""
        return PairReranker(self.name, self.scorer, budget=budget)

    def rerank(self, requests: Sequence[Request[str, str]]) -> list[Ranking]:
        """Score and sort."""
        start = time.perf_counter()
        jobs = [(i, j) for i, r in enumerate(requests) for j in range(len(r.candidates))]
        if self._budget is None:
            done = self.scorer.score([_pair(requests, job) for job in jobs]) if jobs else _nothing()
        else:
            jobs.sort(key=lambda job: job[1])
            done = self._score_within(requests, jobs, self._budget)
        seconds = time.perf_counter() - start
        scores = [np.full(len(r.candidates), np.nan) for r in requests]
        cut, tokens, calls = (np.zeros(len(requests), dtype=np.int64) for _ in range(3))
        for (i, j), s, truncated, n in zip(jobs, done.scores, done.truncated, done.tokens, strict=False):
            scores[i][j] = s
            cut[i], tokens[i], calls[i] = cut[i] + truncated, tokens[i] + n, calls[i] + 1
        share = tokens / max(1, tokens.sum())
        return [
            _ranking(r, s, bool(cut[i]), Cost(int(calls[i]), int(tokens[i]), 0, seconds * float(share[i])))
            for i, (r, s) in enumerate(zip(requests, scores, strict=True))
        ]

    def _score_within(
        self, requests: Sequence[Request[str, str]], jobs: Sequence[tuple[int, int]], budget: Budget
    ) -> PairScores:
        meter, parts, at = Meter(budget), [_nothing()], 0
        while at < len(jobs) and not meter.left().spent:
            left = meter.left().calls
            step = SLICE if left is None else min(SLICE, left)
            parts.append(self.scorer.score([_pair(requests, job) for job in jobs[at : at + step]]))
            meter.add(Cost(calls=len(parts[-1].scores), prompt_tokens=int(parts[-1].tokens.sum())))
            at += step
        return PairScores(
            np.concatenate([p.scores for p in parts]),
            np.concatenate([p.truncated for p in parts]),
            np.concatenate([p.tokens for p in parts]),
        )

    def fingerprint(self) -> str:
        """Return the digest of the scorer."""
        return digest("pairs", self.name, self.scorer.fingerprint())


def _pair(requests: Sequence[Request[str, str]], job: tuple[int, int]) -> tuple[str, str]:
    request = requests[job[0]]
    return request.query, request.candidates[job[1]].content


def _nothing() -> PairScores:
    return PairScores(np.empty(0), np.empty(0, dtype=bool), np.empty(0, dtype=np.int64))


def _ranking(request: Request[str, str], scores: FloatArray, cut: bool, cost: Cost) -> Ranking:
    """Sort by score; candidates the budget did not reach follow in first-stage order."""
    status = Status.TRUNCATED if cut else Status.OK
    missing = np.isnan(scores)
    if missing.any():
        floor = np.nanmin(scores) if not missing.all() else 0.0
        scores = scores.copy()
        scores[missing] = floor - 1.0 - np.arange(missing.sum())
        status = status.worst(Status.BUDGET)
    return Ranking.from_scores(request, scores, status=status, cost=cost)


@dataclass(frozen=True)
class CrossScorer:
    """Cross-encoder logits."""

    encoder: CrossEncoder

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores:
        """Score pairs."""
        done = self.encoder.score_report(pairs)
        return PairScores(done.scores.astype(np.float64), done.truncated, done.tokens)

    def fingerprint(self) -> str:
        """Return the encoder's digest."""
        return self.encoder.fingerprint()


@dataclass(frozen=True)
class CosineScorer:
    """Cosine of query and text vectors; every distinct text is encoded once."""

    encoder: BiEncoder

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores:
        """Score pairs."""
        queries = self.encoder.encode_report([self.encoder.query_prefix + q for q, _ in pairs])
        texts = self.encoder.encode_report([t for _, t in pairs])
        scores = np.einsum("nd,nd->n", queries.vectors, texts.vectors, dtype=np.float64)
        return PairScores(scores, queries.truncated | texts.truncated, texts.tokens)

    def fingerprint(self) -> str:
        """Return the encoder's digest."""
        return digest("cosine", self.encoder.fingerprint(), self.encoder.query_prefix)


@dataclass(frozen=True)
class MaxSimScorer:
    """Late interaction over the encoder's token states, special tokens left out.

    Khattab and Zaharia, "ColBERT", SIGIR 2020, over a bi-encoder that was not trained for it: no projection, no query
    augmentation. Leaving the special tokens out is ours: their states say nothing of a single word.
    """

    encoder: BiEncoder

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores:
        """Score pairs."""
        from rerank_lm.encoders import max_sim

        out, tokens = np.zeros(len(pairs)), np.zeros(len(pairs), dtype=np.int64)
        by_query: dict[str, list[int]] = {}
        for i, (q, _) in enumerate(pairs):
            by_query.setdefault(q, []).append(i)
        states = self.encoder.encode_tokens([*by_query, *(t for _, t in pairs)])
        queries, texts = states[: len(by_query)], states[len(by_query) :]
        for query, rows in zip(queries, by_query.values(), strict=True):
            out[rows] = max_sim(query[1:-1], [texts[i][1:-1] for i in rows])
            tokens[rows] = [len(texts[i]) for i in rows]
        return PairScores(out, tokens >= self.encoder.transformer.max_length, tokens)

    def fingerprint(self) -> str:
        """Return the encoder's digest."""
        return digest("maxsim", self.encoder.fingerprint())


@dataclass(frozen=True)
class StaticScorer:
    """Cosine of averaged token vectors: no forward pass."""

    encoder: StaticEncoder

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores:
        """Score pairs."""
        queries, texts = self.encoder.encode([q for q, _ in pairs]), self.encoder.encode([t for _, t in pairs])
        scores = np.einsum("nd,nd->n", queries, texts, dtype=np.float64)
        return PairScores(scores, np.zeros(len(pairs), dtype=bool), np.zeros(len(pairs), dtype=np.int64))

    def fingerprint(self) -> str:
        """Return the encoder's digest."""
        return self.encoder.fingerprint()


def cross_encoder(config: Mapping[str, Any]) -> PairReranker:
    """Make the cross-encoder reranker; ``model``, ``precision``, ``device``, ``max_length``, ``batch_tokens``."""

    def make() -> PairScorer:
        from rerank_lm.encoders import CrossEncoder

        return CrossScorer(CrossEncoder.load(config["model"], **_options(config)))

    return PairReranker("cross-encoder", Lazy(make))


def bi_encoder(config: Mapping[str, Any]) -> PairReranker:
    """Make the bi-encoder reranker."""
    return PairReranker("bi-encoder", Lazy(lambda: CosineScorer(_load_bi(config))))


def maxsim(config: Mapping[str, Any]) -> PairReranker:
    """Make the late-interaction reranker."""
    return PairReranker("maxsim", Lazy(lambda: MaxSimScorer(_load_bi(config))))


def static(config: Mapping[str, Any]) -> PairReranker:
    """Make the static-vector reranker."""

    def make() -> PairScorer:
        from rerank_lm.encoders import StaticEncoder

        return StaticScorer(StaticEncoder.load(config["model"]))

    return PairReranker("static", Lazy(make))


def bm25(config: Mapping[str, Any]) -> Reranker:
    """Make the lexical reranker: BM25 over the candidates at hand."""
    return Scores("bm25", bm25_scores)


def hybrid(config: Mapping[str, Any]) -> Reranker:
    """Make the interpolation of bi-encoder and first stage: min-max per query, ``lexical`` is the first stage's share."""
    share = float(config["lexical"])
    parts: list[Reranker] = [bi_encoder(config), FirstStage()]
    return Named("hybrid", Fuse(parts, "minmax", weights=[1 - share, share]))


def default(config: Mapping[str, Any]) -> Reranker:
    """Make the best shipped pipeline: cross-encoder, bi-encoder and first stage, z-scores per query, weighted."""
    settings = {k: v for k, v in config.items() if k in ("precision", "device", "batch_tokens")}
    cross = cross_encoder({**ENCODER_DEFAULTS, **settings, "model": config["model"]})
    bi = bi_encoder({**ENCODER_DEFAULTS, **settings, "model": config["bi_model"]})
    weights = [1.0, float(config["bi"]), float(config["first"])]
    return Named("default", Fuse([cross, bi, FirstStage()], "zscore", weights=weights))


def cascade(config: Mapping[str, Any]) -> Reranker:
    """Make the cascade of student, bi-encoder and cross-encoder.

    With ``vectors`` (a folder of kept passage vectors) the bi-encoder reads every candidate, unless ``bi_depth`` says less.
    """
    from rerank_passages.cascade import Cascade, CascadeParams
    from rerank_passages.student import Student

    def static_encoder() -> StaticEncoder:
        from rerank_lm.encoders import StaticEncoder

        return StaticEncoder.load(config["static_model"])

    encoders = {**ENCODER_DEFAULTS, **{k: v for k, v in config.items() if k in ENCODER_DEFAULTS}}
    params = CascadeParams(
        **{k: config[k] for k in ("bi", "cross_depth", "round_size", "top", "patience", "words")},
        bi_depth=config["bi_depth"] or (sys.maxsize if config["vectors"] else 0),
    )
    return Cascade(
        Student(static_encoder),
        bi_encoder({**encoders, "model": config["bi_model"], "vectors": config["vectors"]}).scorer,
        cross_encoder({**encoders, "model": config["model"]}).scorer,
        params,
    )


def cur(config: Mapping[str, Any]) -> Reranker:
    """Make the CUR reranker: the cross-encoder reads some candidates, their vectors predict the others' scores."""
    from rerank_passages.anchors import CurParams
    from rerank_passages.cur import CurReranker

    encoders = {**ENCODER_DEFAULTS, **{k: v for k, v in config.items() if k in ENCODER_DEFAULTS}}
    params = CurParams(int(config["anchors"]), int(config["budget"]), int(config["rounds"]), float(config["rcond"]))
    cross = cross_encoder({**encoders, "model": config["model"]}).scorer
    return CurReranker(cross, lambda: _load_bi({**encoders, "model": config["bi_model"]}), params)


def quite_cross_encoder(config: Mapping[str, Any]) -> Reranker:
    """Make the cross-encoder over query-dependent summaries."""
    from rerank_passages.quite import Compressed, QuiteParams

    inner = {k: v for k, v in config.items() if k not in ("words", "decay")}
    return Compressed(cross_encoder(inner), QuiteParams(int(config["words"]), float(config["decay"])))


def feedback(config: Mapping[str, Any]) -> Reranker:
    """Make the cross-encoder with relevance feedback to the bi-encoder's query vector."""
    from rerank_passages.feedback import Feedback

    encoders = {**ENCODER_DEFAULTS, **{k: v for k, v in config.items() if k in ENCODER_DEFAULTS}}
    return Feedback(
        cross_encoder({**encoders, "model": config["model"]}),
        lambda: _load_bi({**encoders, "model": config["bi_model"]}),
        top=int(config["feedback_top"]),
        weight=float(config["weight"]),
        blend=float(config["blend"]),
    )


@dataclass(frozen=True)
class Named:
    """A reranker under another name."""

    name: str
    inner: Reranker

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Rerank with the inner reranker."""
        return self.inner.rerank(requests)

    def within(self, budget: Budget) -> Named:
        """Bind a budget."""
        from rerank_core.reranker import within

        return Named(self.name, within(self.inner, budget))

    def fingerprint(self) -> str:
        """Return the inner digest."""
        return self.inner.fingerprint()


ENCODER_DEFAULTS: Mapping[str, Any] = {"precision": "auto", "device": "auto", "max_length": None, "batch_tokens": None}


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    options = {k: config[k] for k in ENCODER_DEFAULTS}
    if options["max_length"] is None:
        options.pop("max_length")
    return options


def _load_bi(config: Mapping[str, Any]) -> BiEncoder:
    from rerank_lm.encoders import BiEncoder

    encoder = BiEncoder.load(config["model"], **_options(config))
    if not config.get("vectors"):
        return encoder
    from rerank_passages.vectors import Kept

    return Kept(encoder, config["vectors"])

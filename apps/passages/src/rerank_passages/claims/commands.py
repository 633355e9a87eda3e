"""What ``fit-claims`` and ``claims`` do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import UsageError
from rerank_core.io import write_rankings, write_run
from rerank_core.types import Ranking
from rerank_passages.claims.features import ClaimIndex
from rerank_passages.claims.files import Article, Post, check_gold, read_articles, read_gold, read_posts
from rerank_passages.claims.ranker import (
    ClaimParams,
    ClaimRanker,
    Compared,
    bm25_ranking,
    compare,
    memory_scores,
    open_index,
    ranked_by,
)

METHODS = ("bm25", "mtm", "features", "default", "memory")
ENCODERS = ("static", "rouge")
"""What MTM's sentence vectors come from: packaged word vectors, or word pieces that learned from ROUGE."""


def fit(queries: Path, articles: Path, split: str | None, out: Path, seed: int = 0, mtm_encoder: str = "static") -> str:
    """Fit the ranker and MTM on one split and write both into a folder; returns what was done, in words."""
    if mtm_encoder not in ENCODERS:
        raise UsageError(f"MTM has no encoder {mtm_encoder!r}; encoders: {', '.join(ENCODERS)}")
    checks, posts, gold = read_articles(articles), read_posts(queries, split), read_gold(queries, split)
    check_gold(gold, checks, queries)
    params = ClaimParams()
    index = open_index(checks, params)
    parts = list(compare(index, posts, params.depth))
    ranker = ClaimRanker.fit_compared(index, parts, gold, params, seed)
    out.mkdir(parents=True, exist_ok=True)
    _fit_mtm(index, checks, posts, parts, gold, out, seed, mtm_encoder)
    ranker.save(out)
    return f"fitted on {len(posts)} posts and {len(checks)} articles -> {out}"


def rank(
    queries: Path,
    articles: Path,
    method: str,
    model: Path | None,
    out: Path,
    known: Path | None = None,
    depth: int = 50,
) -> str:
    """Rank articles for posts into a TREC run (or JSONL with key sentences); returns what was done, in words.

    Parameters
    ----------
    known
        Posts with gold, for ``memory`` alone.
    """
    if method not in METHODS:
        raise UsageError(f"claims has no method {method!r}; methods: {', '.join(METHODS)}")
    if (method == "memory") != (known is not None):
        raise UsageError("method memory, and no other, looks posts up in --known")
    if method not in ("bm25", "memory") and model is None:
        raise UsageError(f"method {method} needs --model; make one with fit-claims")
    ranker = ClaimRanker.load(model) if model is not None and method not in ("bm25", "memory") else None
    checks, posts = read_articles(articles), read_posts(queries)
    rankings: list[Ranking]
    if known is not None:
        seen, gold = read_posts(known), read_gold(known)
        check_gold(gold, checks, known)
        rankings = ranked_by(checks, posts, memory_scores(posts, seen, gold, checks), depth)
    elif ranker is None:
        rankings = bm25_ranking(checks, posts, depth)
    else:
        index = open_index(checks, ranker.params)
        if method == "mtm":
            assert model is not None
            rankings = _rank_mtm(index, checks, posts, model)
        else:
            rankings = ranker.rank(index, posts)
    if out.name.removesuffix(".gz").endswith(".jsonl"):
        write_rankings(out, rankings)
    else:
        write_run(out, rankings, tag=f"claims-{method}")
    return f"{len(rankings)} posts ranked against {len(checks)} articles by {method} -> {out}"


def candidates_of(parts: Iterable[Compared], depth: int) -> list[list[tuple[int, float]]]:
    """Return the label-free first stage's candidates as (article position, score), best first."""
    return [
        [(int(j), float(s)) for j, s in zip(row[:depth], first[:depth], strict=True)]
        for part in parts
        for row, first in zip(part.candidates, part.first, strict=True)
    ]


def _fit_mtm(
    index: ClaimIndex,
    checks: Sequence[Article],
    posts: Sequence[Post],
    parts: Sequence[Compared],
    gold: Any,
    out: Path,
    seed: int,
    encoder: str,
) -> None:
    from rerank_core.files import atomic_path
    from rerank_passages.claims.mtm import Mtm, MtmParams
    from rerank_passages.claims.rouge import RougeEncoder, training_pairs

    params = MtmParams()
    vectors: Any = index.static
    (out / "rouge.npz").unlink(missing_ok=True)
    if encoder == "rouge":
        assert index.bi is not None
        vectors = RougeEncoder.fit(index.bi, training_pairs(posts, checks, gold), seed=seed)
        vectors.save(out / "rouge.npz")
        vectors = RougeEncoder.load(out / "rouge.npz", index.bi)  # as ranking will see it
    mtm = Mtm.fit(vectors, checks, posts, candidates_of(parts, params.depth), gold, params, seed)
    with atomic_path(out / "mtm.npz") as path, path.open("wb") as file:
        np.savez(file, memory=mtm.memory, weights=mtm.weights, scale=mtm.scale)


def _rank_mtm(index: ClaimIndex, checks: Sequence[Article], posts: Sequence[Post], model: Path) -> list[Ranking]:
    from rerank_passages.claims.mtm import Mtm, MtmParams
    from rerank_passages.claims.rouge import RougeEncoder

    params = MtmParams()
    vectors: Any = index.static
    if (model / "rouge.npz").is_file():
        assert index.bi is not None
        vectors = RougeEncoder.load(model / "rouge.npz", index.bi)
    with np.load(model / "mtm.npz", allow_pickle=False) as z:
        mtm = Mtm(vectors, z["memory"], z["weights"], z["scale"], params)
    return mtm.rank(checks, posts, candidates_of(compare(index, posts, params.depth), params.depth))

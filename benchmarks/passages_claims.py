"""Previously fact-checked claims, fitted on one split and judged on another:

``python benchmarks/passages_claims.py QUERIES.jsonl.gz ARTICLES.jsonl.gz``

Prints MRR, MAP@5, HIT@3 and HIT@5 with n and 95 % bootstrap intervals, paired differences, and BM25's seconds. Gold of the
judged split is used for judging only; the variant with a memory of training posts stands apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.measures import evaluate
from rerank_core.statistics import paired_bootstrap
from rerank_core.types import Candidate, FloatArray, Gold, Ranking, Request
from rerank_lm.encoders import BiEncoder
from rerank_passages.claims.commands import candidates_of
from rerank_passages.claims.files import Post, read_articles, read_gold, read_posts
from rerank_passages.claims.measures import MRR, average_precision, hit, reciprocal_rank
from rerank_passages.claims.mtm import Mtm, MtmParams
from rerank_passages.claims.ranker import ClaimParams, ClaimRanker, bm25_ranking, compare, memory_scores, open_index
from rerank_passages.claims.rouge import RougeEncoder, training_pairs

MEASURES = (MRR, average_precision(5), hit(3), hit(5))


class Once:
    """An encoder that keeps what it has encoded."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self.kept = encoder, dict[tuple[str, ...], Any]()

    def encode(self, texts: Sequence[str]) -> Any:
        """Return unit vectors, shape (n_texts, d)."""
        if tuple(texts) not in self.kept:
            self.kept[tuple(texts)] = self.encoder.encode(texts)
        return self.kept[tuple(texts)]


def by_scores(ids: Sequence[str], posts: Sequence[Post], scores: FloatArray) -> list[Ranking]:
    """Rank all articles by a matrix of scores (n_posts, n_articles)."""
    requests = [Request(p.id, p.both, tuple(Candidate(i, "") for i in ids)) for p in posts]
    return [Ranking.from_scores(r, s) for r, s in zip(requests, scores, strict=True)]


def report(name: str, rankings: Sequence[Ranking], gold: Gold) -> dict[str, float]:
    """Print one line; return the reciprocal rank of each post."""
    requests = [Request(r.id, "", tuple(Candidate(i, "") for i in r.ids)) for r in rankings]
    rows = evaluate(MEASURES, gold, rankings, requests, system=name)
    cells = "  ".join(f"{r.measure} {r.value:.3f} [{r.ci_low:.3f}, {r.ci_high:.3f}]" for r in rows)
    print(f"{name:<34} n={rows[0].n}  {cells}", flush=True)
    return {r.id: reciprocal_rank(gold[r.id], r) for r in rankings}


def difference(name: str, a: dict[str, float], b: dict[str, float]) -> None:
    """Print a paired difference of MRR."""
    d, low, high, p = paired_bootstrap(a, b, seed=0)
    print(f"  {name}: MRR {d:+.3f} [{low:+.3f}, {high:+.3f}], p = {p:.3f}", flush=True)


def timed(name: str, work: Callable[[], object]) -> None:
    """Print wall and CPU seconds of something."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    print(f"  {name}: {time.perf_counter() - wall:.2f} s, {time.process_time() - cpu:.2f} CPU-s", flush=True)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("queries", type=Path)
    parser.add_argument("articles", type=Path)
    parser.add_argument("--fit", default="train")
    parser.add_argument("--judge", default="dev")
    args = parser.parse_args()
    articles = read_articles(args.articles)
    known, known_gold = read_posts(args.queries, args.fit), read_gold(args.queries, args.fit)
    posts, gold = read_posts(args.queries, args.judge), read_gold(args.queries, args.judge)

    bm25 = report("bm25", bm25_ranking(articles, posts), gold)
    many = (posts * (2026 // len(posts) + 1))[:2026]
    many = [Post(f"{i}", p.text, p.ocr) for i, p in enumerate(many)]
    timed(f"BM25, index of {len(articles)} articles and 2,026 posts", lambda: bm25_ranking(articles, many))

    index = open_index(articles)
    ids = index.ids
    params = ClaimParams()
    described = list(compare(index, posts, params.depth))
    candidates = candidates_of(described, params.depth)
    first = [
        Ranking.from_order(Request(p.id, "", tuple(Candidate(ids[j], "") for j, _ in row)), [ids[j] for j, _ in row])
        for p, row in zip(posts, candidates, strict=True)
    ]
    report("fused similarities, nothing fitted", first, gold)
    known_described = list(compare(index, known, params.depth))
    ranker = ClaimRanker.fit_compared(index, known_described, known_gold, params)
    ranked = [r for _, r in ranker.rank_compared(index, described)]
    ours = report("features (default)", ranked, gold)
    difference("over BM25", ours, bm25)

    base, train = MtmParams(), candidates_of(known_described, 20)
    bert = BiEncoder.load(params.bi_encoder, precision="fp32")
    timer = time.process_time()
    trained = RougeEncoder.fit(bert, training_pairs(known, articles, known_gold))
    print(f"  ROUGE-guided encoder trained in {time.process_time() - timer:.0f} CPU-s")
    for kind, encoder in (
        ("static", index.static),
        ("word pieces", RougeEncoder.untrained(bert)),
        ("ROUGE-guided", trained),
        ("bi-encoder", Once(index.bi)),
    ):
        rr = {}
        for name, mtm in (("mtm", base), ("mtm, no patterns", replace(base, patterns=False))):
            model = Mtm.fit(encoder, articles, known, train, known_gold, mtm)
            rankings = model.rank(articles, posts, [c[: mtm.depth] for c in candidates])
            rr[name] = report(f"{name}, {kind}", rankings, gold)
        difference("patterns over none", *rr.values())

    memory = memory_scores(posts, known, known_gold, articles)
    report("memory of training posts alone", by_scores(ids, posts, memory), gold)
    both = np.full((len(posts), len(ids)), -10.0)
    place = {i: j for j, i in enumerate(ids)}
    for n, r in enumerate(ranked):
        s = np.array([x.score for x in r.items], dtype=np.float64)
        both[n, [place[i] for i in r.ids]] = (s - s.mean()) / max(s.std(), 1e-9)
    report("features + memory (apart)", by_scores(ids, posts, both + 3.0 * memory), gold)


if __name__ == "__main__":
    main()

"""A pyramid distilled from the cross-encoder that it is made of, on one folder, and judged on another:

``python benchmarks/passages_pyramid.py TRAIN_DIR TEST_DIR``

The cross-encoder's scores of the training folder's passages teach (no label does). Prints nDCG@10 on the test folder for the
cross-encoder, the pyramid before and after, and paired differences to the cross-encoder.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rerank_core.measures import parse
from rerank_core.statistics import paired_bootstrap
from rerank_core.types import Dataset, FloatArray, Ranking
from rerank_lm import losses
from rerank_lm.encoders import CrossEncoder
from rerank_passages.domain import load
from rerank_passages.pyramid import Pyramid

NDCG = parse("nDCG@10")
Pairs = list[tuple[str, str]]


def judged(data: Dataset[str, str], depth: int, score: Callable[[Pairs], FloatArray]) -> dict[str, float]:
    """Return nDCG@10 of every request's first ``depth`` candidates in the order of the scores."""
    heads = [r.take(r.ids[:depth]) for r in data.requests if r.id in data.gold]
    rankings = {
        r.id: Ranking.from_scores(r, np.asarray(score([(r.query, c.content) for c in r.candidates]))) for r in heads
    }
    rows = NDCG.rows({i: data.gold[i] for i in rankings}, rankings, {r.id: r for r in heads})
    return {i: row[0] for i, row in rows.items()}


def train(pyramid: Pyramid, teacher: CrossEncoder, data: Dataset[str, str], args: argparse.Namespace) -> None:
    """Distil with margin-MSE: the pyramid's score differences follow the cross-encoder's."""
    trained = [p for p in pyramid.module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=args.rate)
    pyramid.module.eval()  # no dropout: the targets are exact
    rng = np.random.default_rng(0)
    for epoch in range(args.epochs):
        for n in rng.permutation(len(data.requests)):
            request = data.requests[int(n)]
            chosen = rng.permutation(min(args.depth, len(request.candidates)))[: args.size]
            pairs = [(request.query, request.candidates[int(j)].content) for j in chosen]
            target = torch.from_numpy(teacher.score(pairs))[None]
            loss = losses.margin_mse(pyramid.logits(pairs)[None], target)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimiser.step()
        print(f"  epoch {epoch}: last loss {float(loss):.3f}", flush=True)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--low", type=int, default=6)
    parser.add_argument("--query-tokens", type=int, default=24)
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--size", type=int, default=12, help="passages of a query in a step")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=5e-5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    known, asked = load(args.train), load(args.test)
    teacher = CrossEncoder.load(precision="bf16")
    student = CrossEncoder.load(precision="fp32")
    pyramid = Pyramid(student, args.low, query_tokens=args.query_tokens)
    whole = judged(asked, args.depth, lambda pairs: teacher.score(pairs).astype(float))
    print(f"cross-encoder, first {args.depth}: {np.mean(list(whole.values())):.4f}, n = {len(whole)}", flush=True)
    for name in ("before", "after"):
        if name == "after":
            begun = time.process_time()
            train(pyramid, teacher, known, args)
            print(f"  trained in {time.process_time() - begun:.0f} CPU-s")
        values = judged(asked, args.depth, lambda pairs: pyramid.score(pairs).scores)
        d, low, high, p = paired_bootstrap(values, whole, seed=0)
        mean = np.mean(list(values.values()))
        print(f"pyramid, {args.low} layers apart, {name}: {mean:.4f}, {d:+.4f} [{low:+.4f}, {high:+.4f}] p={p:.3f}")


if __name__ == "__main__":
    main()

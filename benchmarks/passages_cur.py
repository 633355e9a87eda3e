"""CUR's recall at a budget on a real late-interaction score matrix:

``python benchmarks/passages_cur.py DL19_DIR DL20_DIR [--encoder static]``

Queries of both years, the passages of the first one's BM25 run. 77 queries are anchors, 20 are searched. Prints recall of the
exact top 10 for random anchors with the plain pseudo-inverse (the reference), random anchors with small singular values
dropped (ANNCUR), and adaptive anchors (ADACUR), at equal numbers of exact scores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rerank_lm.encoders import BiEncoder, StaticEncoder, max_sim
from rerank_passages.anchors import CurParams, recall_curve
from rerank_passages.domain import load


def matrix(queries: list[str], passages: list[str], encoder: BiEncoder | StaticEncoder) -> NDArray[np.float64]:
    """Return late-interaction scores, shape (n_queries, n_passages)."""
    trim = 1 if isinstance(encoder, BiEncoder) else 0  # special tokens
    states = [s[trim : len(s) - trim] for s in encoder.encode_tokens([*queries, *passages])]
    return np.stack([max_sim(q, states[len(queries) :]) for q in states[: len(queries)]])


def main() -> None:
    """Print the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--encoder", choices=("minilm", "static"), default="minilm")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    first, second = (load(f) for f in args.folders)
    queries = [r.query for r in (*first.requests, *second.requests)]
    passages = list({c.content: None for r in first.requests for c in r.candidates})
    encoder = BiEncoder.load() if args.encoder == "minilm" else StaticEncoder.load()
    full = matrix(queries, passages, encoder)
    order = np.random.default_rng(0).permutation(len(full))
    known, truth = full[order[20:]], full[order[:20]]
    print(f"{args.encoder}: {known.shape[0]} anchor queries, {truth.shape[0]} test queries, {full.shape[1]} passages")
    print(f"{'anchors':>8}{'budget':>8}{'reference':>11}{'rcond':>8}{'adaptive':>10}   recall of the exact top 10")
    for anchors, budget in ((50, 100), (50, 200), (50, 300), (77, 300), (100, 300), (150, 300), (200, 300), (100, 500)):
        kinds = [CurParams(anchors, budget, 1, 1e-15), CurParams(anchors, budget), CurParams(anchors, budget, 5)]
        curves = [[r for _, r in recall_curve(truth, known, kinds, k=10, seed=1000 * s)] for s in range(args.seeds)]
        means = np.mean(curves, axis=0)
        print(f"{anchors:>8}{budget:>8}{means[0]:>11.3f}{means[1]:>8.3f}{means[2]:>10.3f}", flush=True)


if __name__ == "__main__":
    main()

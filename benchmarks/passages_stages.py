"""The cross-encoder over two first stages' passages, fused with both; weights chosen on the other year:

``python benchmarks/passages_stages.py DL19_DIR DL20_DIR``

Reads BM25's and SPLADE++'s first 100 in each folder's ``runs``. Prints nDCG@10 of each part, of reciprocal rank fusions of the
given first stages, and of the fusion with its paired difference to each of those.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rerank_core.fusion import fuse
from rerank_core.io import read_qrels, read_run
from rerank_core.measures import parse
from rerank_core.statistics import bootstrap, paired_bootstrap
from rerank_core.types import Gold, Ranked, Ranking
from rerank_lm.encoders import CrossEncoder
from rerank_passages.data import read_passages, read_queries

NDCG = parse("nDCG@10")
STAGES = ("bm25", "splade_pp")
GRID = [(1.0, s, b) for s, b in itertools.product((0.0, 0.25, 0.5, 1.0, 2.0), (0.0, 0.1, 0.25))]
"""Weights of the cross-encoder, SPLADE++ and BM25."""
Run = Mapping[str, Mapping[str, float]]


def judged(run: Run, gold: Gold) -> dict[str, float]:
    """Return nDCG@10 of every query."""
    rankings = {
        q: Ranking(q, tuple(Ranked(d, s) for d, s in sorted(docs.items(), key=lambda x: -x[1])))
        for q, docs in run.items()
    }
    return {q: row[0] for q, row in NDCG.rows(gold, rankings, {}).items()}


def fused(runs: Sequence[Run], method: str, weights: Sequence[float] | None = None) -> Run:
    """Fuse runs query by query."""
    return {q: fuse([r[q] for r in runs], method, weights=weights) for q in runs[0]}


def main() -> None:
    """Print the comparison in both directions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs=2)
    args = parser.parse_args()
    encoder = CrossEncoder.load()
    years = []
    for folder in args.folders:
        given = {p.name.split(".")[0]: read_run(p) for p in sorted((folder / "runs").glob("*.trec.gz"))}
        queries, texts = read_queries(folder / "queries.tsv"), read_passages(folder / "passages.jsonl.gz")
        pool = {q: list(given["bm25"][q] | given["splade_pp"][q]) for q in given["bm25"]}
        begun = time.process_time()
        scores = iter(encoder.score([(queries[q], texts[d]) for q, docs in pool.items() for d in docs]).tolist())
        cross = {q: {d: next(scores) for d in docs} for q, docs in pool.items()}
        print(
            f"{folder.name}: {sum(map(len, pool.values()))} pairs read in {time.process_time() - begun:.0f} CPU-s",
            flush=True,
        )
        years.append((folder.name, cross, given, read_qrels(folder / "qrels.txt")))

    def blend(year: int, weights: Sequence[float]) -> dict[str, float]:
        _, cross, given, gold = years[year]
        return judged(fused([cross, given["splade_pp"], given["bm25"]], "zscore", weights), gold)

    for tune, test in ((1, 0), (0, 1)):
        name, cross, given, gold = years[test]
        best = max(GRID, key=lambda w: float(np.mean(list(blend(tune, w).values()))))
        ours = blend(test, best)
        others = {s: judged(given[s], gold) for s in given}
        others["cross-encoder over both"] = judged(cross, gold)
        for pair in itertools.combinations([s for s in ("bm25", "tasb", "splade_pp") if s in given], 2):
            others["rrf " + " + ".join(pair)] = judged(fused([given[s] for s in pair], "rrf"), gold)
        low, high = bootstrap(np.array(list(ours.values()))[:, None], lambda r: float(r.mean()))
        print(
            f"{name} (n = {len(ours)}), weights {best} of {years[tune][0]}: "
            f"{np.mean(list(ours.values())):.4f} [{low:.4f}, {high:.4f}]"
        )
        for other, values in others.items():
            d, low, high, p = paired_bootstrap(ours, values, seed=0)
            print(
                f"  {other:<28} {np.mean(list(values.values())):.4f}   ours over it {d:+.4f} [{low:+.4f}, {high:+.4f}] p={p:.3f}"
            )


if __name__ == "__main__":
    main()

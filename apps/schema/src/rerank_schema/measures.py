"""Measures of schema matching: MRR, Recall@GT, Recall@k, and precision, recall and F1 of decisions.

Definitions follow Valentine 1.0.1 (Koutras et al., ICDE 2021): MRR is over source columns that have a gold target, one
without a candidate counting 0; Recall@GT takes the ``|gold|`` best pairs of the whole table pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rerank_schema.gold import GoldPairs, Name
from rerank_schema.match import MATCH, Match

Pair = tuple[Name, Name]


class Judged:
    """A result with its gold: names brought to one form, pairs in order of score.

    Tables are compared only where the gold names them. A gold column that the result does not know counts as missed.
    """

    def __init__(self, matches: Sequence[Match], gold: GoldPairs) -> None:
        tables = gold.has_tables
        self.gold = {(_name(s, tables), _name(t, tables)) for s, t in gold.pairs}
        by_source: dict[Name, list[Match]] = {}
        for match in matches:
            by_source.setdefault(_name(match.source, tables), []).append(match)
        self.ranked = {
            s: [_name(m.target, tables) for m in sorted(ms, key=lambda m: m.rank)] for s, ms in by_source.items()
        }
        # Best first over the whole pair; ties by rank, then by the order of the file.
        best_first = sorted(matches, key=lambda m: (-m.score, m.rank))
        self.pairs = [(_name(m.source, tables), _name(m.target, tables)) for m in best_first]
        self.scores = {p: m.score for p, m in zip(reversed(self.pairs), reversed(best_first), strict=True)}
        self.decided = {(_name(m.source, tables), _name(m.target, tables)) for m in matches if m.decision == MATCH}
        self.targets: dict[Name, set[Name]] = {}
        for s, t in self.gold:
            self.targets.setdefault(s, set()).add(t)


def _name(name: Name, tables: bool) -> Name:
    return (name[0] if tables else "", name[1])


def reciprocal_ranks(judged: Judged) -> dict[Name, float]:
    """Return 1 / rank of the first gold target of every source column that has one; 0 where none is ranked."""
    out = {}
    for source, targets in judged.targets.items():
        places = [rank for rank, t in enumerate(judged.ranked.get(source, []), start=1) if t in targets]
        out[source] = 1.0 / places[0] if places else 0.0
    return out


def recall_at_gold(judged: Judged) -> float:
    """Share of the gold among the ``|gold|`` best-scored pairs."""
    top = set(judged.pairs[: len(judged.gold)])
    return len(top & judged.gold) / len(judged.gold) if judged.gold else 0.0


def recall_hits(judged: Judged, k: int = 20) -> dict[Pair, float]:
    """Return for every gold pair whether its target is among the source column's first ``k``."""
    return {(s, t): float(t in judged.ranked.get(s, [])[:k]) for s, t in judged.gold}


def accuracy_at(judged: Judged, k: int) -> dict[Name, float]:
    """Return for every source column with a gold target whether any is among its first ``k`` (accuracy@k, HitRate@k)."""
    return {s: float(any(t in ts for t in judged.ranked.get(s, [])[:k])) for s, ts in judged.targets.items()}


def precision_recall_f1(found: Iterable[Pair], gold: set[Pair]) -> tuple[float, float, float]:
    """Return precision, recall and F1 of a set of pairs; an empty denominator gives 0."""
    found = set(found)
    right = len(found & gold)
    precision = right / len(found) if found else 0.0
    recall = right / len(gold) if gold else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0


def valentine_one_to_one(scores: Mapping[Pair, float]) -> dict[Pair, float]:
    """Valentine 1.0.1's one-to-one filter: the assignment of maximum sum, cut at a median-like score.

    Of the distinct scores in descending order, element ``ceil(n / 2)`` (0-based) is the smallest score kept. A result
    with fewer than two distinct scores comes back whole.
    """
    from rerank_schema.bipartite import assign

    distinct = sorted(set(scores.values()), reverse=True)
    if len(distinct) < 2:
        return dict(scores)
    cut = distinct[math.ceil(len(distinct) / 2)]
    ordered = sorted(scores.items(), key=lambda item: -item[1])
    sources = {s: i for i, s in enumerate(dict.fromkeys(s for (s, _), _ in ordered))}
    targets = {t: j for j, t in enumerate(dict.fromkeys(t for (_, t), _ in ordered))}
    source_names, target_names = list(sources), list(targets)
    chosen = assign({(sources[s], targets[t]): score for (s, t), score in ordered})
    pairs = [(source_names[i], target_names[j]) for i, j in chosen]
    return {p: scores[p] for p in pairs if p in scores and scores[p] >= cut}

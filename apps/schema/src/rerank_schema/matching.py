"""Match two table sets: score, rank, decide, explain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rerank_schema.cleaning import Cleaned, clean
from rerank_schema.decide import Decision
from rerank_schema.match import NO, Match
from rerank_schema.reasons import reason
from rerank_schema.scored import Matcher, Scored
from rerank_schema.tables import Column, Schema

Decide = Callable[[Scored, Sequence[Sequence[int]]], dict[tuple[int, int], Decision]]


def match_schemas(
    source: Schema, target: Schema, matcher: Matcher, decide: Decide, *, topk: int = 20, show_values: bool = True
) -> list[Match]:
    """Rank target columns for every source column.

    Parameters
    ----------
    decide
        ``decide(scored, tops)`` -> decision of every candidate pair.
    topk
        Candidates a source column.
    show_values
        Whether reasons may name cell values.

    Returns
    -------
    list of Match
        Source columns in their order, candidates best first. A source column without a candidate has none.
    """
    if topk < 1:
        raise ValueError("topk must be at least 1")
    scored = matcher.score(source.columns, target.columns)
    return match_scored(source, target, scored, decide, topk=topk, show_values=show_values)


def match_scored(
    source: Schema, target: Schema, scored: Scored, decide: Decide, *, topk: int = 20, show_values: bool = True
) -> list[Match]:
    """The same from scores that are there already."""
    tops = scored.top(topk)
    decisions = decide(scored, tops)
    explain = _explainer(source.columns, target.columns, scored, show_values)
    out = []
    for s, places in enumerate(tops):
        a = source.columns[s]
        for rank, t in enumerate(places, start=1):
            b = target.columns[t]
            decision = decisions.get((s, t), Decision(None, NO))
            out.append(
                Match(
                    a.table, a.name, b.table, b.name, float(scored.scores[s, t]), rank,
                    decision.probability, decision.decision, explain(s, t),
                )
            )  # fmt: skip
    return out


def unmatched(source: Schema, matches: Sequence[Match]) -> list[tuple[str, str]]:
    """Return the source columns without any candidate."""
    seen = {m.source for m in matches}
    return [(c.table, c.name) for c in source.columns if (c.table, c.name) not in seen]


def _explainer(
    sources: Sequence[Column], targets: Sequence[Column], scored: Scored, show_values: bool
) -> Callable[[int, int], str]:
    known: dict[int, Cleaned] = {}

    def cleaned(column: Column) -> Cleaned:
        if id(column) not in known:
            known[id(column)] = clean(column)
        return known[id(column)]

    def explain(s: int, t: int) -> str:
        pair = (cleaned(sources[s]), cleaned(targets[t])) if show_values else None
        return reason(sources[s], targets[t], scored.evidence(s, t), scored.words, pair)

    return explain

"""From turns to rankings: the expert's candidates, the model's items, a strategy, one line a turn."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_core.errors import UsageError
from rerank_core.io import atomic_write
from rerank_core.types import Candidate, Ranking, Request, Status
from rerank_recommend import care
from rerank_recommend.care import CareParams, Reliability
from rerank_recommend.data import Catalogue, Item, Turn
from rerank_recommend.evaluation import ground_recorded
from rerank_recommend.experts import Context
from rerank_recommend.grounding import Grounded, listed
from rerank_recommend.model import Recommended, Recommender


@dataclass(frozen=True, slots=True)
class Conversation:
    """The query of a recommendation request: utterances, and the ids of items mentioned so far."""

    context: tuple[str, ...]
    known: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Rankings of turns with what is known of each.

    Parameters
    ----------
    requests
        The expert's candidates, joined with the model's own items where the strategy allows.
    grounded
        Turn id -> the model's entries and where they lead, where there was an answer.
    reliability
        How far the answers belong to their conversations, where the strategy asks.
    """

    requests: list[Request[Conversation, Item]]
    rankings: list[Ranking]
    contexts: list[Context]
    grounded: Mapping[str, Sequence[Grounded]] = field(default_factory=dict)
    reliability: Reliability | None = None


def make_request(
    catalogue: Catalogue, turn: Turn, context: Context, columns: Sequence[int], scores: Mapping[int, float]
) -> Request[Conversation, Item]:
    """Return a request over items; ``scores`` holds those the expert gave."""
    items = catalogue.items
    known = tuple(items[c].id for c in context.known)
    candidates = tuple(Candidate(items[c].id, items[c], scores.get(c)) for c in columns)
    return Request(turn.id, Conversation(turn.context, known), candidates, group=turn.dialogue)


def run_strategy(
    model: Recommender,
    turns: Sequence[Turn],
    strategy: str,
    answers: Mapping[str, str] | None = None,
    params: CareParams | None = None,
    recommended: Sequence[Recommended] | None = None,
) -> Outcome:
    """Rank items for turns.

    Parameters
    ----------
    strategy
        One of `rerank_recommend.care.STRATEGIES`.
    answers
        Turn id -> the language model's text; needed by all but ``experts``. A turn without one keeps the expert's
        list, and its status says so.
    recommended
        The expert's lists, where they are at hand already.

    Raises
    ------
    UsageError
        On an unknown strategy, or one that needs answers and has none.
    """
    p = params or CareParams()
    if strategy not in care.STRATEGIES:
        raise UsageError(f"unknown method {strategy!r}; known: {', '.join(care.STRATEGIES)}")
    if answers is None and strategy != "experts":
        raise UsageError(f"method {strategy!r} needs a language model's answers: --recorded FILE, --llm or --endpoint")
    contexts = model.contexts(turns)
    expert = list(recommended) if recommended is not None else model.recommend(contexts)
    grounded = ground_recorded(answers, model.grounder) if answers is not None and strategy != "experts" else {}
    llm = [listed(grounded.get(t.id, ())) for t in turns]
    lists = [r.columns.tolist() for r in expert]
    trust, ordered = None, True
    if strategy == "fuse":
        weights = [care.reciprocal(x, p.rrf) for x in lists]
        dialogues = [t.dialogue for t in turns]
        fresh = [[i for i in x if i not in c.known] for x, c in zip(llm, contexts, strict=True)]
        trust = care.reliability(fresh, weights, dialogues, model.catalogue.n_items, p)
        ordered = care.order_matters(fresh, weights, dialogues) >= p.order
    requests, rankings = [], []
    for turn, context, r, own, theirs in zip(turns, contexts, expert, llm, lists, strict=True):
        if trust is not None:
            order = care.fuse(own, theirs, trust.value, p, known=context.known, ordered=ordered)
        else:
            order = _order(strategy, own, theirs, p)
        pool = dict.fromkeys(own if strategy == "direct" else theirs)
        pool.update(dict.fromkeys(order))
        scores = dict(zip(theirs, r.scores.tolist(), strict=True))
        request = make_request(model.catalogue, turn, context, list(pool), scores)
        items = model.catalogue.items
        missed = strategy != "experts" and not own
        status = Status.FALLBACK if missed else Status.OK
        if strategy == "experts":
            given = {items[c].id: s for c, s in scores.items()}
            ranking = Ranking.from_order(request, [items[c].id for c in order], scores=given)
        else:
            ranking = Ranking.from_order(request, [items[c].id for c in order], status=status)
        requests.append(request)
        rankings.append(ranking)
    return Outcome(requests, rankings, contexts, grounded, trust)


def _order(strategy: str, llm: Sequence[int], expert: Sequence[int], p: CareParams) -> list[int]:
    if strategy == "experts":
        return list(expert)
    if strategy == "direct":
        return list(llm)
    if strategy == "expand":
        return care.expand(llm, expert)
    if strategy == "rerank":
        return care.rerank(llm, expert, p.rerank_from)
    return care.rerank(llm, expert, p.select_from)


def ranking_rows(
    model: Recommender, turns: Sequence[Turn], outcome: Outcome, explain: bool = False
) -> list[dict[str, Any]]:
    """Return one JSON object a turn, as ``rerank`` writes it: the shared form, with titles and what was mentioned."""
    from rerank_core.io import ranking_to_json

    c = model.catalogue
    rows = []
    for turn, context, request, ranking in zip(
        turns, outcome.contexts, outcome.requests, outcome.rankings, strict=True
    ):
        row = ranking_to_json(ranking, seconds=False)
        llm = {
            c.items[g.item].id: (n, g) for n, g in enumerate(outcome.grounded.get(turn.id, ()), 1) if g.item is not None
        }
        expert = {k.id: n for n, k in enumerate(request.candidates, 1) if k.score is not None}
        for item in row["ranking"]:
            item["title"] = c.names[c.row_of[item["id"]]]
            if explain:
                item["reason"] = _reason(expert.get(item["id"]), llm.get(item["id"]))
        row["seen"] = (
            [c.names[c.row_of[c.items[k].id]] for k in context.known]
            if _named(turn)
            else [c.items[k].id for k in context.known]
        )
        row["in_training"] = turn.dialogue in model.dialogues
        rows.append(row)
    return rows


def _named(turn: Turn) -> bool:
    return any(isinstance(m, str) for m in (turn.mentions or ()))


def _reason(expert: int | None, llm: tuple[int, Grounded] | None) -> str:
    parts = []
    if llm is not None:
        parts.append(f"model {llm[0]}: {llm[1].raw!r} ({llm[1].reason})")
    if expert is not None:
        parts.append(f"expert {expert}")
    return "; ".join(parts) or "namesake of an item that the model named"


def write_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines atomically."""
    with atomic_write(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

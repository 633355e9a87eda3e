"""What a learned ranker sees of a cluster: how many agree, what the result looks like, how program and question fit.

One row a cluster. Nothing depends on the order of the candidates or on who wrote them, unless sources are asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rerank_core.types import FloatArray, Request
from rerank_programs import equality
from rerank_programs.data import Program, Task
from rerank_programs.expectation import agreement, guess
from rerank_programs.lints import lint
from rerank_programs.results import Outcome

_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?", re.I)
_LITERAL = re.compile(r"'([^']*)'|\"([^\"]*)\"|\b(\d+(?:\.\d+)?)\b")
_STOP = frozenset(
    [
        "the",
        "a",
        "an",
        "of",
        "in",
        "on",
        "for",
        "to",
        "and",
        "or",
        "is",
        "are",
        "was",
        "were",
        "be",
        "by",
        "with",
        "from",
        "that",
        "which",
        "what",
        "who",
        "whose",
        "how",
        "many",
        "much",
        "all",
        "each",
        "every",
        "their",
        "its",
        "his",
        "her",
        "has",
        "have",
        "had",
        "do",
        "does",
        "did",
        "than",
        "as",
        "at",
        "it",
        "there",
        "this",
        "those",
        "these",
        "show",
        "list",
        "find",
        "give",
        "return",
        "select",
        "where",
        "group",
        "order",
        "having",
        "join",
        "limit",
        "distinct",
        "count",
    ]
)
_CLAUSES = {
    "joins": re.compile(r"\bjoin\b", re.I),
    "group_by": re.compile(r"\bgroup\s+by\b", re.I),
    "order_by": re.compile(r"\border\s+by\b", re.I),
    "limit": re.compile(r"\blimit\b", re.I),
    "distinct": re.compile(r"\bdistinct\b", re.I),
    "nested": re.compile(r"\(\s*select\b", re.I),
    "set_operation": re.compile(r"\b(union|intersect|except)\b", re.I),
    "aggregate": re.compile(r"\b(count|sum|avg|min|max)\s*\(", re.I),
    "like": re.compile(r"\blike\b", re.I),
    "negated": re.compile(r"\bnot\b|!=|<>", re.I),
    "left_join": re.compile(r"\bleft\b", re.I),
    "case": re.compile(r"\bcase\b", re.I),
}
_CUES = {
    "asks_number": re.compile(r"\b(how many|number of|count)\b", re.I),
    "asks_different": re.compile(r"\b(different|distinct|unique)\b", re.I),
    "asks_superlative": re.compile(
        r"\b(most|least|highest|lowest|largest|smallest|youngest|oldest|maximum|minimum)\b", re.I
    ),
    "asks_order": re.compile(r"\b(sort|order|ascending|descending|alphabetical)", re.I),
    "asks_each": re.compile(r"\b(each|every|per)\b", re.I),
    "asks_not": re.compile(r"\b(not|no|never|without)\b|n't\b", re.I),
}
_LINTS = ("empty", "all_null", "null_column", "duplicate_rows", "duplicate_columns")

POOL_FEATURES = (
    "share", "rank", "behind", "clusters", "candidates", "ran", "entropy", "columns_share", "rows_share", "text_variety",
)  # fmt: skip
OWN_FEATURES = (
    *_LINTS, "rows", "columns", "numeric", "fit", "length", "question_covered", "program_covered", "foreign_literals",
    *_CLAUSES, *_CUES, "number_and_scalar", "different_without_distinct", "distinct_unasked", "superlative_one_row",
    "order_unasked", "each_without_group", "not_without_negation", "asked_columns",
)  # fmt: skip
NAMES = POOL_FEATURES + OWN_FEATURES
RELATIVE = tuple(
    f"{n}_relative" for n in ("length", "columns", "question_covered", "program_covered", "joins", "foreign_literals")
)
ALL_NAMES = NAMES + RELATIVE

MONOTONE = {"share": 1, "behind": -1, "empty": -1, "all_null": -1, "null_column": -1, "fit": 1}
"""Directions that a model may not learn to turn round."""


@dataclass(frozen=True)
class Pool:
    """One request prepared: what stays the same whichever candidates are in the pool.

    Parameters
    ----------
    labels
        Shape (n_candidates,): cluster of each candidate over the full pool, -1 where it did not run.
    own
        Shape (n_candidates, n_own): features of program and result.
    columns, rows
        Shape (n_candidates,): shape of each result.
    texts
        Shape (n_candidates,): equal numbers for equal texts.
    counts
        Shape (n_candidates,): how often each was sampled.
    """

    labels: np.ndarray
    own: FloatArray
    columns: np.ndarray
    rows: np.ndarray
    texts: np.ndarray
    counts: FloatArray


def prepare(request: Request[Task, Program], outcomes: Sequence[Outcome], mode: str = "spider") -> Pool:
    """Compute everything that does not depend on the sub-pool."""
    n = len(outcomes)
    labels = np.full(n, -1)
    for k, members in enumerate(equality.clusters(outcomes, mode)):
        labels[members] = k
    known: dict[str, int] = {}
    texts = np.array(
        [known.setdefault(" ".join(c.content.text.lower().split()), len(known)) for c in request.candidates]
    )
    own = np.zeros((n, len(OWN_FEATURES)))
    for i, (candidate, outcome) in enumerate(zip(request.candidates, outcomes, strict=True)):
        if outcome.ok:
            own[i] = own_features(request.query.question, candidate.content.text, outcome)
    return Pool(
        labels,
        own,
        np.array([len(o.columns) for o in outcomes]),
        np.array([len(o.rows) for o in outcomes]),
        texts,
        np.array([c.content.count for c in request.candidates], dtype=np.float64),
    )


def own_features(question: str, program: str, outcome: Outcome) -> FloatArray:
    """Return the features of one program and its result, shape (len(OWN_FEATURES),)."""
    lints = lint(outcome)
    clauses = {name: float(len(p.findall(program))) for name, p in _CLAUSES.items()}
    cues = {name: float(bool(p.search(question))) for name, p in _CUES.items()}
    asked, said = _words(question), _words(program)
    literals = [next(x for x in m if x) for m in _LITERAL.findall(program) if any(m)]
    low = question.lower()
    foreign = sum(x.strip("%").lower() not in low for x in literals if x != "1")
    scalar = len(outcome.rows) == 1 and len(outcome.columns) == 1
    cell = outcome.rows[0][0] if outcome.rows and outcome.columns else None
    values = {name: float(lints.count(name)) for name in _LINTS}
    values |= {
        "rows": math.log1p(len(outcome.rows)),
        "columns": float(len(outcome.columns)),
        "numeric": float(isinstance(cell, int | float)),
        "fit": agreement(outcome, guess(question)),
        "length": math.log1p(len(program.split())),
        "question_covered": _covered(asked, said),
        "program_covered": _covered(said, asked),
        "foreign_literals": float(foreign),
        "number_and_scalar": cues["asks_number"] * float(scalar),
        "different_without_distinct": cues["asks_different"]
        * float(clauses["distinct"] == 0 and clauses["group_by"] == 0),
        "distinct_unasked": float(clauses["distinct"] > 0) * (1 - cues["asks_different"]),
        "superlative_one_row": cues["asks_superlative"] * float(len(outcome.rows) == 1),
        "order_unasked": float(clauses["order_by"] > 0 and clauses["limit"] == 0) * (1 - cues["asks_order"]),
        "each_without_group": cues["asks_each"] * float(clauses["group_by"] == 0),
        "not_without_negation": cues["asks_not"] * float(clauses["negated"] + clauses["set_operation"] == 0),
        "asked_columns": float(1 + low.count(" and ") + low.count(",")) - len(outcome.columns),
    }
    values |= clauses | cues
    return np.array([values[name] for name in OWN_FEATURES])


def _words(text: str) -> frozenset[str]:
    return frozenset(_stem(w.lower()) for w in _WORD.findall(text)) - _STOP


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") else word


def _covered(a: frozenset[str], b: frozenset[str]) -> float:
    if not a:
        return 1.0
    return sum(w in b or any(len(w) > 3 and w in x for x in b) for w in a) / len(a)


def table(pool: Pool, members: np.ndarray | None = None) -> tuple[list[np.ndarray], FloatArray]:
    """Return the clusters of a (sub-)pool and their features.

    Parameters
    ----------
    members
        Positions of the candidates in the pool; by default all.

    Returns
    -------
    clusters
        Positions of each cluster's members, first member first.
    features
        Shape (n_clusters, len(ALL_NAMES)).
    """
    chosen = np.arange(len(pool.labels)) if members is None else np.asarray(members)
    ran = chosen[pool.labels[chosen] >= 0]
    if not len(ran):
        return [], np.zeros((0, len(ALL_NAMES)))
    order = list(dict.fromkeys(pool.labels[ran].tolist()))
    groups = [ran[pool.labels[ran] == k] for k in order]
    weight = pool.counts[ran].sum()
    share = np.array([pool.counts[g].sum() / weight for g in groups])
    own = np.array([np.average(pool.own[g], axis=0, weights=pool.counts[g]) for g in groups])
    first = np.array([g[0] for g in groups])
    same = lambda values: np.array([pool.counts[ran][values[ran] == values[f]].sum() / weight for f in first])  # noqa: E731
    top = share.max()
    values = {
        "share": share,
        "rank": np.argsort(np.argsort(-share, kind="stable")).astype(float),
        "behind": top - share,
        "clusters": np.full(len(groups), len(groups) / len(chosen)),
        "candidates": np.full(len(groups), float(len(chosen))),
        "ran": np.full(len(groups), len(ran) / len(chosen)),
        "entropy": np.full(len(groups), float(-(share * np.log(share)).sum())),
        "columns_share": same(pool.columns),
        "rows_share": same(pool.rows),
        "text_variety": np.array([len(set(pool.texts[g].tolist())) / len(g) for g in groups]),
    }
    pool_part = np.column_stack([values[name] for name in POOL_FEATURES])
    typical = np.average(own, axis=0, weights=share)
    at = [OWN_FEATURES.index(name.removesuffix("_relative")) for name in RELATIVE]
    return groups, np.hstack([pool_part, own, own[:, at] - typical[at]])

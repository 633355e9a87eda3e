"""KALM4Rec's task: recommend to a user of whom only keywords are known (WWW Companion 2025).

Protocol note: the official protocol takes a test user's keywords from the very reviews of the gold items, which is an
upper bound ("the user states keywords"). ``leave-one-out`` takes them from the user's *other* reviews: one case for
each gold item, the others counted as seen. Both are given; the second is the honest one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError, UsageError
from rerank_core.measures import Row
from rerank_core.statistics import bootstrap
from rerank_recommend.keywords import (
    QUERY_KEYWORDS,
    KeywordIndex,
    Review,
    extract_keywords,
    jaccard_scores,
    judge,
    mpg_scores,
    select_keywords,
    similar_users,
)
from rerank_recommend.texts import BM25

CANDIDATES = 20
PROTOCOLS = ("official", "leave-one-out")
NEURAL = ("mf", "multvae", "clcrec")


@dataclass(frozen=True)
class Query:
    """A case: somebody's keywords, the items they lead to, items not to be shown."""

    id: str
    user: str
    keywords: tuple[str, ...]
    gold: tuple[str, ...]
    seen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """Training reviews as an index, and the test queries."""

    index: KeywordIndex
    train: tuple[Review, ...]
    queries: tuple[Query, ...]

    @cached_property
    def selected(self) -> list[list[tuple[str, float]]]:
        """Each query's most valuable keywords."""
        return [select_keywords(self.index, q.keywords, QUERY_KEYWORDS) for q in self.queries]

    @cached_property
    def bm25(self) -> BM25:
        """BM25 over everything written of an item in training."""
        texts: dict[str, list[str]] = {i: [i] for i in self.index.items}
        for r in self.train:
            texts[r.item].append(r.text)
        return BM25().fit_documents(["\n".join(texts[i]) for i in self.index.items])

    @cached_property
    def user_items(self) -> NDArray[np.float32]:
        """Training users by items, 1 where one reviewed the other."""
        user = {u: k for k, u in enumerate(self.index.users)}
        item = {i: k for k, i in enumerate(self.index.items)}
        matrix = np.zeros((len(user), len(item)), dtype=np.float32)
        for r in self.train:
            matrix[user[r.user], item[r.item]] = 1.0
        return matrix


def make_task(reviews: Sequence[Review], *, train: str = "all", protocol: str = "official") -> Task:
    """Split reviews into a task.

    Parameters
    ----------
    train
        ``all``: every user that is no test user; ``regular``: only users of split ``train``.
    """
    if train not in ("all", "regular"):
        raise UsageError(f"unknown --train {train!r}; known: all, regular")
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown --protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    learn = [r for r in reviews if r.split == "train" or (train == "all" and r.split != "test")]
    if not learn:
        raise InputError("no training review (split train)")
    words: dict[tuple[str, str], list[str]] = {}
    for r in reviews:
        if r.split == "test":
            words.setdefault((r.user, r.item), []).extend(extract_keywords(r.text))
    index = KeywordIndex.build((r.user, r.item, extract_keywords(r.text)) for r in learn)
    users: dict[str, list[str]] = {}
    for user, item in words:
        users.setdefault(user, []).append(item)
    queries = []
    known = set(index.items)
    for user, items in users.items():
        gold = [i for i in items if i in known]
        if protocol == "official":
            said = [w for i in items for w in words[user, i]]
            if gold:
                queries.append(Query(user, user, tuple(said), tuple(gold)))
            continue
        for target in gold:
            others = [i for i in items if i != target]
            said = [w for i in others for w in words[user, i]]
            if others:
                queries.append(Query(f"{user}/{target}", user, tuple(said), (target,), tuple(others)))
    if not queries:
        raise InputError("no test user has a review of an item of the catalogue")
    return Task(index, tuple(learn), tuple(queries))


def _z(scores: NDArray[Any]) -> NDArray[np.float64]:
    spread = scores.std(axis=-1, keepdims=True)
    return np.asarray((scores - scores.mean(axis=-1, keepdims=True)) / np.where(spread > 0, spread, 1.0))


def _words(task: Task) -> list[list[str]]:
    return [[w for w, _ in s] for s in task.selected]


def _popularity(task: Task) -> NDArray[np.float64]:
    return np.tile(task.user_items.sum(axis=0).astype(np.float64), (len(task.queries), 1))


def _jaccard(task: Task) -> NDArray[np.float64]:
    return np.stack([jaccard_scores(task.index, q.keywords) for q in task.queries])


def _mpg(task: Task) -> NDArray[np.float64]:
    return np.stack([mpg_scores(task.index, w) for w in _words(task)])


def _mpg_normalised(task: Task) -> NDArray[np.float64]:
    return np.stack([mpg_scores(task.index, w, normalised=True) for w in _words(task)])


def _bm25(task: Task) -> NDArray[np.float64]:
    return task.bm25.score_texts([" ".join(w) for w in _words(task)]).astype(np.float64)


def _bm25_all(task: Task) -> NDArray[np.float64]:
    return task.bm25.score_texts([" ".join(q.keywords) for q in task.queries]).astype(np.float64)


def _default(task: Task) -> NDArray[np.float64]:
    return _z(_bm25(task)) + _z(_mpg_normalised(task))


RETRIEVERS: Mapping[str, Callable[[Task], NDArray[np.float64]]] = {
    "default": _default,
    "popularity": _popularity,
    "jaccard": _jaccard,
    "mpg": _mpg,
    "mpg-normalised": _mpg_normalised,
    "bm25": _bm25,
    "bm25-all-keywords": _bm25_all,
}


def scores_of(task: Task, name: str, seed: int = 0) -> NDArray[np.float64]:
    """Return every query's score of every item, shape (n_queries, n_items)."""
    if name in NEURAL:
        from rerank_recommend import cold

        near = [similar_users(task.index, s) for s in task.selected]
        if name == "mf":
            return cold.mf(task.user_items, near, seed=seed)
        if name == "multvae":
            return cold.multvae(task.user_items, near, seed=seed)
        return cold.clcrec(task.user_items, task.index.normalised.T.toarray(), near, seed=seed)
    return RETRIEVERS[name](task)


def retrieve(task: Task, name: str, n: int = CANDIDATES, seed: int = 0) -> list[list[str]]:
    """Return every query's n best items, seen ones left out; ties go to the name that comes first."""
    out = []
    for query, scores in zip(task.queries, scores_of(task, name, seed), strict=True):
        seen = set(query.seen)
        order = np.argsort(-scores, kind="stable")
        out.append([i for i in (task.index.items[j] for j in order) if i not in seen][:n])
    return out


def candidate_rows(task: Task, lists: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Return a line a query: keywords with values, candidates, similar training users."""
    return [
        {
            "id": q.id,
            "keywords": [{"text": w, "value": round(v, 6)} for w, v in chosen],
            "candidates": list(items),
            "similar_users": [task.index.users[u] for u in similar_users(task.index, chosen)],
        }
        for q, chosen, items in zip(task.queries, task.selected, lists, strict=True)
    ]


def summarise(task: Task, name: str, lists: Sequence[Sequence[str]], seed: int = 0) -> list[dict[str, Any]]:
    """Return P, R and nDCG at 1, 5 and 20 with intervals over users."""
    rows = []
    groups = {u: k for k, u in enumerate(dict.fromkeys(q.user for q in task.queries))}
    owner = np.array([groups[q.user] for q in task.queries])
    count = np.bincount(owner)
    for k in (1, 5, 20):
        scores = [judge(x, q.gold, k) for q, x in zip(task.queries, lists, strict=True)]
        for measure, values in (
            ("P", [s.precision for s in scores]),
            ("R", [s.recall for s in scores]),
            ("nDCG", [s.ndcg for s in scores]),
        ):
            per_user = np.column_stack([np.bincount(owner, weights=values), count]).astype(np.float64)
            low, high = bootstrap(per_user, lambda r: float(r[:, 0].sum() / r[:, 1].sum()), seed=seed)
            row = Row(name, f"{measure}@{k}", float(np.mean(values)), len(values), low, high)
            rows.append({**row.as_dict(), "subset": "all"})
    return rows

"""Keywords of reviews and MPG, the retrieval of KALM4Rec (WWW Companion 2025), official and normalised.

Where paper and repository (dangkh/kalm4rec-www) differ we follow the repository: inverse user frequency is
ln(1000 / users) with the constant 1000, whatever the number of users, and negative beyond it. Departure: ties are
broken by name, not by an unstable sort. Keywords are runs of content words between stop words and punctuation (RAKE's
phrases) instead of spaCy noun chunks, so that no parser is needed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

IUF_CONSTANT = 1000.0
MISSING_IUF = 0.01
QUERY_KEYWORDS = 20
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|[^\w\s]|\d+")


def extract_keywords(text: str, max_words: int = 3) -> list[str]:
    """Return the keywords of a text in order, repeats kept: content words in a row, longer than two characters.

    Runs longer than ``max_words`` give their overlapping pairs.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS as STOP

    keywords: list[str] = []
    run: list[str] = []

    def close() -> None:
        if 0 < len(run) <= max_words:
            keywords.append(" ".join(run))
        elif run:
            keywords.extend(f"{a} {b}" for a, b in pairwise(run))
        run.clear()

    for token in _WORD.findall(text.lower().replace("’", "'")):
        if not token[0].isalpha() or token in STOP:
            close()
        elif len(token) > 2:
            run.append(token)
    close()
    return keywords


@dataclass(frozen=True)
class Review:
    """What somebody wrote about an item."""

    user: str
    item: str
    text: str
    split: str = "train"


@dataclass(frozen=True)
class KeywordIndex:
    """Counts of keywords by item and by user.

    Parameters
    ----------
    keywords, items, users
        Sorted names.
    by_item, by_user
        csr of counts, shapes (n_keywords, n_items) and (n_keywords, n_users).
    """

    keywords: tuple[str, ...]
    items: tuple[str, ...]
    users: tuple[str, ...]
    by_item: Any
    by_user: Any

    @classmethod
    def build(cls, reviews: Iterable[tuple[str, str, Sequence[str]]], min_count: int = 3) -> KeywordIndex:
        """Count (user, item, keywords) triples; keywords rarer than ``min_count`` in all are dropped."""
        item_counts: dict[str, Counter[str]] = {}
        user_counts: dict[str, Counter[str]] = {}
        total: Counter[str] = Counter()
        items, users = set(), set()
        for user, item, words in reviews:
            items.add(item)
            users.add(user)
            total.update(words)
            for w in words:
                item_counts.setdefault(w, Counter())[item] += 1
                user_counts.setdefault(w, Counter())[user] += 1
        kept = {w for w, n in total.items() if n >= min_count}
        return cls.from_counts(
            {w: item_counts[w] for w in kept}, {w: user_counts[w] for w in kept}, sorted(items), sorted(users)
        )

    @classmethod
    def from_counts(
        cls,
        item_counts: Mapping[str, Mapping[str, int]],
        user_counts: Mapping[str, Mapping[str, int]],
        items: Sequence[str] = (),
        users: Sequence[str] = (),
    ) -> KeywordIndex:
        """Build from keyword -> item -> count and keyword -> user -> count."""
        words = tuple(sorted(item_counts))
        all_items = tuple(sorted({i for c in item_counts.values() for i in c} | set(items)))
        all_users = tuple(sorted({u for c in user_counts.values() for u in c} | set(users)))
        return cls(
            words, all_items, all_users, _counts(words, item_counts, all_items), _counts(words, user_counts, all_users)
        )

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Keyword -> row."""
        return {w: i for i, w in enumerate(self.keywords)}

    @cached_property
    def iuf(self) -> NDArray[np.float64]:
        """Inverse user frequency, shape (n_keywords,)."""
        df = np.diff(self.by_user.indptr)
        return np.where(df > 0, np.log(IUF_CONSTANT / np.maximum(df, 1)), MISSING_IUF)

    @cached_property
    def tf_iuf(self) -> Any:
        """Count times inverse user frequency, csr (n_keywords, n_items)."""
        return sp.csr_matrix(sp.diags(self.iuf) @ self.by_item)

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Value of each keyword: the mean of its TF-IUF over the items that have it."""
        n = np.maximum(np.diff(self.by_item.indptr), 1)
        return np.asarray(self.tf_iuf.sum(axis=1)).ravel() / n

    @cached_property
    def normalised(self) -> Any:
        """TF-IUF with every item's weights brought to length 1, so that much-reviewed items gain nothing by it."""
        norm = np.sqrt(np.asarray(self.tf_iuf.multiply(self.tf_iuf).sum(axis=0)).ravel())
        return sp.csr_matrix(self.tf_iuf @ sp.diags(1 / np.maximum(norm, 1e-12)))


def _counts(words: Sequence[str], counts: Mapping[str, Mapping[str, int]], names: Sequence[str]) -> Any:
    column = {n: j for j, n in enumerate(names)}
    triples = [(i, column[n], c) for i, w in enumerate(words) for n, c in counts.get(w, {}).items()]
    rows, columns, data = (np.array(x) for x in zip(*triples, strict=True)) if triples else (np.empty(0, int),) * 3
    return sp.csr_matrix((data.astype(np.float64), (rows, columns)), shape=(len(words), len(names)))


def select_keywords(
    index: KeywordIndex, words: Sequence[str], n: int = QUERY_KEYWORDS, nearest: Any = None
) -> list[tuple[str, float]]:
    """Return a user's n most valuable keywords with their values, best first.

    Parameters
    ----------
    nearest
        ``nearest(words) -> keywords``: maps words that the index does not know (KALM4Rec takes the nearest training
        keyword in a sentence-embedding space, however far); by default such words are dropped.
    """
    known = [w for w in dict.fromkeys(words) if w in index.row_of]
    unknown = [w for w in dict.fromkeys(words) if w not in index.row_of]
    if nearest is not None and unknown:
        known += [w for w in nearest(unknown) if w in index.row_of]
    valued = [(w, float(index.values[index.row_of[w]])) for w in dict.fromkeys(known)]
    if len(valued) <= 1:
        return valued
    return sorted(valued, key=lambda x: (-x[1], x[0]))[:n]


def mpg_scores(index: KeywordIndex, words: Sequence[str], *, normalised: bool = False) -> NDArray[np.float64]:
    """Return every item's sum of TF-IUF over the query keywords, shape (n_items,)."""
    rows = [index.row_of[w] for w in dict.fromkeys(words) if w in index.row_of]
    weights = index.normalised if normalised else index.tf_iuf
    return np.asarray(weights[rows].sum(axis=0)).ravel()


def jaccard_scores(index: KeywordIndex, words: Sequence[str]) -> NDArray[np.float64]:
    """Return the Jaccard likeness of the query's keywords and each item's keywords, shape (n_items,)."""
    rows = [index.row_of[w] for w in dict.fromkeys(words) if w in index.row_of]
    has = index.by_item > 0
    common = np.asarray(has[rows].sum(axis=0)).ravel()
    size = np.asarray(has.sum(axis=0)).ravel()
    return common / np.maximum(size + len(set(words)) - common, 1)


def similar_users(index: KeywordIndex, words: Sequence[tuple[str, float]], n: int = 3) -> list[int]:
    """Return the n training users with the highest sum of keyword value times their count."""
    rows = [index.row_of[w] for w, _ in words if w in index.row_of]
    values = np.array([v for w, v in words if w in index.row_of])
    if not len(rows):
        return []
    scores = np.asarray(values @ index.by_user[rows]).ravel()
    return np.argsort(-scores, kind="stable")[:n].tolist()


def top_items(index: KeywordIndex, scores: NDArray[np.float64], n: int) -> list[str]:
    """Return the n best items; ties go to the name that comes first."""
    return [index.items[j] for j in np.argsort(-scores, kind="stable")[:n]]


@dataclass(frozen=True, slots=True)
class UserScores:
    """Measures of one user's list at a cut-off."""

    precision: float
    recall: float
    ndcg: float


def judge(ranked: Sequence[str], gold: Iterable[str], k: int) -> UserScores:
    """Return precision (of the distinct items shown), recall and binary nDCG at k.

    KALM4Rec's nDCG takes the position in an unordered set, so it changes with the hash seed; this one takes the rank.
    """
    wanted = set(gold)
    shown = list(dict.fromkeys(ranked))[:k]
    hits = [item in wanted for item in shown]
    ideal = sum(1 / math.log2(r + 2) for r in range(min(k, len(wanted))))
    dcg = sum(1 / math.log2(r + 2) for r, hit in enumerate(hits) if hit)
    n = sum(hits)
    return UserScores(
        n / len(shown) if shown else 0.0, n / len(wanted) if wanted else 0.0, dcg / ideal if ideal else 0.0
    )

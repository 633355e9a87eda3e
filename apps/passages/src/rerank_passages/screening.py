"""Screening prioritisation: order a Boolean result set so that reviewers meet the relevant studies early.

Wang et al., "Neural Rankers for Effective Screening Prioritisation in Medical Systematic Review Literature Search",
ADCS 2022: the review's title is the query, a study's title (and abstract) the document, and the whole set is ranked.
``screen_actively`` is the loop of Cormack and Grossman's continuous active learning ("AutoTAR", 2015): rank, show a batch,
learn from the reviewer's answers, rank again; a capture-recapture style estimate says how many relevant ones are left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError
from rerank_core.io import read_lines
from rerank_core.measures import PerRequest
from rerank_core.reranker import Fuse, Reranker, Scores
from rerank_core.types import Candidate, FloatArray, Gold, Ranking, Request
from rerank_passages.retrieve import bm25_scores
from rerank_passages.text import STOPWORDS, terms


def screening_request(title: str, documents: Mapping[str, str]) -> Request[str, str]:
    """Return the whole result set as one request, in the order in which it came."""
    if not title.strip():
        raise InputError("the review needs a title")
    return Request("review", title, tuple(Candidate(i, text) for i, text in documents.items()))


def screening_reranker(cross: Reranker | None = None, share: float = 0.7) -> Reranker:
    """Make the prioritisation: cross-encoder and BM25, z-scores fused; BM25 alone without a cross-encoder."""
    lexical = Scores("bm25", bm25_scores)
    return lexical if cross is None else Fuse([cross, lexical], "zscore", weights=[share, 1 - share])


# -- measures ------------------------------------------------------------------------------------------------------


def _relevant_ranks(gains: Mapping[str, float], ranking: Ranking) -> tuple[list[int], int, int]:
    ranks = [rank for rank, i in enumerate(ranking.ids, 1) if gains.get(i, 0) > 0]
    return ranks, sum(g > 0 for g in gains.values()), len(ranking.ids)


def last_relevant() -> PerRequest:
    """Rank of the last relevant study (lower is better); NaN where none is ranked."""

    def measure(gains: Mapping[str, float], ranking: Ranking, request: object = None) -> float:
        ranks, _, _ = _relevant_ranks(gains, ranking)
        return float(ranks[-1]) if ranks else math.nan

    return PerRequest("last_rel", measure)


def work_saved(recall: float) -> PerRequest:
    """WSS@recall = (N - rank at which the recall is reached) / N - (1 - recall); Cohen et al. 2006."""

    def measure(gains: Mapping[str, float], ranking: Ranking, request: object = None) -> float:
        ranks, total, n = _relevant_ranks(gains, ranking)
        needed = math.ceil(recall * total - 1e-9)
        if not needed or len(ranks) < needed:
            return math.nan
        return (n - ranks[needed - 1]) / n - (1 - recall)

    return PerRequest(f"WSS@{recall:.0%}".rstrip("%"), measure)


def recall_at_percent(percent: float) -> PerRequest:
    """Recall after that share of the set was read (rounded up)."""

    def measure(gains: Mapping[str, float], ranking: Ranking, request: object = None) -> float:
        ranks, total, n = _relevant_ranks(gains, ranking)
        depth = math.ceil(n * percent / 100 - 1e-9)
        return sum(r <= depth for r in ranks) / total if total else math.nan

    return PerRequest(f"Recall@{percent:g}%", measure)


OFFICIAL = (last_relevant(), work_saved(0.95), work_saved(1.0), *(recall_at_percent(p) for p in (1, 5, 10, 20)))


# -- active learning -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Screened:
    """What an active screening did.

    Parameters
    ----------
    order
        Documents in the order they were shown.
    relevant
        Whether each was.
    estimate
        Estimated number of relevant documents after each batch.
    stopped
        Whether the estimate, not the end of the set, ended it.
    """

    order: tuple[str, ...]
    relevant: tuple[bool, ...]
    estimate: tuple[float, ...]
    stopped: bool


def screen_actively(
    documents: Mapping[str, str],
    ask: Callable[[Sequence[str]], Sequence[bool]],
    prior: FloatArray,
    *,
    batch: int = 25,
    recall: float = 0.95,
    patience: int = 3,
    seed: int = 0,
) -> Screened:
    """Show documents batch by batch, learn from the answers, stop when the estimate says that recall is reached.

    Parameters
    ----------
    ask
        ``ask(ids) -> relevant?``; the reviewer.
    prior
        First ranking's scores, shape (n_documents,); they order documents until both answers have been seen, and
        stay a part of the score after that.
    recall, patience
        Stop when found / estimate has been at least ``recall`` for so many batches.

    Notes
    -----
    The estimate is the number found plus the sum of the calibrated probabilities of the rest; it leans on the model
    and is a guide for a person, not a guarantee.
    """
    ids = list(documents)
    x = _tfidf(list(documents.values()))
    shown: list[int] = []
    answers: list[bool] = []
    estimates: list[float] = []
    scores, quiet = _z(prior), 0
    rng = np.random.default_rng(seed)
    while len(shown) < len(ids):
        free = np.setdiff1d(np.arange(len(ids)), shown)
        noise = rng.random(len(free)) * 1e-9
        new = free[np.argsort(-(scores[free] + noise), kind="stable")[:batch]]
        answers += [bool(a) for a in ask([ids[i] for i in new])]
        shown += new.tolist()
        rest = np.setdiff1d(np.arange(len(ids)), shown)
        y = np.array(answers, dtype=np.float64)
        if 0 < y.sum() < len(y):
            learned = x @ _ridge(x[shown], y)
            scores = _z(learned) + 0.3 * _z(prior)
            left = _calibrated(scores[shown], y, scores[rest])
        else:
            left = np.full(len(rest), y.mean() if len(y) else 0.5)
        estimates.append(float(y.sum() + left.sum()))
        done = y.sum() > 0 and y.sum() >= recall * estimates[-1] and y[-batch:].sum() == 0
        quiet = quiet + 1 if done else 0
        if quiet >= patience:
            break
    return Screened(tuple(ids[i] for i in shown), tuple(answers), tuple(estimates), len(shown) < len(ids))


def _tfidf(texts: Sequence[str]) -> NDArray[np.float64]:
    """Return dense tf-idf rows hashed to 4,096 columns, unit length."""
    import zlib

    x = np.zeros((len(texts), 4096))
    for row, text in zip(x, texts, strict=True):
        for t in set(terms(text, STOPWORDS)):
            row[zlib.crc32(t.encode()) % 4096] = 1.0
    x *= np.log1p(len(texts) / np.maximum((x > 0).sum(axis=0), 1))
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _ridge(x: NDArray[np.float64], y: FloatArray, strength: float = 1.0) -> NDArray[np.float64]:
    """Least squares with both answers weighing the same, in the dual (there are few rows)."""
    weight = np.sqrt(np.where(y > 0, 0.5 / y.mean(), 0.5 / (1 - y.mean())))
    a = x * weight[:, None]
    dual = np.linalg.solve(a @ a.T + strength * np.eye(len(a)), (2 * y - 1) * weight)
    return np.asarray(a.T @ dual)


def _calibrated(seen: FloatArray, y: FloatArray, scores: FloatArray) -> FloatArray:
    from rerank_core.calibration import Platt

    return np.asarray(Platt.fit(seen, y).predict(scores)) if len(scores) else np.empty(0)


def _z(x: FloatArray) -> FloatArray:
    return (x - x.mean()) / max(float(x.std()), 1e-9) if len(x) else x


# -- CLEF TAR ------------------------------------------------------------------------------------------------------


def read_tar_topic(path: str | Path) -> tuple[str, str, tuple[str, ...]]:
    """Read a CLEF TAR topic file: ``Topic:``, ``Title:``, ``Query:`` ... and ``Pids:`` with one id a line.

    Returns
    -------
    tuple
        Topic id, review title, ids of the Boolean result set.

    Raises
    ------
    InputError
        Where topic, title or ids are missing, or an id occurs twice; with file and line.
    """
    topic = title = ""
    pids: dict[str, None] = {}
    listing = False
    for line, raw in read_lines(path):
        row = raw.strip()
        name, colon, value = row.partition(":")
        if colon and name.lower() in ("topic", "title", "query", "pids"):
            listing = name.lower() == "pids"
            topic = value.strip() if name.lower() == "topic" else topic
            title = value.strip() if name.lower() == "title" else title
        elif listing and row:
            if row in pids:
                raise InputError(f"id {row!r} occurs twice", path, line)
            pids[row] = None
    for what, found in (("Topic:", topic), ("Title:", title), ("Pids:", pids)):
        if not found:
            raise InputError(f"has no {what}", path)
    return topic, title, tuple(pids)


def tar_gold(gold: Gold, topics: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """Return gold with an entry for every topic; TAR qrels list relevant and other studies alike."""
    return {t: {i: gold.get(t, {}).get(i, 0.0) for i in ids} for t, ids in topics.items()}

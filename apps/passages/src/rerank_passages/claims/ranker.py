"""The claims ranker: candidates by a label-free fusion, then LambdaMART over how post and article agree.

Fitting looks at posts and their gold; ranking looks at the post, the articles and the fitted trees. Posts of the training
set are never looked up: the memory of them (`memory_scores`) is a method of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError
from rerank_core.io import read_json, write_json
from rerank_core.learning import FeatureTable, LambdaRank, LambdaRankParams
from rerank_core.types import Candidate, FloatArray, Gold, Ranking, Request
from rerank_passages.claims.features import ClaimIndex, Matrix, relative
from rerank_passages.claims.files import Article, Post

FIRST_STAGE = (
    "both.grams.all",
    "both.cosine.all",
    "both.bm25.all",
    "both.bi.claim",
    "both.cosine.headline",
    "both.bi.title",
    "both.grams.headline",
)
"""Lists whose z-scores are summed to find candidates; those that an index lacks are left out."""

TREES = LambdaRankParams(
    n_estimators=150, learning_rate=0.05, num_leaves=7, min_child_samples=50, subsample=0.7, colsample_bytree=0.4
)


@dataclass(frozen=True)
class ClaimParams:
    """Settings of the ranker: candidates a post, models that are averaged, and the encoders behind the features."""

    depth: int = 50
    models: int = 3
    bi_encoder: str = "all-minilm-l6-v2"
    static: str = "wordllama-l2-256"


@dataclass(frozen=True)
class Compared:
    """Some posts compared with the articles.

    Parameters
    ----------
    candidates
        Article positions, first stage's best first, shape (n_posts, depth).
    first
        Their first-stage scores, same shape.
    table
        Features, one request a post, one row a candidate.
    """

    posts: list[Post]
    candidates: NDArray[np.int64]
    first: FloatArray
    table: FeatureTable


def open_index(articles: Sequence[Article], params: ClaimParams | None = None) -> ClaimIndex:
    """Index articles with the encoders that the parameters name."""
    from rerank_lm.encoders import BiEncoder, StaticEncoder

    p = params or ClaimParams()
    return ClaimIndex(articles, bi=BiEncoder.load(p.bi_encoder), static=StaticEncoder.load(p.static))


def compare(index: ClaimIndex, posts: Sequence[Post], depth: int) -> Iterator[Compared]:
    """Find candidates for posts and describe them."""
    for part, raw in index.features(posts):
        z = {name: relative(m)["z"] for name, m in raw.items()}
        first: Matrix = np.sum([z[name] for name in FIRST_STAGE if name in z], axis=0)
        best = np.argsort(-first, axis=1, kind="stable")[:, :depth]
        columns: dict[str, NDArray[Any]] = {"first": np.take_along_axis(first, best, 1)}
        for name, m in raw.items():
            columns[name] = np.take_along_axis(m, best, 1)
            columns[f"{name}.z"] = np.take_along_axis(z[name], best, 1)
        values = np.stack([c.ravel() for c in columns.values()], axis=1).astype(np.float64)
        offsets = np.arange(len(part) + 1, dtype=np.int64) * best.shape[1]
        yield Compared(part, best, columns["first"].astype(np.float64), FeatureTable(tuple(columns), values, offsets))


@dataclass(frozen=True)
class ClaimRanker:
    """A fitted ranker: several LambdaMART models whose scores are averaged."""

    params: ClaimParams
    models: tuple[LambdaRank, ...]

    @classmethod
    def fit(
        cls, index: ClaimIndex, posts: Sequence[Post], gold: Gold, params: ClaimParams | None = None, seed: int = 0
    ) -> ClaimRanker:
        """Fit on posts with gold (post id -> article id -> gain)."""
        p = params or ClaimParams()
        return cls.fit_compared(index, list(compare(index, posts, p.depth)), gold, p, seed)

    @classmethod
    def fit_compared(
        cls, index: ClaimIndex, parts: Sequence[Compared], gold: Gold, params: ClaimParams, seed: int = 0
    ) -> ClaimRanker:
        """Fit on posts that `compare` has described already."""
        p = params
        n_posts = sum(len(c.posts) for c in parts)
        table = FeatureTable(
            parts[0].table.names,
            np.concatenate([c.table.values for c in parts]),
            np.arange(n_posts + 1, dtype=np.int64) * parts[0].candidates.shape[1],
        )
        gains = np.array(
            [
                gold.get(post.id, {}).get(index.ids[j], 0.0)
                for c in parts
                for post, row in zip(c.posts, c.candidates, strict=True)
                for j in row
            ]
        )
        return cls(p, tuple(LambdaRank(TREES).fit(table, gains, seed + i) for i in range(p.models)))

    def rank(self, index: ClaimIndex, posts: Sequence[Post]) -> list[Ranking]:
        """Rank candidates for posts, best first."""
        return [ranking for _, ranking in self.rank_with_requests(index, posts)]

    def rank_with_requests(
        self, index: ClaimIndex, posts: Sequence[Post]
    ) -> Iterator[tuple[Request[str, str], Ranking]]:
        """Rank and also give what was ranked; an article's reason is its line nearest to the post."""
        yield from self.rank_compared(index, compare(index, posts, self.params.depth))

    def rank_compared(
        self, index: ClaimIndex, parts: Iterable[Compared]
    ) -> Iterator[tuple[Request[str, str], Ranking]]:
        """Rank posts that `compare` has described already."""
        for part in parts:
            scores = part.table.split(np.mean([m.predict(part.table) for m in self.models], axis=0))
            lines = index.key_sentences(part.posts, part.candidates)
            for request, s, keys in zip(requests_of(index, part), scores, lines, strict=True):
                yield request, Ranking.from_scores(request, s, reasons=dict(zip(request.ids, keys, strict=True)))

    def save(self, folder: str | Path) -> None:
        """Write the models into a folder; the description comes last, so that a torn folder does not load."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "claims.json").unlink(missing_ok=True)
        for i, model in enumerate(self.models):
            model.save(folder / f"trees-{i}")
        write_json(
            folder / "claims.json", {"kind": "claims", "params": asdict(self.params), "models": len(self.models)}
        )

    @classmethod
    def load(cls, folder: str | Path) -> ClaimRanker:
        """Read a folder written by `save`.

        Raises
        ------
        InputError
            When it holds no such ranker.
        """
        folder = Path(folder)
        if not (folder / "claims.json").is_file():
            raise InputError("is no claims model; make one with fit-claims", folder)
        facts = read_json(folder / "claims.json")
        if not isinstance(facts, dict) or facts.get("kind") != "claims":
            raise InputError("is no claims model; make one with fit-claims", folder / "claims.json")
        models = tuple(LambdaRank.load(folder / f"trees-{i}") for i in range(int(facts["models"])))
        return cls(ClaimParams(**facts["params"]), models)


def requests_of(index: ClaimIndex, part: Compared) -> list[Request[str, str]]:
    """Return compared posts as requests."""
    return [
        Request(
            post.id,
            post.both,
            tuple(
                Candidate(index.ids[j], index.articles[j].headline, float(s)) for j, s in zip(row, first, strict=True)
            ),
        )
        for post, row, first in zip(part.posts, part.candidates, part.first, strict=True)
    ]


def bm25_ranking(articles: Sequence[Article], posts: Sequence[Post], depth: int = 50) -> list[Ranking]:
    """Rank articles for posts by BM25 (k1 = 1.5, b = 0.75) over title, claim and body."""
    from rerank_passages.claims.features import bm25_field, clean, stems

    field = bm25_field([f"{a.headline} {a.body}" for a in articles], stems)
    return ranked_by(articles, posts, field.scores([clean(p.both) for p in posts]), depth)


def ranked_by(articles: Sequence[Article], posts: Sequence[Post], scores: Matrix, depth: int = 50) -> list[Ranking]:
    """Rank articles for posts by a matrix of scores (n_posts, n_articles)."""
    return [_rank(articles, post, s, depth) for post, s in zip(posts, scores, strict=True)]


def memory_scores(posts: Sequence[Post], known: Sequence[Post], gold: Gold, articles: Sequence[Article]) -> Matrix:
    """Score articles by the most similar *training* post that they were gold for: a memory, not a ranker.

    The same claims return in new posts, so this alone does well on a collection whose training posts are at hand; it says
    nothing of a claim that is new. Reported apart for that reason.

    Returns
    -------
    ndarray
        Cosine of character four-grams, shape (n_posts, n_articles).
    """
    from rerank_passages.claims.features import clean, cosine_field, grams

    place = {a.id: j for j, a in enumerate(articles)}
    similarity = cosine_field([clean(p.both) for p in known], grams).scores([clean(p.both) for p in posts])
    out = np.zeros((len(posts), len(articles)), dtype=np.float32)
    for i, post in enumerate(known):
        for article in gold.get(post.id, {}):
            j = place[article]
            out[:, j] = np.maximum(out[:, j], similarity[:, i])
    return out


def _rank(articles: Sequence[Article], post: Post, scores: Matrix, depth: int) -> Ranking:
    best = np.argsort(-scores, kind="stable")[:depth]
    request = Request(post.id, post.both, tuple(Candidate(articles[j].id, "", float(scores[j])) for j in best))
    return Ranking.from_scores(request, scores[best])

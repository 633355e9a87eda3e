"""Features of (post, article) pairs: how words, phrases, names, numbers and meanings agree.

Every feature looks at the post and the article together. None describes the article alone (its length, how often it
was right in training), so that a ranker cannot learn articles by heart.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rerank_passages.claims.files import Article, Post
from rerank_passages.text import STOPWORDS, stem, words

if TYPE_CHECKING:
    from rerank_lm.encoders import BiEncoder, StaticEncoder

Matrix = NDArray[np.float32]
Tokens = list[str]

CHUNK = 128
"""Posts whose pairs are in memory together."""

_NAME = re.compile(r"\b(?:[A-Z][\w'’.-]+|\d[\d,.]*)\b")
# What platforms put into posts: mentions and links that were replaced, hashtag signs, retweet marks.
_NOISE = re.compile(r"(?:https?://\S+|\b(?:url|rt|user)\b|@\w+|pic\.twitter\S+)", re.IGNORECASE)


def clean(text: str) -> str:
    """Take links, mentions and marks out of a post."""
    return " ".join(_NOISE.sub(" ", text).split())


def stems(text: str) -> Tokens:
    """Return stems without stop words."""
    return [stem(w) for w in words(text) if w not in STOPWORDS]


def bigrams(text: str) -> Tokens:
    """Return pairs of neighbouring stems."""
    s = stems(text)
    return [f"{a} {b}" for a, b in itertools.pairwise(s)]


def grams(text: str) -> Tokens:
    """Return overlapping four-letter pieces, word ends marked: they survive misread pictures."""
    t = f" {' '.join(words(text))} "
    return [t[i : i + 4] for i in range(len(t) - 3)]


def names(text: str) -> Tokens:
    """Return capitalised words and numbers."""
    return [n.lower().strip(".,") for n in _NAME.findall(text)]


@dataclass(frozen=True)
class Weighted:
    """A field of all articles as a sparse matrix of term weights; a post's score is a sum over its terms.

    Parameters
    ----------
    matrix
        Shape (n_terms, n_rows), ready to be multiplied from the left by posts.
    """

    vocabulary: dict[str, int]
    matrix: sparse.csr_matrix
    cut: Callable[[str], Tokens]
    binary: bool
    norm: NDArray[np.float32] | None = None

    def scores(self, texts: Sequence[str]) -> Matrix:
        """Return shape (n_texts, n_rows)."""
        q = _counts([self.cut(t) for t in texts], self.vocabulary)
        if self.binary:
            q.data[:] = 1.0
        if self.norm is not None:  # cosine: the posts need the same weights and unit length
            q.data = 1 + np.log(q.data)
            q = q @ sparse.diags(self.norm)
            length = np.sqrt(np.asarray(q.multiply(q).sum(axis=1)).ravel())
            q = sparse.diags(1 / np.maximum(length, 1e-9)) @ q
        return np.asarray((q @ self.matrix).todense(), dtype=np.float32)


def bm25_field(texts: Sequence[str], cut: Callable[[str], Tokens], k1: float = 1.5, b: float = 0.75) -> Weighted:
    """BM25 weights of a field; a post's repeated terms count once."""
    tokens = [cut(t) for t in texts]
    vocabulary = _vocabulary(tokens)
    tf = _counts(tokens, vocabulary).tocsr()
    n, df = tf.shape[0], np.bincount(tf.indices, minlength=tf.shape[1])
    idf = np.log1p((n - df + 0.5) / (df + 0.5))
    length = np.asarray(tf.sum(axis=1)).ravel()
    norm = k1 * (1 - b + b * length / max(length.mean(), 1e-9))
    rows = np.repeat(np.arange(n), np.diff(tf.indptr))
    tf.data = tf.data * (k1 + 1) / (tf.data + norm[rows]) * idf[tf.indices]
    return Weighted(vocabulary, tf.T.tocsr(), cut, binary=True)


def cosine_field(texts: Sequence[str], cut: Callable[[str], Tokens]) -> Weighted:
    """Tf-idf weights of unit length."""
    tokens = [cut(t) for t in texts]
    vocabulary = _vocabulary(tokens)
    tf = _counts(tokens, vocabulary).tocsr()
    n, df = tf.shape[0], np.bincount(tf.indices, minlength=tf.shape[1])
    idf = (np.log((1 + n) / (1 + df)) + 1).astype(np.float32)
    tf.data = 1 + np.log(tf.data)
    tf = tf @ sparse.diags(idf)
    length = np.sqrt(np.asarray(tf.multiply(tf).sum(axis=1)).ravel())
    return Weighted(vocabulary, (sparse.diags(1 / np.maximum(length, 1e-9)) @ tf).T.tocsr(), cut, False, idf)


def coverage_field(texts: Sequence[str], cut: Callable[[str], Tokens]) -> Weighted:
    """Weights that make a score the idf-weighted share of the field's terms that the post holds."""
    tokens = [sorted(set(cut(t))) for t in texts]
    vocabulary = _vocabulary(tokens)
    held = _counts(tokens, vocabulary).tocsr()
    n, df = held.shape[0], np.bincount(held.indices, minlength=held.shape[1])
    held = held @ sparse.diags(np.log1p(n / np.maximum(df, 1)))
    total = np.asarray(held.sum(axis=1)).ravel()
    return Weighted(vocabulary, (sparse.diags(1 / np.maximum(total, 1e-9)) @ held).T.tocsr(), cut, binary=True)


def _vocabulary(tokens: Sequence[Tokens]) -> dict[str, int]:
    vocabulary: dict[str, int] = {}
    for doc in tokens:
        for t in doc:
            vocabulary.setdefault(t, len(vocabulary))
    return vocabulary


def _counts(tokens: Sequence[Tokens], vocabulary: dict[str, int]) -> sparse.csr_matrix:
    indptr, indices = [0], []
    for doc in tokens:
        indices += [vocabulary[t] for t in doc if t in vocabulary]
        indptr.append(len(indices))
    shape = (len(tokens), max(1, len(vocabulary)))
    m = sparse.csr_matrix((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=shape)
    m.sum_duplicates()
    return m


class ClaimIndex:
    """All fields of all articles, ready to be compared with posts.

    Parameters
    ----------
    bi, static
        Encoders for meaning; without one, its features are left out.
    """

    def __init__(
        self, articles: Sequence[Article], *, bi: BiEncoder | None = None, static: StaticEncoder | None = None
    ) -> None:
        self.articles = list(articles)
        self.ids = [a.id for a in articles]
        self.bi, self.static = bi, static
        headline, body = [a.headline for a in articles], [a.body for a in articles]
        claim, everything = [a.claim or a.title for a in articles], [f"{a.headline} {a.body}" for a in articles]
        title = [a.title or a.claim for a in articles]
        self._fields = {
            "bm25.all": bm25_field(everything, stems),
            "bm25.headline": bm25_field(headline, stems, 1.2, 0.4),
            "bm25.claim": bm25_field(claim, stems, 1.2, 0.4),
            "bm25.title": bm25_field(title, stems, 1.2, 0.4),
            "bm25.body": bm25_field(body, stems),
            "bm25.names": bm25_field(everything, names),
            "bigrams.all": bm25_field(everything, bigrams),
            "bigrams.headline": bm25_field(headline, bigrams, 1.2, 0.4),
            "cosine.all": cosine_field(everything, stems),
            "cosine.headline": cosine_field(headline, stems),
            "grams.headline": cosine_field(headline, grams),
            "grams.all": cosine_field(everything, grams),
            "covered.claim": coverage_field(claim, stems),
            "covered.title": coverage_field(title, stems),
        }
        lines = [[a.headline, *a.sentences] for a in articles]
        self._starts = np.cumsum([0, *(len(x) for x in lines[:-1])])
        flat = self._flat = [s for x in lines for s in x]
        self._lines = {
            "line.bm25": bm25_field(flat, stems, 1.2, 0.4),
            "line.bigrams": bm25_field(flat, bigrams, 1.2, 0.4),
        }
        self._meanings: dict[str, Matrix] = {}
        if static is not None:
            self._meanings["static.headline"] = static.encode(headline)
            self._line_vectors = static.encode(flat)
        if bi is not None:
            self._meanings["bi.claim"] = bi.encode(claim)
            self._meanings["bi.title"] = bi.encode(title)

    def features(self, posts: Sequence[Post]) -> Iterator[tuple[list[Post], dict[str, Matrix]]]:
        """Compare posts with every article.

        Yields
        ------
        tuple
            Some posts, and feature name -> shape (n_posts, n_articles).
        """
        for start in range(0, len(posts), CHUNK):
            part = list(posts[start : start + CHUNK])
            out: dict[str, Matrix] = {}
            for view in ("text", "ocr", "both"):
                texts = [clean(getattr(p, view)) for p in part]
                for name, field in self._fields.items():
                    if name != "bm25.names" or view == "both":
                        out[f"{view}.{name}"] = field.scores(texts)
                for name, field in self._lines.items():
                    best = np.maximum.reduceat(field.scores(texts), self._starts, axis=1)
                    out[f"{view}.{name}"] = best
                encoded = {
                    kind: encoder.encode(texts)
                    for kind, encoder in (("static", self.static), ("bi", self.bi))
                    if encoder is not None
                }
                for name, vectors in self._meanings.items():
                    out[f"{view}.{name}"] = encoded[name.split(".")[0]] @ vectors.T
                if self.static is not None:
                    similarity = encoded["static"] @ self._line_vectors.T
                    out[f"{view}.line.static"] = np.maximum.reduceat(similarity, self._starts, axis=1)
            yield part, out

    def key_sentences(self, posts: Sequence[Post], candidates: NDArray[np.int64]) -> list[list[str]]:
        """Return, for every post, each candidate's line (headline or sentence) that is nearest to the post.

        By shared words (BM25), and by meaning too where there are static vectors; a headline wins ties.

        Parameters
        ----------
        candidates
            Article positions, shape (n_posts, depth).
        """
        texts = [clean(p.both) for p in posts]
        near = relative(self._lines["line.bm25"].scores(texts))["z"]
        if self.static is not None:
            near = near + relative(self.static.encode(texts) @ self._line_vectors.T)["z"]
        ends = np.append(self._starts[1:], len(self._flat))
        return [
            [self._flat[self._starts[j] + int(row[self._starts[j] : ends[j]].argmax())] for j in chosen]
            for row, chosen in zip(near, candidates, strict=True)
        ]


def relative(scores: Matrix) -> dict[str, Matrix]:
    """Make scores comparable between posts: z-score and inverse rank over all articles.

    Parameters
    ----------
    scores
        Shape (n_posts, n_articles).
    """
    mean, spread = scores.mean(axis=1, keepdims=True), scores.std(axis=1, keepdims=True)
    rank = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")
    return {"z": (scores - mean) / np.maximum(spread, 1e-6), "rr": (1 / (1.0 + rank)).astype(np.float32)}

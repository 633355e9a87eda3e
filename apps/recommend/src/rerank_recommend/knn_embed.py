"""kNN-Embed: candidates from a mixture of a user's interests, smoothed by similar users.

Source: El-Kishky et al., "kNN-Embed" (arXiv 2205.06205); no code was released, so this follows the formulas. Items are
clustered by spherical k-means; a user is a mixture over clusters, p(c|u) by maximum likelihood over the items known,
with the mean of those items as the cluster's query; both are interpolated with the K nearest users' (lambda). From
the most probable clusters about p(c|u) n candidates are taken each, rounded by largest remainder.

Degenerate cases reduce exactly: lambda = 0 or K = 0 is the plain mixture, m = 1 the centroid query, a user without
items has the neighbours' mixture only, and without neighbours either nothing (the caller falls back to popularity).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class KnnEmbedParams:
    """Sizes and smoothing; ``top`` is how many of the most probable clusters are asked."""

    clusters: int = 200
    smoothing: float = 0.8
    neighbours: int = 10
    top: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Mixtures:
    """Users as mixtures.

    Parameters
    ----------
    weights
        p(c|u), shape (n_users, m); rows sum to 1, or to 0 for a user of whom nothing is known.
    means
        Query of each user in each cluster, shape (n_users, m, d); zeros where there is none.
    """

    weights: Vectors
    means: Vectors


def unit(vectors: Vectors) -> Vectors:
    """Return vectors of length 1; zeros stay."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(norm > 0, norm, 1.0), dtype=np.float32)


def cluster_items(items: Vectors, m: int, seed: int = 0) -> NDArray[np.int64]:
    """Cluster items by spherical k-means (k-means of unit vectors, means brought back to length 1)."""
    if m <= 1:
        return np.zeros(len(items), dtype=np.int64)
    from sklearn.cluster import KMeans

    x = unit(items)
    start = KMeans(min(m, len(x)), n_init=1, max_iter=10, random_state=seed).fit(x)
    centres, labels = unit(start.cluster_centers_.astype(np.float32)), start.labels_.astype(np.int64)
    for _ in range(20):
        new = np.asarray((x @ centres.T).argmax(axis=1), dtype=np.int64)
        if (new == labels).all():
            break
        labels = new
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, x)
        centres = np.where((np.bincount(labels, minlength=len(centres)) > 0)[:, None], unit(sums), centres)
    return labels


def mixtures(known: Sequence[Sequence[int]], items: Vectors, labels: NDArray[np.int64]) -> Mixtures:
    """Return the unsmoothed mixtures of users who know these items."""
    m = int(labels.max()) + 1
    weights = np.zeros((len(known), m), dtype=np.float32)
    means = np.zeros((len(known), m, items.shape[1]), dtype=np.float32)
    for u, columns in enumerate(known):
        if len(columns):
            np.add.at(weights[u], labels[list(columns)], 1.0)
            np.add.at(means[u], labels[list(columns)], items[list(columns)])
    count = np.maximum(weights, 1.0)[..., None]
    total = np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    return Mixtures((weights / total).astype(np.float32), (means / count).astype(np.float32))


def smooth(queries: Mixtures, pool: Mixtures, near: NDArray[np.int64], smoothing: float) -> Mixtures:
    """Interpolate each user's mixture with the mean of the neighbours' (rows ``near`` of the pool).

    A component that only one side has is taken from that side; a user without items has the neighbours' mixture.
    """
    if smoothing == 0 or near.shape[1] == 0:
        return queries
    others = pool.weights[near]
    weight = others.mean(axis=1)
    held = (others > 0).sum(axis=1)[..., None]
    mean = np.where(held > 0, pool.means[near].sum(axis=1) / np.maximum(held, 1), 0.0)
    empty = queries.weights.sum(axis=1, keepdims=True) == 0
    lam = np.where(empty, 1.0, smoothing)
    both = (1 - lam[..., None]) * queries.means + lam[..., None] * mean
    own, theirs = queries.weights[..., None] > 0, held > 0
    means = np.where(own & theirs, both, np.where(own, queries.means, mean))
    return Mixtures(((1 - lam) * queries.weights + lam * weight).astype(np.float32), means.astype(np.float32))


def largest_remainder(shares: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Round shares (adding up to 1) to whole numbers that add up to n; ties go to the earlier share."""
    exact = shares * n
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: n - int(counts.sum())]] += 1
    return counts


def retrieve(
    mixture: Mixtures, items: Vectors, known: Sequence[Sequence[int]], n: int, params: KnnEmbedParams
) -> list[list[int]]:
    """Return n candidates a user, best first, known items left out.

    The components' lists are interleaved so that every prefix is shared out by the mixture's weights; the nearest
    items of a query are searched among all items, by cosine.
    """
    unit_items = unit(items)
    out: list[list[int]] = []
    for u in range(len(mixture.weights)):
        weights = mixture.weights[u].astype(np.float64)
        top = np.argsort(-weights, kind="stable")[: params.top]
        top = top[weights[top] > 0]
        if not len(top):
            out.append([])
            continue
        scores = unit(mixture.means[u, top]) @ unit_items.T
        banned = list(known[u])
        scores[:, banned] = -np.inf
        share = weights[top] / weights[top].sum()
        out.append(_interleave(scores, share, n))
    return out


def _interleave(scores: Vectors, share: NDArray[np.float64], n: int) -> list[int]:
    """Take items from the components' lists in turn, the one furthest behind its share first."""
    available = int(np.isfinite(scores).any(axis=0).sum())
    depth = min(n * 2 + 1, scores.shape[1])
    lists = []
    for row in scores:
        best = np.argpartition(-row, depth - 1)[:depth] if depth < len(row) else np.arange(len(row))
        best = best[np.isfinite(row[best])]
        lists.append(best[np.lexsort((best, -row[best]))].tolist())
    taken: dict[int, None] = {}
    at, given = [0] * len(lists), np.zeros(len(lists))
    quota = largest_remainder(share, n).astype(np.float64)
    while len(taken) < min(n, available):
        behind = np.where(quota > given, (given + 0.5) / np.maximum(quota, 1e-9), np.inf)
        if not np.isfinite(behind).any():
            behind = given / np.maximum(share, 1e-9)
        c = int(behind.argmin())
        while at[c] < len(lists[c]) and lists[c][at[c]] in taken:
            at[c] += 1
        if at[c] < len(lists[c]):
            taken[lists[c][at[c]]] = None
            given[c] += 1
        else:
            quota[c] = given[c]
            share = np.where(np.arange(len(share)) == c, 0.0, share)
            if not share.any():
                break
    return list(taken)


@dataclass(frozen=True)
class KnnEmbed:
    """An index over any item vectors, with the training users as pool of neighbours."""

    params: KnnEmbedParams
    items: Vectors
    labels: NDArray[np.int64]
    pool: Mixtures
    pool_vectors: Vectors

    @classmethod
    def build(
        cls,
        items: Vectors,
        known: Sequence[Sequence[int]],
        params: KnnEmbedParams | None = None,
        user_vectors: Vectors | None = None,
    ) -> KnnEmbed:
        """Cluster the items and lay the training users' mixtures out.

        Parameters
        ----------
        user_vectors
            Where users are in the embedding space; by default the mean of their items.
        """
        p = params or KnnEmbedParams()
        labels = cluster_items(items, p.clusters, p.seed)
        vectors = user_vectors if user_vectors is not None else centroids(known, items)
        return cls(p, items, labels, mixtures(known, items, labels), unit(vectors))

    def mixture(
        self, known: Sequence[Sequence[int]], user_vectors: Vectors | None = None, own: bool = False
    ) -> Mixtures:
        """Return the smoothed mixtures of users; ``own`` says that user u is row u of the pool, no neighbour of itself."""
        raw = mixtures(known, self.items, self.labels)
        k = min(self.params.neighbours, len(self.pool_vectors) - int(own))
        if k <= 0 or self.params.smoothing == 0:
            return raw
        vectors = unit(user_vectors if user_vectors is not None else centroids(known, self.items))
        like = vectors @ self.pool_vectors.T
        if own:
            np.fill_diagonal(like, -np.inf)
        near = np.argsort(-like, axis=1, kind="stable")[:, :k]
        return smooth(raw, self.pool, near, self.params.smoothing)

    def candidates(
        self, known: Sequence[Sequence[int]], n: int, user_vectors: Vectors | None = None, own: bool = False
    ) -> list[list[int]]:
        """Return n candidates a user."""
        return retrieve(self.mixture(known, user_vectors, own), self.items, known, n, self.params)


def centroids(known: Sequence[Sequence[int]], items: Vectors) -> Vectors:
    """Return the mean of each user's items; zeros for a user without any."""
    return (
        np.stack([items[list(c)].mean(axis=0) if len(c) else np.zeros(items.shape[1]) for c in known]).astype(
            np.float32
        )
        if len(known)
        else np.zeros((0, items.shape[1]), dtype=np.float32)
    )

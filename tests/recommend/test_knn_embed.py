"""kNN-Embed: the cases that must reduce exactly, and what every list promises."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rerank_recommend.knn_embed import (
    KnnEmbed,
    KnnEmbedParams,
    cluster_items,
    largest_remainder,
    mixtures,
    smooth,
    unit,
)

RNG = np.random.default_rng(0)
ITEMS = RNG.normal(size=(60, 8)).astype(np.float32)
KNOWN = [RNG.choice(60, RNG.integers(1, 9), replace=False).tolist() for _ in range(30)]


def test_mixture_by_hand() -> None:
    items = np.eye(3, dtype=np.float32)
    m = mixtures([[0, 1, 2], []], items, np.array([0, 0, 1]))
    np.testing.assert_allclose(m.weights, [[2 / 3, 1 / 3], [0, 0]], rtol=1e-6)
    np.testing.assert_allclose(m.means[0], [[0.5, 0.5, 0], [0, 0, 1]])


def test_no_smoothing_is_the_plain_mixture_exactly() -> None:
    raw = KnnEmbed.build(ITEMS, KNOWN, KnnEmbedParams(clusters=6, smoothing=0.0)).candidates(KNOWN, 20)
    none = KnnEmbed.build(ITEMS, KNOWN, KnnEmbedParams(clusters=6, smoothing=0.8, neighbours=0)).candidates(KNOWN, 20)
    assert raw == none


def test_one_cluster_is_the_centroid_query_exactly() -> None:
    index = KnnEmbed.build(ITEMS, KNOWN, KnnEmbedParams(clusters=1, smoothing=0.0))
    for known, found in zip(KNOWN, index.candidates(KNOWN, 10), strict=True):
        scores = unit(ITEMS[known].mean(axis=0)[None])[0] @ unit(ITEMS).T
        scores[known] = -np.inf
        assert found == np.argsort(-scores, kind="stable")[:10].tolist()


def test_a_user_without_items_has_the_neighbours_mixture() -> None:
    labels = cluster_items(ITEMS, 5)
    pool = mixtures(KNOWN, ITEMS, labels)
    nobody = mixtures([[]], ITEMS, labels)
    near = np.array([[0, 1]])
    np.testing.assert_allclose(smooth(nobody, pool, near, 0.3).weights[0], pool.weights[:2].mean(axis=0), rtol=1e-6)
    lonely = KnnEmbed.build(ITEMS, KNOWN, KnnEmbedParams(clusters=5, smoothing=0.0))
    assert lonely.candidates([[]], 10) == [[]]


@given(st.integers(1, 80), st.integers(1, 20), st.floats(0, 1), st.integers(0, 5))
def test_lists_are_new_items_once_and_as_many_as_asked(n: int, m: int, smoothing: float, k: int) -> None:
    index = KnnEmbed.build(ITEMS, KNOWN[:10], KnnEmbedParams(clusters=m, smoothing=smoothing, neighbours=k))
    for known, found in zip(KNOWN[:10], index.candidates(KNOWN[:10], n), strict=True):
        assert len(set(found)) == len(found) and not set(found) & set(known)
        assert len(found) == min(n, 60 - len(known))


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=8), st.integers(0, 50))
def test_largest_remainder_adds_up(shares: list[float], n: int) -> None:
    p = np.array(shares) / sum(shares)
    counts = largest_remainder(p, n)
    assert counts.sum() == n and (np.abs(counts - p * n) < 1 + 1e-9).all()


def test_clusters_find_directions_not_lengths() -> None:
    base = np.array([[1, 0], [0, 1]], dtype=np.float32)
    items = np.concatenate([base * s for s in (0.1, 1, 10, 100)])
    labels = cluster_items(items, 2)
    assert len(set(labels[::2])) == 1 and len(set(labels[1::2])) == 1 and labels[0] != labels[1]

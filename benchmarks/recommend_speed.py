"""Speed of recommend: a million interactions fitted by ALS and served from the saved folder; kNN-Embed on artists.

python benchmarks/recommend_speed.py serve
python benchmarks/recommend_speed.py knn USER_ARTISTS.tsv.gz
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rerank_recommend.experts import indicator
from rerank_recommend.factors import ALS
from rerank_recommend.knn_embed import KnnEmbed, KnnEmbedParams
from rerank_recommend.model import Recommender
from rerank_recommend.readers import read_interactions


def serve(n: int = 1_000_000, n_items: int = 100_000, n_users: int = 50_000, requests: int = 1000) -> None:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.inter"
        users = rng.integers(0, n_users, n)
        items = (n_items * rng.random(n) ** 2).astype(int)
        lines = "\n".join(f"{u}\t{i}" for u, i in zip(users, items, strict=True))
        every = "\n".join(f"{i % n_users}\t{i}" for i in range(n_items))
        path.write_text(f"user_id:token\titem_id:token\n{lines}\n{every}\n")
        cpu, wall = time.process_time(), time.perf_counter()
        data = read_interactions([path], "recbole")
        print(
            f"read {data.user_items.nnz} interactions x {data.catalogue.n_items} items: {time.process_time() - cpu:.1f} CPU-s"
        )
        cpu = time.process_time()
        Recommender.fit_interactions(data, threads=2).save(Path(folder) / "model")
        print(
            f"fit and save: {time.process_time() - cpu:.1f} CPU-s, {time.perf_counter() - wall:.1f} s since the start, "
            f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
        )
        model = Recommender.load(Path(folder) / "model", threads=2)
        known = [rng.integers(0, n_items, 10).tolist() for _ in range(requests)]
        model.recommend_known(known[:16], 10)
        cpu, wall = time.process_time(), time.perf_counter()
        model.recommend_known(known, 10)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"batches: {requests / wall:.0f} requests/s wall, {requests / cpu:.0f} requests/CPU-s")
        cpu, wall = time.process_time(), time.perf_counter()
        for one in known[:300]:
            model.recommend_known([one], 10)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"one by one: {300 / wall:.0f} requests/s wall, {300 / cpu:.0f} requests/CPU-s")


def knn(path: Path) -> None:
    import gzip

    with gzip.open(path, "rt") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    listeners: dict[str, int] = {}
    for r in rows:
        listeners[r[1]] = listeners.get(r[1], 0) + 1
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    pairs = [
        (users.setdefault(r[0], len(users)), items.setdefault(r[1], len(items))) for r in rows if listeners[r[1]] >= 5
    ]
    train: list[list[int]] = [[] for _ in users]
    test: list[list[int]] = [[] for _ in users]
    chosen = np.random.default_rng(0).random(len(pairs)) < 0.8
    for (u, i), t in zip(pairs, chosen, strict=True):
        (train if t else test)[u].append(i)

    def show(name: str, lists: list[list[int]]) -> None:
        judged = [(x, set(t)) for x, t in zip(lists, test, strict=True) if t]
        figures = [np.mean([len(set(x[:k]) & t) / len(t) for x, t in judged]) for k in (10, 20, 50, 100)]
        coverage = len({i for x in lists for i in x[:20]}) / len(items)
        print(
            f"{name:34} n={len(judged)} R@10/20/50/100 {' '.join(f'{f:.3f}' for f in figures)} coverage@20 {coverage:.2f}"
        )

    als = ALS().fit_matrix(indicator(train, len(items)))
    vectors, factors = als.users(train), als.item_factors
    assert factors is not None
    scores = vectors @ factors.T
    for u, known in enumerate(train):
        scores[u, known] = -np.inf
    dot = np.argsort(-scores, axis=1, kind="stable")[:, :100].tolist()
    show("ALS dot product", dot)
    lists: dict[tuple[int, float], list[list[int]]] = {}
    for m, smoothing in ((1, 0.0), (50, 0.0), (50, 0.8), (200, 0.0), (200, 0.8)):
        index = KnnEmbed.build(factors, train, KnnEmbedParams(clusters=m, smoothing=smoothing), user_vectors=vectors)
        lists[m, smoothing] = index.candidates(train, 100, vectors, own=True)
        show(f"mixture m={m} smoothing={smoothing}", lists[m, smoothing])
    both = [[x for p in zip(a, b, strict=False) for x in p] for a, b in zip(dot, lists[200, 0.8], strict=True)]
    show("union of both, 100 candidates", [list(dict.fromkeys(x))[:100] for x in both])


if __name__ == "__main__":
    serve() if sys.argv[1:2] == ["serve"] else knn(Path(sys.argv[2]))

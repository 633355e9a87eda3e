"""Speed and memory of the image rerankers: `python benchmarks/image.py [--rows 100000]` prints one JSON line each.

The gathered form of SuperGlobal is written out as the released modules compute it (two M x (K + 1) x D gathers), so
that both forms run in one process with the same number of threads.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rerank_image.arrays import l2
from rerank_image.gnn import gnn
from rerank_image.index import Item, create, open_index, writer
from rerank_image.kreciprocal import k_reciprocal
from rerank_image.superglobal import superglobal


def clusters(n: int, d: int, groups: int, seed: int = 0) -> np.ndarray:
    centres = np.random.default_rng(7).standard_normal((groups, d), dtype=np.float32)
    rng = np.random.default_rng(seed)
    return l2(centres[rng.integers(0, groups, n)] + 0.8 * rng.standard_normal((n, d), dtype=np.float32))


def gathered(q: np.ndarray, c: np.ndarray, k: int = 9, beta: float = 0.15) -> np.ndarray:
    s = c @ c.T
    ids = np.argsort(-s, axis=1, kind="stable")[:, : k + 1]
    w = np.take_along_axis(s, ids, 1) * np.float32(beta)
    w[:, 0] = 1
    refined = (c[ids] * w[..., None]).sum(1) / w.sum(1)[:, None]
    first = refined @ q
    order = np.argsort(-first, kind="stable")
    return (first + refined @ refined[order[: k + 1]].max(0)) / 2


def measured(name: str, run: Callable[[], object], repeat: int = 1) -> float:
    run()
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(repeat):
        run()
    cpu, wall = (time.process_time() - cpu) / repeat, (time.perf_counter() - wall) / repeat
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    say(what=name, cpu_ms=round(1e3 * cpu, 2), wall_ms=round(1e3 * wall, 2), peak_mb=round(peak, 1))
    return cpu


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def large(rows: int) -> None:
    from rerank_image.fast import build_fast, load_fast, search_fast

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "index"
        create(root, 2048, "bench")
        with writer(root) as lock:
            for start in range(0, rows, 20000):
                n = min(20000, rows - start)
                lock.append([Item(f"{start + i}") for i in range(n)], clusters(n, 2048, 500, start), "bench")
        start_time = time.perf_counter()
        index = open_index(root)
        say(what=f"open {rows} x 2048", wall_ms=round(1e3 * (time.perf_counter() - start_time), 1))
        queries = index.rows(np.linspace(0, rows - 1, 70).astype(int))
        exact = []
        for n in (70, 1):
            cpu, wall = time.process_time(), time.perf_counter()
            exact.append(index.search(queries[:n], 400, threads=2).ids)
            say(what=f"exact, {n} queries", wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)
        say(peak_rss_mb_exact=rss())
        build_fast(index)
        quantised = load_fast(index)
        search_fast(index, quantised, queries[:1], 400, 2)
        cpu, wall = time.process_time(), time.perf_counter()
        fast = search_fast(index, quantised, queries[:10], 400, 2).ids
        recall = np.mean([len(set(a) & set(b)) / 400 for a, b in zip(fast, exact[0][:10], strict=True)])
        wall, cpu = (time.perf_counter() - wall) / 10, (time.process_time() - cpu) / 10
        say(what="fast, a query", wall_s=wall, cpu_s=cpu, recall_400=float(recall))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=0, help="also an index of so many 2048-dimensional rows")
    parser.add_argument("--graph", type=int, default=4000, help="rows of the graph methods")
    args = parser.parse_args()
    c = clusters(400, 2048, 40)
    q = l2(c[0] + 0.1 * c[1])
    ours = measured("superglobal, M 400, D 2048, a query", lambda: superglobal(q, c), 10)
    theirs = measured("the same, gathered as released", lambda: gathered(q, c), 10)
    say(cpu_ratio=round(theirs / ours, 1), worst_difference=float(np.abs(superglobal(q, c) - gathered(q, c)).max()))
    x = clusters(args.graph + 50, 256, max(args.graph // 20, 1))
    measured(f"k-reciprocal, {args.graph} x 256, 50 queries", lambda: k_reciprocal(x[:50], x[50:]))
    measured(f"gnn, {args.graph} x 256, 50 queries", lambda: gnn(x[:50], x[50:]))
    if args.rows:
        large(args.rows)
    say(peak_rss_mb=rss())


if __name__ == "__main__":
    main()

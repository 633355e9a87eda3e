"""Speed and memory of the image rerankers: `python benchmarks/image.py [--graph 4000]` prints one JSON line each.

The gathered form of SuperGlobal is written out as the released modules compute it (two M x (K + 1) x D gathers), so
that both forms run in one process with the same number of threads.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

from rerank_image.arrays import l2
from rerank_image.gnn import gnn
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


def main() -> None:
    parser = argparse.ArgumentParser()
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
    say(peak_rss_mb=rss())


if __name__ == "__main__":
    main()

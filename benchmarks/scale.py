"""What a big job costs: measured seconds a pair, the executor's overhead, and the plan for N pairs.

``python benchmarks/scale.py --pairs 1e9 --hours 24 [--ray]`` measures on this machine and prints machines and hours.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from rerank_core import Candidate, Request, Scores
from rerank_core.domain import load
from rerank_core.engine import run
from rerank_core.executors import executor


def items(n: int, candidates: int) -> list[Request]:
    return [Request(f"q{i}", f"{i}", tuple(Candidate(f"d{j}", j) for j in range(candidates))) for i in range(n)]


def nothing(requests: list[Request]) -> list[np.ndarray]:
    return [np.zeros(len(r.candidates)) for r in requests]


def overhead(engine: str, n: int, batch_size: int = 1000) -> tuple[float, float]:
    """Return seconds until the first ranking, and milliseconds an item from then on (all that the executor adds)."""
    reranker = Scores("nothing", nothing)
    with executor(engine) as where:
        list(run(items(200, 1), reranker, executor=where, batch_size=100, progress=False))
        requests = items(n, 1)
        start = time.perf_counter()
        rankings = run(requests, reranker, executor=where, batch_size=batch_size, progress=False)
        next(rankings)
        first = time.perf_counter()
        list(rankings)
        # Batches that two workers had finished by then are not counted.
        return first - start, 1000 * (time.perf_counter() - first) / (n - 2 * batch_size)


def seconds_a_pair(method: str) -> float:
    """Return seconds a (query, passage) pair of a method of passages, on its sample, loading left out."""
    domain = load("passages")
    requests = domain.sample().requests[:24]
    reranker = domain.method(method)
    reranker.rerank(requests[:2])
    start = time.perf_counter()
    reranker.rerank(requests)
    return (time.perf_counter() - start) / sum(len(r.candidates) for r in requests)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=float, default=1e9)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--price", type=float, default=0.10, help="price of a machine an hour")
    parser.add_argument("--ray", action="store_true")
    args = parser.parse_args()
    for engine in ("local", "ray") if args.ray else ("local",):
        first, each = overhead(engine, 50_000)
        print(f"executor {engine}: first ranking after {first:.1f} s, then {each:.3f} ms an item (limit 0.2)")
    print(
        f"\n{'method':<16}{'s a pair':>12}{'machine hours':>16}{'machines':>10}{'cost':>10}   for {args.pairs:g} pairs"
    )
    for method in ("static", "bi-encoder", "cross-encoder"):
        s = seconds_a_pair(method)
        hours = args.pairs * s / 3600
        machines = int(np.ceil(hours / args.hours))
        print(
            f"{method:<16}{s:>12.6f}{hours:>16,.0f}{machines:>10,}{hours * args.price:>10,.0f}   within {args.hours:g} h"
        )


if __name__ == "__main__":
    main()

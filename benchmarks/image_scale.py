"""A large index on disk: `python benchmarks/image_scale.py FOLDER --rows 1000000` makes it (once) and measures it.

Descriptors are synthetic (clustered unit vectors of 2048 dimensions): what is measured is time and memory, each in a
process of its own so that none inherits another's memory. Resident memory leaves the page cache out (anonymous pages).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from rerank_image.arrays import l2
from rerank_image.index import Item, create, open_index, writer

DIMS = 2048


def clusters(n: int, groups: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(7).standard_normal((groups, DIMS), dtype=np.float32)
    rng = np.random.default_rng(seed)
    return l2(centres[rng.integers(0, groups, n)] + 0.8 * rng.standard_normal((n, DIMS), dtype=np.float32))


def build(folder: Path, rows: int, block: int = 20000) -> None:
    create(folder, DIMS, "benchmark")
    with writer(folder) as lock:
        for start in range(0, rows, block):
            n = min(block, rows - start)
            lock.append([Item(f"{start + i}") for i in range(n)], clusters(n, 500, start), "benchmark")


class Memory(threading.Thread):
    """Highest anonymous resident memory of this process, sampled."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.start()

    def run(self) -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    self.peak = max(self.peak, int(line.split()[1]) // 1024)
            time.sleep(0.005)


def measure(folder: Path, what: str, threads: int) -> None:
    memory = Memory()
    start = time.perf_counter()
    index = open_index(folder)
    opened = time.perf_counter() - start
    n = 1 if what.endswith("1") else 70
    queries = index.rows(np.linspace(0, len(index.vectors) - 1, n).astype(int))
    facts: dict[str, object] = {"what": what, "rows": len(index), "open_s": round(opened, 2)}
    if what.startswith("exact"):
        times = []
        for _ in range(2):  # the second time from the page cache
            wall, cpu = time.perf_counter(), time.process_time()
            hits = index.search(queries, 400, threads=threads)
            times.append({"wall_s": round(time.perf_counter() - wall, 2), "cpu_s": round(time.process_time() - cpu, 2)})
        facts |= {"first": times[0], "again": times[1]}
        np.save(folder.parent / f"{what}.npy", hits.ids)
    else:
        from rerank_image.fast import load_fast, search_fast

        wall = time.perf_counter()
        quantised = load_fast(index)
        facts["load_s"] = round(time.perf_counter() - wall, 2)
        search_fast(index, quantised, queries[:1], 400, threads)
        found, walls, cpus = [], [], []
        for q in queries[:10]:
            wall, cpu = time.perf_counter(), time.process_time()
            found.append(search_fast(index, quantised, q[None], 400, threads).ids[0])
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        exact = np.load(folder.parent / "exact70.npy")[: len(found)]
        recall = np.mean([len(set(a) & set(b)) / 400 for a, b in zip(found, exact, strict=True)])
        facts |= {"cpu_s_a_query": round(float(np.median(cpus)), 3)}
        facts |= {"wall_s_a_query": round(float(np.median(walls)), 3), "recall_of_exact_400": float(recall)}
        from rerank_image.superglobal import superglobal

        wall, cpu = time.perf_counter(), time.process_time()
        for q, ids in zip(queries, found, strict=False):
            superglobal(q, index.rows(np.sort(ids)))
        facts["rerank_cpu_ms"] = round(1e3 * (time.process_time() - cpu) / len(found), 2)
        facts["rerank_wall_ms"] = round(1e3 * (time.perf_counter() - wall) / len(found), 2)
    print(json.dumps({**facts, "peak_anonymous_mb": memory.peak}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prepare", action="store_true", help="only make the index and its quantised copy")
    parser.add_argument("--measure", choices=["exact70", "exact1", "fast"])
    args = parser.parse_args()
    folder = args.folder / f"index-{args.rows}"
    if args.measure:
        measure(folder, args.measure, args.threads)
        return
    if not folder.exists():
        args.folder.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        build(folder, args.rows)
        print(
            json.dumps({"what": "made", "rows": args.rows, "wall_s": round(time.perf_counter() - start, 1)}), flush=True
        )
    if args.prepare:
        from rerank_image.fast import build_fast

        start = time.perf_counter()
        build_fast(open_index(folder))
        print(json.dumps({"what": "quantised", "wall_s": round(time.perf_counter() - start, 1)}), flush=True)
        return
    for what in ("exact70", "exact1", "fast"):
        command = [sys.executable, __file__, str(args.folder), "--rows", str(args.rows), "--measure", what]
        subprocess.run([*command, "--threads", str(args.threads)], check=True)


if __name__ == "__main__":
    main()

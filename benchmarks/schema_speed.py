"""Speed and memory of `rerank-schema match`, every run in a process of its own.

    python benchmarks/schema_speed.py repeat SOURCE TARGET         # without a cache, filling it, from it
    python benchmarks/schema_speed.py wide [COLUMNS]               # COLUMNS x COLUMNS made-up columns, default 2,000
    python benchmarks/schema_speed.py nearest [COLUMNS]            # best 20 of COLUMNS x COLUMNS vectors, default 10,000
    python benchmarks/schema_speed.py long [GIB]                   # a CSV of so many GiB against its own head, default 2

Wall time says little on a busy machine; CPU seconds and memory are printed beside it.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COMMAND = Path(sys.executable).parent / "rerank-schema"
WORDS = [
    "patient", "age", "tumor", "stage", "code", "name", "date", "status", "type", "total", "price", "order",
    "street", "city", "region", "count", "rate", "sample", "gene", "weight", "height", "start", "end", "first",
    "last", "unit", "amount", "currency", "product", "supplier", "account", "balance", "score", "grade",
    "school", "year",
]  # fmt: skip


def timed(what: str, *args: object, cache: Path) -> None:
    environment = dict(os.environ, XDG_CACHE_HOME=str(cache))
    begun = time.perf_counter()
    process = subprocess.Popen(
        [COMMAND, "match", *map(str, args)],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    said = process.stderr.read() if process.stderr else ""
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    print(
        f"{what}\twall {wall:.1f} s\tCPU {used.ru_utime + used.ru_stime:.1f} s\t{used.ru_maxrss / 1024:.0f} MiB\t"
        f"exit {os.waitstatus_to_exitcode(status)}\t{said.strip().splitlines()[-1] if said.strip() else ''}",
        flush=True,
    )


def repeat(source: Path, target: Path, method: str = "magneto-official") -> None:
    with tempfile.TemporaryDirectory() as name:
        cache, out = Path(name) / "cache", Path(name) / "o.csv"
        common = (source, target, "-o", out, "--method", method)
        timed(f"{method}, first run", *common, cache=cache)
        timed(f"{method}, again", *common, cache=cache)


def wide(columns: int = 2000) -> None:
    """Match a table with another whose names are abbreviated and shuffled."""
    import pandas as pd

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        names = list(dict.fromkeys("_".join(rng.choice(WORDS, 3)) for _ in range(2 * columns)))[:columns]
        cells = {n: rng.choice([f"{w}{rng.integers(9)}" for w in WORDS], 100) for n in names}
        frame = pd.DataFrame(cells)
        frame.to_csv(Path(name) / "a.csv", index=False)
        short = ["".join(w[:4].capitalize() for w in n.split("_")) for n in names]
        other = frame.iloc[::-1].set_axis(short, axis=1).iloc[:, rng.permutation(len(short))]
        other.to_csv(Path(name) / "b.csv", index=False)
        sides = (Path(name) / "a.csv", Path(name) / "b.csv", "-o", Path(name) / "o.csv")
        for what in ("first run", "again"):
            timed(f"{len(names)} x {len(names)}, {what}", *sides, cache=Path(name) / "cache")


def nearest(columns: int = 10_000) -> None:
    """Find the best 20 targets of every column from vectors that are there, as Magneto's retrieval does."""
    from rerank_schema.magneto import top_cosines

    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(columns, 384)).astype(np.float32) for _ in range(2))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    cpu, wall = time.process_time(), time.perf_counter()
    top_cosines(a, b, 20)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{columns} x {columns}, best 20\twall {wall:.1f} s\tCPU {cpu:.1f} s\t{peak:.0f} MiB")


def long(gib: float = 2.0) -> None:
    with tempfile.TemporaryDirectory() as name:
        path, head, rows = Path(name) / "long.csv", Path(name) / "head.csv", 0
        names = "id,customer,city,amount,ordered\n"
        block = "".join(
            f"{i},customer {i % 977},{WORDS[i % len(WORDS)]}ville,{i % 1000 / 7:.2f},2024-{i % 12 + 1:02d}-11\n"
            for i in range(50_000)
        )
        head.write_text(names + block, encoding="utf-8")
        with path.open("w", encoding="utf-8") as file:
            file.write(names)
            while file.tell() < gib * 2**30:
                file.write(block)
                rows += 50_000
        print(f"{path.stat().st_size / 2**30:.2f} GiB, {rows} rows")
        timed("long CSV", path, head, "-o", Path(name) / "o.csv", cache=Path(name) / "cache")


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "repeat":
        repeat(*map(Path, rest[:2]), *rest[2:])
    else:
        {"wide": wide, "nearest": nearest, "long": long}[what](*map(float if what == "long" else int, rest))

"""Speed and memory of the core against its limits: ``python benchmarks/core.py``."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

PEAK = "import re;print(int(re.search(r'VmHWM:\\s+(\\d+)',open('/proc/self/status').read())[1])/1024)"


def fresh(code: str) -> tuple[float, float]:
    """Run code in a new interpreter; return its best wall seconds of five, the interpreter's own taken off, and peak MB."""

    def best(text: str) -> tuple[float, float]:
        seconds, mb = [], 0.0
        for _ in range(5):
            start = time.perf_counter()
            out = subprocess.run([sys.executable, "-c", f"{text}\n{PEAK}"], capture_output=True, text=True, check=True)
            seconds.append(time.perf_counter() - start)
            mb = float(out.stdout.split()[-1])
        return min(seconds), mb

    empty, _ = best("pass")
    seconds, mb = best(code)
    return seconds - empty, mb


def big_run(path: Path, queries: int, docs: int) -> None:
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        for q in range(queries):
            scores = np.sort(rng.random(docs))[::-1]
            for rank, (d, s) in enumerate(zip(rng.permutation(docs * 10)[:docs], scores, strict=True), 1):
                file.write(f"q{q} Q0 doc{d} {rank} {s:.6f} tag\n")


def main() -> None:
    rows: list[tuple[str, float, float, str]] = []
    seconds, mb = fresh("import rerank_core")
    rows += [("import rerank_core", seconds, 0.3, "s"), ("  memory", mb, 60, "MB")]
    seconds, _ = fresh(
        "import sys;sys.argv=['rerank','--help']\nfrom rerank_core.cli import main\ntry: main()\nexcept SystemExit: pass"
    )
    rows.append(("rerank --help", seconds, 0.5, "s"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.trec"
        big_run(path, 1000, 1000)
        seconds, mb = fresh(f"from rerank_core.io import read_run;read_run({str(path)!r})")
        rows += [("read a run of 1,000,000 lines", seconds, 5, "s"), ("  memory", mb, 1000, "MB")]
        from rerank_core.fusion import fuse
        from rerank_core.io import read_run
        from rerank_core.measures import evaluate_run, parse

        run = read_run(path)
        other = {q: {d: -s for d, s in docs.items()} for q, docs in run.items()}
        gold = {q: {d: i % 4 for i, d in enumerate(list(docs)[:50])} for q, docs in run.items()}
        for method in ("rrf", "zscore"):
            start = time.perf_counter()
            for q in run:
                fuse([run[q], other[q]], method)
            rows.append((f"fuse 2 x 1,000 x 1,000 by {method}", time.perf_counter() - start, 2, "s"))
        start = time.perf_counter()
        evaluate_run([parse("nDCG@10")], gold, run, system="s")
        rows.append(("evaluate 1,000 x 1,000 (nDCG@10, interval)", time.perf_counter() - start, 2, "s"))
    print(f"{'what':<46}{'measured':>12}{'limit':>10}{'ratio':>8}")
    for name, value, limit, unit in rows:
        print(f"{name:<46}{value:>9.2f} {unit:<2}{limit:>7g} {unit:<2}{value / limit:>7.2f}")


if __name__ == "__main__":
    main()

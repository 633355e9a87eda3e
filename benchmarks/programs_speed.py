"""Speed of reranking by execution: cold, cached, and what a process needs at its peak.

    python benchmarks/programs_speed.py CANDIDATES DATABASES [HUMANEVAL_FOLDER]

Where test-suite-sql-eval's exec_eval module can be imported (put it on PYTHONPATH), its time for the same comparisons is
printed beside.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = str(Path(sys.executable).parent / "rerank-programs")


def timed(*args: object) -> tuple[float, float, float]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run([COMMAND, *map(str, args)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu, after.ru_maxrss / 1024


def main(candidates: Path, databases: Path, humaneval: Path | None) -> None:
    print("what\twall s\tCPU s\tpeak MiB of one process so far")
    with tempfile.TemporaryDirectory() as name:
        out, cache = Path(name) / "o.jsonl", Path(name) / "c.sqlite"
        base = ("rerank", candidates, "--databases", databases, "-o", out, "--cache", cache, "--threads", 2)
        for method in ("vote", "semantic"):
            cache.unlink(missing_ok=True)
            for state in ("cold", "cached"):
                wall, cpu, peak = timed(*base, "--method", method)
                print(f"{method}, {state}\t{wall:.2f}\t{cpu:.2f}\t{peak:.0f}", flush=True)
        if humaneval is not None:
            files = [humaneval / f"{n}.jsonl.gz" for n in ("tasks", "candidates", "generated_tests")]
            wall, cpu, peak = timed("codet", *files, "-o", out, "--threads", 2)
            print(f"codet, all tests\t{wall:.1f}\t{cpu:.1f}\t{peak:.0f}")
    reference(candidates, databases)


def reference(candidates: Path, databases: Path) -> None:
    """Time the reference evaluator's comparison of every candidate with the first one of its question."""
    try:
        from exec_eval import eval_exec_match  # type: ignore[import-not-found]
    except ImportError:
        print("test-suite-sql-eval is not on PYTHONPATH: no ratio")
        return
    from rerank_programs.data import read_candidates

    start = time.perf_counter()
    n = 0
    for r in read_candidates(candidates, databases):
        first = r.candidates[0].content.text
        for c in r.candidates:
            eval_exec_match(str(r.query.data), c.content.text, first, False, True, False)
            n += 1
    print(f"test-suite-sql-eval, {n} comparisons\t{time.perf_counter() - start:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)

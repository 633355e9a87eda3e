"""BM25 over many passages in a fresh process: ``python benchmarks/passages_scale.py --passages 1000000``.

Passages are random draws (about 56 words, Zipf's law over 200,000 made-up words), so that vocabulary and list lengths are like
those of a web collection. Prints seconds, peak memory of the whole process (passages included), and seconds a query.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np

from rerank_passages.retrieve import Bm25Index


def passages(n: int, seed: int = 0) -> dict[str, str]:
    """Make passages, id -> text."""
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(3, 11))) for _ in range(200_000)])
    weights = 1 / (np.arange(len(words)) + 10.0)
    cumulative = np.cumsum(weights / weights.sum())
    out = {}
    for start in range(0, n, 10_000):
        sizes = rng.integers(30, 83, size=min(10_000, n - start))
        drawn = np.minimum(np.searchsorted(cumulative, rng.random(int(sizes.sum()))), len(words) - 1)
        for i, part in enumerate(np.split(drawn, np.cumsum(sizes)[:-1])):
            out[f"d{start + i}"] = " ".join(words[part])
    return out


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=1_000_000)
    args = parser.parse_args()
    texts = passages(args.passages)
    wall, cpu = time.perf_counter(), time.process_time()
    index = Bm25Index.build(texts)
    print(
        f"built over {len(texts)} passages: {time.perf_counter() - wall:.0f} s, {time.process_time() - cpu:.0f} CPU-s"
    )
    asked = [" ".join(t.split()[:6]) for t in list(texts.values())[:: max(1, len(texts) // 50)][:50]]
    cpu = time.process_time()
    found = [index.search(q, 100) for q in asked]
    print(
        f"searched {len(asked)} queries: {(time.process_time() - cpu) / len(asked):.3f} CPU-s each, {len(found[0])} found"
    )
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1e6  # type: ignore[index]
    print(f"peak memory {peak:.2f} GB (limit 4)")


if __name__ == "__main__":
    main()

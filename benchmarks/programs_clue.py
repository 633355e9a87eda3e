"""CLUE's streaming centroids at the paper's size: 20,000 deltas of 28 layers x 1536 in float16.

python benchmarks/programs_clue.py
"""

from __future__ import annotations

import resource
import time

import numpy as np

from rerank_programs.clue import Experience


def main(n: int = 20_000, layers: int = 28, width: int = 1536, batch: int = 200) -> None:
    rng = np.random.default_rng(0)
    block = rng.standard_normal((batch, layers, width), dtype=np.float32).astype(np.float16)
    experience = Experience()
    start = time.perf_counter()
    for k in range(n // batch):
        experience.add(np.roll(block, k, axis=0), (np.arange(batch) + k) % 2)
    centroids = experience.centroids()
    wall = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{n} deltas of {layers} x {width} float16: {wall:.1f} s, peak {peak:.0f} MiB, {centroids.success.shape}")


if __name__ == "__main__":
    main()

"""Magneto's ways to pick a column's sample values (magneto-python 0.2.0).

Where there are at most ``n`` distinct values all of them are taken, sorted as text. The random modes of the original
draw from NumPy's global generator, seeded once when its module is imported, so they depend on what ran before; here
each column draws from a generator of its own.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rerank_schema.cleaning import SHORT, Cleaned

SamplingMode = Literal[
    "mixed", "frequent", "random", "weighted", "priority_sampling", "consistent_sampling", "coordinated"
]
SAMPLING_MODES: tuple[str, ...] = get_args(SamplingMode)
"""``coordinated`` is the paper's name of ``consistent_sampling``."""

_GOLDEN = 0.6180339887
_SEED = 42


def sample(cleaned: Cleaned, mode: str = "mixed", n: int = 10, seed: int = 42) -> list[str]:
    """Pick sample values.

    Returns
    -------
    list of str
        At most ``n``; ``mixed`` may give fewer, as in the original.

    Raises
    ------
    ValueError
        When the mode is unknown or ``n`` is negative.
    """
    if mode not in SAMPLING_MODES:
        raise ValueError(f"unknown sampling mode {mode!r}; modes: {', '.join(SAMPLING_MODES)}")
    if n < 0:
        raise ValueError("the number of samples cannot be negative")
    values = cleaned.values
    if len(values) <= n:
        return sorted(str(v) for v in values)
    if mode == "mixed":
        return _mixed(values, cleaned.counts, n)
    if mode == "frequent":
        return [str(v) for v in _sorted([values[i] for i in by_frequency(cleaned.counts)[:n]])]
    if mode in ("random", "weighted"):
        rng = np.random.default_rng(seed)
        p = cleaned.counts / cleaned.counts.sum() if mode == "weighted" else None
        chosen = [str(values[i]) for i in rng.choice(len(values), size=n, replace=False, p=p)]
        return chosen if mode == "weighted" else sorted(chosen)
    u = np.array([(_uniform_short if len(v) <= SHORT else _uniform)(v) for v in map(str, values)])
    key = u if mode != "priority_sampling" else cleaned.counts / np.maximum(u, np.finfo(float).tiny)
    return [str(values[i]) for i in np.argsort(-key, kind="stable")[:n]]


def by_frequency(counts: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return positions from the most to the least frequent; ties in order of first appearance."""
    return np.argsort(-counts, kind="stable")


def _mixed(values: tuple[Any, ...], counts: NDArray[np.int64], n: int) -> list[str]:
    head = n // 2
    rest = n - head
    frequent = [values[i] for i in by_frequency(counts)[:head]]
    step = max(1, len(values) // rest)
    spread = list(values[::step])[:rest]
    return sorted({str(v) for v in [*frequent, *spread]})


def _sorted(values: list[Any]) -> list[Any]:
    """Sort values, as text where they do not compare (the original sorts here before it makes text)."""
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=str)


def _uniform(text: str) -> float:
    return (murmur3(text.encode("utf-8", "surrogatepass"), _SEED) * _GOLDEN) % 1.0


_uniform_short = lru_cache(maxsize=1 << 14)(_uniform)


def murmur3(data: bytes, seed: int = 0) -> int:
    """32-bit MurmurHash3 (x86 variant, Appleby 2011) as a signed integer, equal to ``mmh3.hash``."""
    mask = 0xFFFFFFFF
    h = seed & mask
    n = len(data) // 4 * 4
    for i in range(0, n, 4):
        h ^= _scramble(int.from_bytes(data[i : i + 4], "little"))
        h = ((h << 13 | h >> 19) * 5 + 0xE6546B64) & mask
    if len(data) > n:
        h ^= _scramble(int.from_bytes(data[n:], "little"))
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & mask
    h = (h ^ h >> 13) * 0xC2B2AE35 & mask
    h ^= h >> 16
    return h - (1 << 32) if h >> 31 else h


def _scramble(k: int) -> int:
    k = k * 0xCC9E2D51 & 0xFFFFFFFF
    k = (k << 15 | k >> 17) & 0xFFFFFFFF
    return k * 0x1B873593 & 0xFFFFFFFF

"""Intervals, tests and rank correlations. Everything random takes its seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rerank_core.types import FloatArray


def bootstrap(
    rows: FloatArray,
    aggregate: Callable[[FloatArray], float],
    *,
    seed: int = 0,
    n_boot: int = 1000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap over requests (Efron and Tibshirani 1993, chapter 13).

    Parameters
    ----------
    rows
        Shape (n_requests, width).
    aggregate
        Turns rows into the value.

    Returns
    -------
    tuple
        Lower and upper end; NaN where there are no rows or no resample has a value.
    """
    n = len(rows)
    if n == 0:
        return math.nan, math.nan
    rng = np.random.default_rng(seed)
    values = np.array([aggregate(rows[rng.integers(0, n, n)]) for _ in range(n_boot)])
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def _paired(a: Mapping[str, float], b: Mapping[str, float]) -> FloatArray:
    common = sorted(set(a) & set(b))
    if not common:
        raise ValueError("the two systems have no request in common")
    return np.array([a[q] - b[q] for q in common], dtype=np.float64)


def paired_bootstrap(
    a: Mapping[str, float], b: Mapping[str, float], *, seed: int = 0, n_boot: int = 10_000
) -> tuple[float, float, float, float]:
    """Difference of means a - b over common requests, its 95 % interval and two-sided p.

    p is twice the smaller share of resampled differences on the far side of zero, never below 1 / n_boot.
    """
    d = _paired(a, b)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [d[rng.integers(0, len(d), (min(1000, n_boot - i), len(d)))].mean(axis=1) for i in range(0, n_boot, 1000)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    p = 2 * min((means <= 0).mean(), (means >= 0).mean())
    return float(d.mean()), float(low), float(high), float(min(1.0, max(p, 1 / n_boot)))


def randomisation_test(
    a: Mapping[str, float], b: Mapping[str, float], *, seed: int = 0, n_samples: int = 10_000
) -> float:
    """Two-sided p of Fisher's paired randomisation test by random sign flips (Smucker et al., CIKM 2007).

    (extreme + 1) / (samples + 1), so that p is never 0.
    """
    d = _paired(a, b)
    rng = np.random.default_rng(seed)
    observed, extreme, done = abs(d.mean()), 0, 0
    while done < n_samples:
        size = min(1000, n_samples - done)
        signs = rng.integers(0, 2, (size, len(d))) * 2 - 1
        extreme += int((np.abs((signs * d).mean(axis=1)) >= observed - 1e-12).sum())
        done += size
    return (extreme + 1) / (n_samples + 1)


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two lists of values; NaN where one of them is constant."""
    from scipy.stats import kendalltau

    if len(a) < 2:
        return math.nan
    return float(kendalltau(a, b, variant="b").statistic)


def rbo(a: Sequence[str], b: Sequence[str], p: float = 0.9, depth: int | None = None) -> float:
    """Rank-biased overlap of two rankings without ties (Webber, Moffat and Zobel, TOIS 2010).

    For p < 1 the extrapolated form over the compared depth, RBO_ext for lists of equal length: agreement at the last
    depth is taken to go on for ever. For p = 1, the plain mean of the overlap at depths 1 to n (average overlap).

    Parameters
    ----------
    depth
        How deep to compare; by default the shorter list's length.
    """
    if not 0 < p <= 1:
        raise ValueError("p must lie in (0, 1]")
    n = min(len(a), len(b)) if depth is None else min(depth, len(a), len(b))
    if n == 0:
        return 1.0 if not a and not b else 0.0
    left: set[str] = set()
    right: set[str] = set()
    agreement = np.empty(n)
    overlap = 0
    for d, (x, y) in enumerate(zip(a[:n], b[:n], strict=True)):
        if x == y:
            overlap += 1
        else:
            overlap += (x in right) + (y in left)
        left.add(x)
        right.add(y)
        agreement[d] = overlap / (d + 1)
    if p == 1:
        return float(agreement.mean())
    weights = p ** np.arange(n)
    return float((1 - p) * (weights * agreement).sum() + p**n * agreement[-1])

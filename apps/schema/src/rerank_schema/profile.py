"""What a column's values look like: type, distribution, patterns, and a MinHash sketch of its values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank_schema.cleaning import Cleaned, clean
from rerank_schema.tables import Column

HASHES = 128
MAX_PROFILED = 2_000
_RUNS = (
    (re.compile(r"[A-Z]+"), "A"),
    (re.compile(r"[a-zà-ÿ]+"), "a"),
    (re.compile(r"[0-9]+"), "9"),
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True, eq=False)
class Profile:
    """A column's values in a few numbers.

    Parameters
    ----------
    quantiles
        Shape (11,), deciles of the numbers among the values, or None where fewer than a half are numbers.
    patterns
        Share of values by letter pattern (``C3L-00104`` is ``A9A-9``).
    sketch
        MinHash values, shape (128,), or None without values.
    """

    type: str
    fill: float
    distinct: float
    length: float
    quantiles: NDArray[np.float64] | None
    patterns: Mapping[str, float]
    sketch: NDArray[np.uint64] | None


def profile(column: Column) -> Profile:
    """Profile a column."""
    cleaned = clean(column)
    raw = [str(v) for v in column.values[:MAX_PROFILED]]
    weights = column.counts[:MAX_PROFILED].astype(np.float64)
    total = float(weights.sum())
    return Profile(
        cleaned.type,
        float(column.counts.sum()) / column.n_rows if column.n_rows else np.nan,
        len(column.values) / max(1.0, float(column.counts.sum())) if raw else np.nan,
        float(np.average([len(v) for v in raw], weights=weights)) if total else np.nan,
        _quantiles(raw, weights),
        _patterns(raw, weights),
        _sketch(cleaned),
    )


def _quantiles(raw: list[str], weights: NDArray[np.float64]) -> NDArray[np.float64] | None:
    numbers, kept = [], []
    for value, weight in zip(raw, weights, strict=True):
        try:
            number = float(value)
        except ValueError:
            continue
        if np.isfinite(number):
            numbers.append(number)
            kept.append(weight)
    if not numbers or sum(kept) < 0.5 * weights.sum():
        return None
    order = np.argsort(numbers, kind="stable")
    share = np.cumsum(np.array(kept)[order]) / sum(kept)
    places = np.minimum(np.searchsorted(share, np.linspace(0, 1, 11)), len(order) - 1)
    return np.array(numbers)[order][places]


def pattern(value: str) -> str:
    """Return a value's letter pattern: runs of capitals, small letters and digits become one sign each."""
    for runs, sign in _RUNS:
        value = runs.sub(sign, value)
    return value[:20]


def _patterns(raw: list[str], weights: NDArray[np.float64]) -> dict[str, float]:
    counts: dict[str, float] = {}
    for value, weight in zip(raw, weights.tolist(), strict=True):
        counts[pattern(value)] = counts.get(pattern(value), 0.0) + weight
    total = sum(counts.values())
    return {p: c / total for p, c in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:20]} if total else {}


def _sketch(cleaned: Cleaned) -> NDArray[np.uint64] | None:
    from datasketch import MinHash

    if not cleaned.values:
        return None
    sketch = MinHash(num_perm=HASHES, seed=1)
    sketch.update_batch([str(v).encode("utf-8", "surrogatepass") for v in cleaned.values[:MAX_PROFILED]])
    return sketch.hashvalues


def similarity(a: Profile, b: Profile) -> dict[str, float]:
    """Compare two profiles; a comparison that one of them does not allow is left out."""
    out = {"type.same": float(a.type == b.type)}
    if a.sketch is not None and b.sketch is not None:
        out["minhash"] = float(np.mean(a.sketch == b.sketch))
        out["patterns"] = sum(min(p, b.patterns.get(k, 0.0)) for k, p in a.patterns.items())
        out["length.ratio"] = min(a.length, b.length) / max(a.length, b.length, 1e-9)
        out["distinct.gap"] = abs(a.distinct - b.distinct)
        out["numbers.both"] = float((a.quantiles is None) == (b.quantiles is None))
    if a.quantiles is not None and b.quantiles is not None:
        out["distribution"] = _distribution(a.quantiles, b.quantiles)
    return out


def _distribution(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """1 minus the mean distance of the deciles over their common range."""
    spread = max(a[-1], b[-1]) - min(a[0], b[0])
    return 1.0 if spread == 0 else float(1 - np.mean(np.abs(a - b)) / spread)

"""The field's measures, per gold item, with "new", "repeated" and "all" side by side.

As He et al. (CIKM 2023) count: every gold item is a case of its own (a turn with two golds is two cases), an item
mentioned before in the dialogue is *repeated* and any other *new*. Repeated items are shortcuts: a system that copies
the dialogue looks good in "all". Intervals resample dialogues, because turns of one dialogue are no independent cases.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rerank_core.measures import Row
from rerank_core.types import FloatArray

CUTOFFS = (1, 5, 10, 20, 50)
SUBSETS = ("new", "repeated", "all")


@dataclass(frozen=True, slots=True)
class Case:
    """One gold item of one turn: its 1-based rank in the system's list (0: not in it) and where it belongs."""

    turn: str
    dialogue: str
    gold: Hashable
    rank: int
    repeated: bool
    clean: bool = True


@dataclass(frozen=True)
class SubsetRow:
    """A figure with its subset; ``extra`` keys (setting, match) stand beside it in JSON."""

    row: Row
    subset: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as ``eval --json`` prints it."""
        return {**self.row.as_dict(), "subset": self.subset, **self.extra}


def rank_in(ranked: Sequence[Hashable], gold: Hashable) -> int:
    """Return the 1-based rank, 0 where it is not in the list."""
    try:
        return ranked.index(gold) + 1
    except ValueError:
        return 0


def cases_of(
    turn: str,
    dialogue: str,
    ranked: Sequence[Hashable],
    gold: Sequence[Hashable],
    seen: Sequence[Hashable],
    *,
    clean: bool = True,
    drop_seen_for_new: bool = True,
) -> list[Case]:
    """Return a turn's cases.

    Parameters
    ----------
    seen
        Items mentioned before. For a new gold item they are taken out of the list first (the user knows them already);
        for a repeated one they stay.
    """
    mentioned = set(seen)
    fresh = [r for r in ranked if r not in mentioned] if drop_seen_for_new else ranked
    return [
        Case(turn, dialogue, g, rank_in(ranked if g in mentioned else fresh, g), g in mentioned, clean) for g in gold
    ]


def gains(ranks: ArrayLike, measure: str, k: int) -> FloatArray:
    """Return each case's recall, nDCG or MRR at k from its rank, shape (n_cases,); 0 where it is beyond k.

    With a single relevant item nDCG is 1 / log2(rank + 1).
    """
    rank = np.asarray(ranks, dtype=np.float64)
    hit = (rank > 0) & (rank <= k)
    safe = np.where(hit, rank, 1.0)
    value = {"R": np.ones_like(safe), "nDCG": 1 / np.log2(safe + 1), "MRR": 1 / safe}[measure]
    return np.where(hit, value, 0.0)


def dialogue_sums(values: FloatArray, dialogues: Sequence[str], order: Mapping[str, int]) -> FloatArray:
    """Add cases up by dialogue: shape (n_dialogues, 2) of sum and count."""
    sums = np.zeros((len(order), 2))
    index = np.array([order[d] for d in dialogues], dtype=np.int64)
    np.add.at(sums[:, 0], index, values)
    np.add.at(sums[:, 1], index, 1.0)
    return sums


def resample_counts(n: int, n_boot: int, seed: int) -> NDArray[np.int64]:
    """Return how often each of n dialogues is drawn in each bootstrap sample, shape (n_boot, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_boot) if n else np.zeros((0, 0), int)


def summarise(
    system: str,
    cases: Sequence[Case],
    *,
    cutoffs: Sequence[int] = CUTOFFS,
    seed: int = 0,
    n_boot: int = 1000,
    **extra: Any,
) -> list[SubsetRow]:
    """Return R, nDCG and MRR at the cut-offs for new, repeated and all cases, with dialogue-level intervals.

    Where some dialogues are known from training, ``clean-new`` and ``clean-all`` count only the others.
    """
    subsets = {
        "new": [c for c in cases if not c.repeated],
        "repeated": [c for c in cases if c.repeated],
        "all": list(cases),
    }
    if not all(c.clean for c in cases):
        subsets["clean-new"] = [c for c in cases if c.clean and not c.repeated]
        subsets["clean-all"] = [c for c in cases if c.clean]
    rows = []
    for subset, chosen in subsets.items():
        order = {d: i for i, d in enumerate(dict.fromkeys(c.dialogue for c in chosen))}
        counts = resample_counts(len(order), n_boot, seed)
        ranks, dialogues = [c.rank for c in chosen], [c.dialogue for c in chosen]
        for measure in ("R", "nDCG", "MRR"):
            for k in cutoffs:
                value, low, high = math.nan, math.nan, math.nan
                if chosen:
                    per_case = gains(ranks, measure, k)
                    sums = dialogue_sums(per_case, dialogues, order)
                    drawn = counts @ sums
                    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
                    value = float(per_case.mean())
                row = Row(system, f"{measure}@{k}", value, len(chosen), float(low), float(high))
                rows.append(SubsetRow(row, subset, extra))
    return rows


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference of two systems over the same cases, resampled by dialogue."""

    measure: str
    subset: str
    value: float
    ci_low: float
    ci_high: float
    n: int


def difference(
    a: Sequence[Case],
    b: Sequence[Case],
    measure: str,
    k: int,
    subset: str = "new",
    *,
    seed: int = 0,
    n_boot: int = 2000,
) -> Difference:
    """Return a - b with the 95 % percentile interval of the dialogue-level paired bootstrap.

    Raises
    ------
    ValueError
        When the two do not hold the same cases.
    """
    if [(c.turn, c.gold) for c in a] != [(c.turn, c.gold) for c in b]:
        raise ValueError("the two systems were not judged on the same cases")
    keep = [i for i, c in enumerate(b) if subset == "all" or c.repeated == (subset == "repeated")]
    if not keep:
        return Difference(f"{measure}@{k}", subset, math.nan, math.nan, math.nan, 0)
    delta = gains([a[i].rank for i in keep], measure, k) - gains([b[i].rank for i in keep], measure, k)
    dialogues = [b[i].dialogue for i in keep]
    order = {d: i for i, d in enumerate(dict.fromkeys(dialogues))}
    drawn = resample_counts(len(order), n_boot, seed) @ dialogue_sums(delta, dialogues, order)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    return Difference(f"{measure}@{k}", subset, float(delta.mean()), float(low), float(high), len(keep))

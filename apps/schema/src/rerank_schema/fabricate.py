"""Table pairs with known correspondences, made from real tables.

Follows Valentine (Koutras et al., ICDE 2021, section 4): a table is cut into two by rows (unionable), by columns and
rows (view-unionable) or by columns (joinable); names and values of one side are then made noisy. On top come two
scenarios for what Valentine lacks: ``described``, where the target's names are made of the columns' documentation, so
that names agree in meaning and not in letters, and ``standard``, where the target holds the columns of many tables, as
a data standard does, and most have no counterpart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from rerank_schema.gold import GoldPairs
from rerank_schema.lexical import split_name
from rerank_schema.tables import Column, Schema, from_frame

if TYPE_CHECKING:
    import pandas as pd

SCENARIOS = ("unionable", "view-unionable", "joinable", "described", "standard")
MAX_ROWS = 400


@dataclass(frozen=True, eq=False)
class RealTable:
    """A table with what is known of its columns.

    Parameters
    ----------
    descriptions
        Column name -> documentation, where there is any.
    """

    name: str
    frame: pd.DataFrame
    descriptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TablePair:
    """Two table sets and their true correspondences."""

    name: str
    source: Schema
    target: Schema
    gold: GoldPairs


def fabricate(tables: Sequence[RealTable], seed: int = 0, scenarios: Sequence[str] = SCENARIOS) -> list[TablePair]:
    """Make one pair of every table and scenario that suits it; the same for the same seed.

    Raises
    ------
    ValueError
        When a scenario is unknown.
    """
    if unknown := set(scenarios) - set(SCENARIOS):
        raise ValueError(f"unknown scenario {sorted(unknown)[0]!r}; scenarios: {', '.join(SCENARIOS)}")
    out = []
    for i, table in enumerate(tables):
        for scenario in scenarios:
            rng = np.random.default_rng([seed, i, SCENARIOS.index(scenario)])
            if (pair := _pair(table, scenario, rng, tables)) is not None:
                out.append(pair)
    return out


def _pair(table: RealTable, scenario: str, rng: np.random.Generator, all_: Sequence[RealTable]) -> TablePair | None:
    frame = table.frame
    n = len(frame.columns)
    if n < 4 or len(frame) < 8 or (scenario == "described" and len(table.descriptions) < 3):
        return None
    rows = rng.permutation(len(frame))
    half = len(rows) // 2
    overlap = int(rng.choice([0, half // 2, half]))
    left_rows, right_rows = rows[:half][:MAX_ROWS], rows[half - overlap : 2 * half - overlap][:MAX_ROWS]
    shared = list(range(n)) if scenario in ("unionable", "described") else sorted(rng.choice(n, max(2, n // 2), False))
    others = [i for i in range(n) if i not in set(shared)]
    left = sorted([*shared, *others[::2]])
    right = sorted([*shared, *others[1::2]])
    if scenario == "joinable":
        right_rows = left_rows
    source, target = frame.iloc[left_rows, left], frame.iloc[right_rows, right]
    names = _names(table, [str(c) for c in target.columns], scenario, rng)
    gold = [(str(frame.columns[i]), names[right.index(i)]) for i in shared]
    target = _noisy(target, rng) if rng.random() < 0.5 else target.copy()
    target.columns = names
    columns = list(from_frame(target, f"{table.name}_target"))
    if scenario in ("standard", "described"):
        columns += _strangers(table, all_, names, rng, 60 if scenario == "described" else 250)
    order = rng.permutation(len(columns))
    schema = Schema(tuple(columns[i] for i in order), f"{table.name} target")
    matched = {s for s, _ in gold}
    return TablePair(
        f"{table.name}/{scenario}",
        Schema(tuple(from_frame(source, table.name)), table.name),
        schema,
        GoldPairs(
            tuple((("", s), ("", t)) for s, t in gold),
            tuple(("", str(c)) for c in source.columns if str(c) not in matched),
        ),
    )


def _strangers(
    table: RealTable, all_: Sequence[RealTable], taken: Sequence[str], rng: np.random.Generator, n: int
) -> list[Column]:
    """Return columns of other tables, under names of the kind the target has, none of them taken."""
    used = {split_name(t) for t in taken} | {split_name(str(c)) for c in table.frame.columns}
    pool = [(other, c) for other in all_ if other.name != table.name for c in other.frame.columns]
    out = []
    for i in rng.permutation(len(pool))[: 2 * n]:
        other, name = pool[int(i)]
        described = other.descriptions.get(str(name), "")
        shown = header_of(described) if described else str(name)
        if split_name(shown) in used or len(split_name(shown)) < 2:
            continue
        used.add(split_name(shown))
        column = from_frame(other.frame[[name]].head(MAX_ROWS), f"{table.name}_target")[0]
        # Standards have many attributes without any permitted value.
        out.append(
            replace(column, name=shown)
            if rng.random() < 0.6
            else replace(column, name=shown, values=(), counts=column.counts[:0])
        )
        if len(out) == n:
            break
    return out


def _names(table: RealTable, columns: Sequence[str], scenario: str, rng: np.random.Generator) -> list[str]:
    """Rename the target's columns; names stay distinct."""
    style = rng.choice(["same", "prefix", "abbreviate", "vowels", "mixed"])
    out: list[str] = []
    for column in columns:
        description = table.descriptions.get(column, "")
        if description and (scenario == "described" or (scenario == "standard" and rng.random() < 0.5)):
            name = header_of(description) or column
        else:
            kind = rng.choice(["same", "prefix", "abbreviate", "vowels"]) if style == "mixed" else style
            name = rename(column, str(kind), table.name)
        while name in out:
            name += "_"
        out.append(name)
    return out


def rename(name: str, style: str, table: str) -> str:
    """Rename a column in one of Valentine's ways: prefix with the table's name, abbreviate words, drop vowels."""
    words = split_name(name).split() or [name]
    if style == "prefix":
        return f"{table}_{name}"
    if style == "abbreviate":
        return "_".join(w[:4] for w in words)
    if style == "vowels":
        return "_".join(w[:1] + re.sub("[aeiou]", "", w[1:]) for w in words)
    return name


_STOP = frozenset(
    [
        "a",
        "an",
        "the",
        "of",
        "in",
        "on",
        "for",
        "to",
        "by",
        "is",
        "are",
        "was",
        "were",
        "at",
        "as",
        "and",
        "or",
        "with",
        "from",
        "whether",
        "if",
        "this",
        "that",
        "which",
    ]
)


def header_of(description: str, words: int = 4) -> str:
    """Make a column name of a description: its first telling words, joined by underscores."""
    head = re.split(r"[.;:(\[]| - ", description.strip(), maxsplit=1)[0]
    kept = [w for w in split_name(head).split() if w not in _STOP and not w.isdigit()]
    return "_".join(kept[:words])


def _noisy(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Make values noisy: typing errors in texts, a shift of a twentieth of the deviation in numbers."""
    out = {}
    for i in range(len(frame.columns)):
        series = frame.iloc[:, i]
        if series.dtype.kind == "f":
            spread = float(np.nanstd(series.to_numpy())) if series.notna().any() else 0.0
            out[i] = (series + rng.normal(0, spread / 20 if np.isfinite(spread) else 0.0, len(series))).round(3)
        elif series.dtype == object:
            out[i] = series.map(lambda v: typo(v, rng) if isinstance(v, str) and rng.random() < 0.2 else v)
        else:
            out[i] = series
    import pandas as pd

    return pd.DataFrame(out)


def typo(text: str, rng: np.random.Generator) -> str:
    """Swap two neighbouring letters inside a text of four or more."""
    if len(text) < 4:
        return text
    i = int(rng.integers(1, len(text) - 1))
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]

"""What is matched: columns, tables and sets of tables.

A column is kept as its distinct values with their counts, not as cells: every method here looks at distinct values,
and a table of a million rows then costs what its distinct values cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

MAX_DISTINCT = 100_000
"""Distinct values kept of one column; the rest would not change a sample of ten or a sketch of 128 hashes."""

MAX_CELL = 10_000
"""Characters kept of one cell."""


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table, or only its description.

    Parameters
    ----------
    table, name
        Where it stands and what it is called; never cleaned.
    values
        Distinct non-null values in order of first appearance.
    counts
        How often each occurs, shape (n_values,).
    n_rows
        Rows of the table, null cells included.
    storage
        How the values are stored: ``int``, ``float``, ``bool``, ``date`` or ``text``.
    description, table_description, declared_type, key
        What a schema says about it; empty where it says nothing. ``key`` is ``primary``, ``foreign`` or both with a
        blank between.
    id
        Unique within its schema; ``table.name`` unless that is taken.
    """

    table: str
    name: str
    values: tuple[Any, ...] = ()
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    n_rows: int = 0
    storage: str = "text"
    description: str = ""
    table_description: str = ""
    declared_type: str = ""
    key: str = ""
    id: str = ""

    def samples(self, n: int = 5) -> list[str]:
        """Return the ``n`` most frequent values as text."""
        order = np.argsort(-self.counts, kind="stable")[:n]
        return [str(self.values[i]) for i in order]


@dataclass(frozen=True, eq=False)
class Schema:
    """A set of tables: a file, a folder or a database.

    Parameters
    ----------
    columns
        Of all tables, in table order. Ids are made unique here.
    name
        What to call it in messages.
    notes
        What a reader had to do to read it (rows sampled, an encoding guessed); shown to the user.
    """

    columns: tuple[Column, ...]
    name: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(_with_ids(self.columns)))

    @property
    def tables(self) -> list[str]:
        """Table names in order."""
        return list(dict.fromkeys(c.table for c in self.columns))

    @property
    def ids(self) -> list[str]:
        """Column ids in order."""
        return [c.id for c in self.columns]

    def described(self, descriptions: dict[str, str]) -> Schema:
        """Return the schema with descriptions by ``table.column`` or column name added."""
        columns = [
            replace(c, description=descriptions.get(f"{c.table}.{c.name}") or descriptions.get(c.name) or c.description)
            for c in self.columns
        ]
        return replace(self, columns=tuple(columns))

    def without_values(self) -> Schema:
        """Return the schema with names and descriptions only."""
        empty = np.zeros(0, dtype=np.int64)
        return replace(self, columns=tuple(replace(c, values=(), counts=empty, n_rows=0) for c in self.columns))


def _with_ids(columns: Iterable[Column]) -> list[Column]:
    seen: set[str] = set()
    out = []
    for column in columns:
        base = column.id or (f"{column.table}.{column.name}" if column.table else column.name)
        name, number = base, 1
        while name in seen:
            number += 1
            name = f"{base}#{number}"
        seen.add(name)
        out.append(column if column.id == name else replace(column, id=name))
    return out


def from_frame(frame: pd.DataFrame, table: str = "") -> list[Column]:
    """Turn a data frame into columns.

    Column names become text, so that whole-number names work; repeated names stay separate columns; one without a name
    is called ``Unnamed: n``, as pandas calls it. Cells that hold lists or dicts become their text.
    """
    names = [str(name) if str(name).strip() else f"Unnamed: {i}" for i, name in enumerate(frame.columns)]
    return [column_of(frame.iloc[:, i], table, name) for i, name in enumerate(names)]


def column_of(series: pd.Series, table: str, name: str) -> Column:
    """Count the distinct values of a series."""
    import pandas as pd

    storage = _storage(series)
    present = series.dropna()
    if storage in ("text", "date"):
        present = present.map(_cell)
    codes, uniques = pd.factorize(present, sort=False)
    counts = np.bincount(codes, minlength=len(uniques)).astype(np.int64) if len(uniques) else np.zeros(0, np.int64)
    values = list(uniques.tolist() if hasattr(uniques, "tolist") else uniques)
    if len(values) > MAX_DISTINCT:
        values, counts = values[:MAX_DISTINCT], counts[:MAX_DISTINCT]
    return Column(table, name, tuple(values), counts, len(series), storage)


def _storage(series: pd.Series) -> str:
    import pandas as pd

    types = pd.api.types
    if types.is_bool_dtype(series.dtype):
        return "bool"
    if types.is_integer_dtype(series.dtype):
        return "int"
    if types.is_float_dtype(series.dtype):
        return "float"
    if types.is_datetime64_any_dtype(series.dtype):
        return "date"
    return "text"


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_CELL else value[:MAX_CELL]
    if isinstance(value, bytes):
        return value[:MAX_CELL].decode("utf-8", "replace")
    if isinstance(value, (bool, int, float)):
        return value
    return str(value)[:MAX_CELL]


def column_from_values(table: str, name: str, cells: Sequence[Any]) -> Column:
    """Make a column from plain cells; used where there is no data frame (tests, programs)."""
    import pandas as pd

    return column_of(pd.Series(list(cells), dtype=object).infer_objects(), table, name)

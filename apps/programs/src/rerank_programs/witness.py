"""A small input on which two programs differ: rows taken away from a database on which they do.

Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", TSE 2002) over the rows of
all tables. [`rerank_programs.frames`][] does the same with the frames of pandas programs.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rerank_core.errors import InputError
from rerank_programs.equality import equal
from rerank_programs.results import Outcome, Row
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.pool import Pool


@dataclass(frozen=True)
class Distinguishing:
    """A small database on which two programs differ.

    Parameters
    ----------
    tables
        Table name -> (column names, rows); tables with no rows left are not listed.
    results
        What the two programs give on it.
    runs
        Programs run during the search.
    minimal
        Whether no single row can be taken away any more.
    """

    tables: Mapping[str, tuple[tuple[str, ...], tuple[Row, ...]]]
    results: tuple[Outcome, Outcome]
    runs: int
    minimal: bool

    @property
    def n_rows(self) -> int:
        """Rows in all tables."""
        return sum(len(rows) for _, rows in self.tables.values())


class Search(Protocol):
    """A search under way: tries sets of rows until its budget of runs is spent."""

    runs: int
    budget: int

    def differs(self, rows: Mapping[str, Sequence[Row]]) -> bool: ...


@dataclass
class _Search:
    """State of one search: the database's tables and the two programs under test."""

    schema: list[str]
    columns: dict[str, tuple[str, ...]]
    programs: tuple[str, str]
    mode: str
    pool: Pool
    folder: Path
    budget: int
    runs: int = 0
    last: tuple[Outcome, Outcome] | None = None
    serial: int = 0

    def differs(self, rows: Mapping[str, Sequence[Row]]) -> bool:
        """Whether both programs run on these rows and give different results."""
        if self.runs + 2 > self.budget:
            return False
        self.runs += 2
        self.serial += 1
        path = self.folder / f"{self.serial}.sqlite"
        _write(path, self.schema, self.columns, rows)
        try:
            a, b = self.pool.run([{"database": str(path), "program": p} for p in self.programs])
        finally:
            path.unlink()
        if a.ok and b.ok and not equal(a, b, self.mode):
            self.last = (a, b)
            return True
        return False


def distinguish(
    database: str | Path,
    first: str,
    second: str,
    *,
    mode: str = "spider",
    limits: Limits | None = None,
    max_rows: int = 2000,
    budget: int = 400,
) -> Distinguishing | None:
    """Search a small database on which two queries differ, by taking rows away from one on which they do.

    Delta debugging (Zeller and Hildebrandt 2002) over all tables' rows: the result is a witness that is minimal up to
    single rows, unless the budget ran out first. Where the two agree on the whole database there is nothing to reduce.

    Parameters
    ----------
    max_rows
        Larger tables are cut to their first so many rows, if the two still differ then.
    budget
        Most runs of a program.

    Returns
    -------
    Distinguishing or None
        None when the two never differ on what was tried.
    """
    schema, columns, rows = _read(Path(database), max_rows)
    with tempfile.TemporaryDirectory(prefix="rerank-explain-") as name:
        folder = Path(name)
        with Pool("sqlite", readable=[folder], limits=limits, workers=1) as pool:
            search = _Search(schema, columns, (first, second), mode, pool, folder, budget)
            if not search.differs(rows):
                return None
            units = [(t, i) for t in rows for i in range(len(rows[t]))]
            kept, minimal = reduce_rows(units, rows, search)
            small = subset(kept, rows)
            assert search.last is not None
            search.budget += 2
            search.differs(small)
            tables = {t: (columns[t], tuple(r)) for t, r in small.items() if r}
            return Distinguishing(tables, search.last, search.runs, minimal)


def subset(units: Sequence[tuple[str, int]], rows: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    """Return the rows that (table, position) pairs name."""
    out: dict[str, list[Row]] = {t: [] for t in rows}
    for table, i in units:
        out[table].append(rows[table][i])
    return out


def reduce_rows(
    units: list[tuple[str, int]], rows: Mapping[str, Sequence[Row]], search: Search
) -> tuple[list[tuple[str, int]], bool]:
    """Take rows away while the search still finds a difference; return those left and whether none can be spared."""
    for table in rows:  # whole tables first: most queries touch one or two
        rest = [u for u in units if u[0] != table]
        if len(rest) < len(units) and search.differs(subset(rest, rows)):
            units = rest
    parts = 2
    while len(units) > 1:
        size = max(1, len(units) // parts)
        for start in range(0, len(units), size):
            rest = units[:start] + units[start + size :]
            if search.differs(subset(rest, rows)):
                units, parts = rest, max(parts - 1, 2)
                break
        else:
            if size == 1:
                return units, search.runs + 2 <= search.budget
            parts = min(parts * 2, len(units))
        if search.runs + 2 > search.budget:
            return units, False
    return units, True


def _read(database: Path, max_rows: int) -> tuple[list[str], dict[str, tuple[str, ...]], dict[str, tuple[Row, ...]]]:
    columns: dict[str, tuple[str, ...]] = {}
    rows: dict[str, tuple[Row, ...]] = {}
    schema: list[str] = []
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)) as db:
            db.text_factory = lambda b: b.decode("utf-8", "ignore")
            listed = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
            for name, sql in listed:
                if name.startswith("sqlite_") or not sql:
                    continue
                schema.append(sql)
                cursor = db.execute(f"SELECT * FROM {_quoted(name)} LIMIT {int(max_rows)}")
                columns[name] = tuple(d[0] for d in cursor.description)
                rows[name] = tuple(cursor.fetchall())
    except sqlite3.Error as error:
        raise InputError(f"cannot be read as SQLite: {error}", database) from error
    return schema, columns, rows


def _write(
    path: Path, schema: Sequence[str], columns: Mapping[str, tuple[str, ...]], rows: Mapping[str, Sequence[Row]]
) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA foreign_keys = OFF")
        for statement in schema:
            db.execute(statement)
        for table, content in rows.items():
            if content:
                marks = ",".join("?" * len(columns[table]))
                db.executemany(f"INSERT INTO {_quoted(table)} VALUES ({marks})", content)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

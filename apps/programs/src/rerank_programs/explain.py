"""Why the first one stands first, and the one question that would settle it.

From a ranking file: clusters, lints, result samples and the difference between the two leading results. With the
databases at hand: a distinguishing input, that is, a small database (a subset of the rows) on which the two leading
programs still differ, so that a person can look at two small answers and say which is meant.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError
from rerank_programs.equality import equal
from rerank_programs.results import Outcome, Row
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.pool import Pool

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """What separates two results.

    Parameters
    ----------
    columns
        Column names of either.
    rows
        Row counts of either.
    only_first, only_second
        A few rows that only the one has (as bags).
    order_only
        The same rows in another order.
    """

    columns: tuple[tuple[str, ...], tuple[str, ...]]
    rows: tuple[int, int]
    only_first: tuple[Row, ...]
    only_second: tuple[Row, ...]
    order_only: bool


def difference(a: Outcome, b: Outcome) -> Difference:
    """Compare two results as bags of rows."""
    left, right = Counter(map(repr, a.rows)), Counter(map(repr, b.rows))
    return Difference(
        (a.columns, b.columns),
        (len(a.rows), len(b.rows)),
        _rest(a.rows, left - right),
        _rest(b.rows, right - left),
        left == right and a.rows != b.rows,
    )


def _rest(rows: Sequence[Row], extra: Counter[str]) -> tuple[Row, ...]:
    out: list[Row] = []
    left = Counter(extra)
    for row in rows:
        if len(out) == SHOWN:
            break
        if left[repr(row)] > 0:
            left[repr(row)] -= 1
            out.append(row)
    return tuple(out)


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
            kept, minimal = _reduce(units, rows, search)
            small = _subset(kept, rows)
            assert search.last is not None
            search.budget += 2
            search.differs(small)
            tables = {t: (columns[t], tuple(r)) for t, r in small.items() if r}
            return Distinguishing(tables, search.last, search.runs, minimal)


def _subset(units: Sequence[tuple[str, int]], rows: Mapping[str, Sequence[Row]]) -> dict[str, list[Row]]:
    out: dict[str, list[Row]] = {t: [] for t in rows}
    for table, i in units:
        out[table].append(rows[table][i])
    return out


def _reduce(
    units: list[tuple[str, int]], rows: Mapping[str, Sequence[Row]], search: _Search
) -> tuple[list[tuple[str, int]], bool]:
    """Return the remaining rows, and whether none of them can be spared."""
    for table in rows:  # whole tables first: most queries touch one or two
        rest = [u for u in units if u[0] != table]
        if len(rest) < len(units) and search.differs(_subset(rest, rows)):
            units = rest
    parts = 2
    while len(units) > 1:
        size = max(1, len(units) // parts)
        for start in range(0, len(units), size):
            rest = units[:start] + units[start + size :]
            if search.differs(_subset(rest, rows)):
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


@dataclass(frozen=True)
class Explanation:
    """Everything there is to say about one request, ready to print or to send as JSON."""

    record: Mapping[str, Any]
    difference: Difference | None = None
    program_diff: tuple[str, ...] = ()
    witness: Distinguishing | None = None
    notes: tuple[str, ...] = field(default=())

    def question(self) -> str | None:
        """The one question for the user, or None where there is nothing to ask."""
        if self.witness is None:
            return None
        lines = ["Given only these rows:"]
        for table, (columns, rows) in self.witness.tables.items():
            lines.append(f"  {table} ({', '.join(columns)})")
            lines += [f"    {_line(row)}" for row in rows[:10]]
            if len(rows) > 10:
                lines.append(f"    ... {len(rows) - 10} more")
        lines.append(f"which answer to {self.record.get('question', '')!r} do you mean?")
        for letter, outcome in zip("AB", self.witness.results, strict=True):
            shown = "; ".join(_line(r) for r in outcome.rows[:SHOWN]) or "(no rows)"
            more = f"; ... {len(outcome.rows) - SHOWN} more" if len(outcome.rows) > SHOWN else ""
            lines.append(f"  {letter}: {shown}{more}")
        return "\n".join(lines)


def _line(row: Sequence[Any]) -> str:
    return ", ".join("NULL" if c is None else str(c)[:60] for c in row)


def explain(record: Mapping[str, Any], database: str | Path | None = None, limits: Limits | None = None) -> Explanation:
    """Explain one record of a ranking file.

    Parameters
    ----------
    database
        Its SQLite database; without it there is no distinguishing input.
    """
    clusters = record.get("clusters", [])
    if len(clusters) < 2:
        reason = "every candidate that ran gave the same result" if clusters else "no candidate gave a result"
        return Explanation(record, notes=(reason,))
    first, second = (str(c["members"][0]) for c in clusters[:2])
    texts = record["programs"][first], record["programs"][second]
    diff = program_diff(*texts) if record.get("language") == "sql" else ()
    if database is None or record.get("language") != "sql" or Path(database).is_dir():
        return Explanation(
            record, program_diff=diff, notes=("no SQLite database at hand: results are shown as stored",)
        )
    mode = str(record.get("mode", "spider")).rpartition("-")[0] or "spider"
    with Pool("sqlite", readable=[database], limits=limits, workers=1) as pool:
        path = str(Path(database).resolve())
        a, b = pool.run([{"database": path, "program": t} for t in texts])
    if not (a.ok and b.ok):
        return Explanation(record, program_diff=diff, notes=("a leading program does not run on this database",))
    witness = distinguish(path, *texts, mode=mode, limits=limits)
    notes = () if witness else ("the two do not differ on the rows that were tried",)
    return Explanation(record, difference(a, b), diff, witness, notes)


def program_diff(first: str, second: str) -> tuple[str, ...]:
    """Say what the second query has other than the first, in clauses; for reading only."""
    from rerank_programs.sql import edits

    return edits(first, second)


def as_text(explanation: Explanation) -> str:
    """Return an explanation as plain text."""
    record = explanation.record
    lines = [f"{record['id']}: {record.get('question', '')}"]
    lines.append(
        f"method {record.get('method', '?')}, compared as {record.get('mode', '?')}, isolation "
        f"{', '.join(record.get('isolation', [])) or 'none'}, confidence {record.get('confidence', float('nan')):.3f}"
    )
    for n, cluster in enumerate(record.get("clusters", []), 1):
        result = cluster["result"]
        lines.append(
            f"\nresult {n}: share {cluster['mass']:.3f}, score {cluster['score']:.3f}, "
            f"{len(cluster['members'])} program(s): {', '.join(cluster['members'])}"
        )
        if cluster["lints"]:
            lines.append(f"  lints: {', '.join(cluster['lints'])}")
        lines.append(f"  {record['programs'][cluster['members'][0]].strip()}")
        lines.append(f"  {result['n_rows']} row(s): {', '.join(result['columns'])}")
        lines += [f"    {_line(row)}" for row in result["rows"]]
    for name, why in record.get("failed", {}).items():
        lines.append(f"\ndid not run: {name}: {why['verdict']}: {why['message']}")
    lines += _difference_lines(explanation)
    lines += [f"\nnote: {n}" for n in explanation.notes]
    question = explanation.question()
    if question:
        lines.append(f"\n{question}")
    return "\n".join(lines)


def _difference_lines(explanation: Explanation) -> list[str]:
    lines: list[str] = []
    if explanation.program_diff:
        lines.append("\nprograms of result 1 and 2 differ in:")
        lines += [f"  {d}" for d in explanation.program_diff]
    d = explanation.difference
    if d is not None:
        lines.append(
            f"\nresults 1 and 2: {d.rows[0]} and {d.rows[1]} rows"
            + (", only the order differs" if d.order_only else "")
        )
        lines += [f"  only in 1: {_line(r)}" for r in d.only_first]
        lines += [f"  only in 2: {_line(r)}" for r in d.only_second]
    return lines


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON."""
    out: dict[str, Any] = {"id": explanation.record["id"], "clusters": explanation.record.get("clusters", [])}
    out |= {"failed": explanation.record.get("failed", {}), "notes": list(explanation.notes)}
    out["program_diff"] = list(explanation.program_diff)
    d = explanation.difference
    if d is not None:
        out["difference"] = {
            "rows": list(d.rows),
            "only_first": [list(map(_plain, r)) for r in d.only_first],
            "only_second": [list(map(_plain, r)) for r in d.only_second],
            "order_only": d.order_only,
        }
    w = explanation.witness
    if w is not None:
        out["witness"] = {
            "tables": {
                t: {"columns": list(c), "rows": [list(map(_plain, r)) for r in rows]}
                for t, (c, rows) in w.tables.items()
            },
            "results": [[list(map(_plain, r)) for r in o.rows] for o in w.results],
            "minimal": w.minimal,
            "runs": w.runs,
        }
        out["question"] = explanation.question()
    return out


def _plain(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, bool | int | float | str) else repr(cell)

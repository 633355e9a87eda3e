"""Why the first one stands first, and the one question that would settle it.

From a ranking file: clusters, lints, result samples and the difference between the two leading results. With the
databases at hand: a distinguishing input, that is, a small database (a subset of the rows) on which the two leading
programs still differ, so that a person can look at two small answers and say which is meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_programs.results import Outcome, Row
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.pool import Pool
from rerank_programs.witness import Distinguishing, distinguish

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
    if record.get("language") == "pandas":
        return _explain_frames(record, texts, database, limits)
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


def _explain_frames(
    record: Mapping[str, Any], texts: tuple[str, str], folder: str | Path | None, limits: Limits | None
) -> Explanation:
    from rerank_programs.frames import distinguish_frames

    inputs = record.get("inputs", [])
    if not inputs and folder is None:
        return Explanation(record, notes=("no input data at hand: results are shown as stored",))
    named = str(record.get("mode", "frame")).rpartition("-")[0]
    mode = "frame" if named in ("", "spider") else named
    witness = distinguish_frames(inputs, folder, *texts, mode=mode, limits=limits)
    if witness is None:
        return Explanation(record, notes=("the two do not differ on the rows that were tried",))
    return Explanation(record, difference(*witness.results), witness=witness)


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

"""What running a program gave: a typed verdict and, where it went well, a table, a frame or a value.

Outcomes cross the sandbox's wall as length-capped JSON, never as pickle. This module imports the standard library
only, so that a worker can use it without paying for anything else.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

Cell: TypeAlias = Any
"""None, bool, int, float, str, bytes; nested lists, tuples and dicts of them for Python values."""

Row: TypeAlias = tuple[Cell, ...]


class Verdict(StrEnum):
    """How a run ended."""

    OK = "ok"
    TIMEOUT = "timeout"  # stopped by the soft limit, or killed at the hard one
    MEMORY = "memory"  # met its memory limit
    DENIED = "denied"  # tried something the sandbox does not allow
    ERROR = "error"  # its own fault: syntax, missing table, exception, no result
    OUTPUT_TOO_LARGE = "output_too_large"
    UNSUPPORTED = "unsupported"  # the engine does not know this construct: nothing is known about the program
    NOT_RUN = "not_run"  # the budget was spent before its turn


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one run.

    Parameters
    ----------
    verdict
        How the run ended; everything below is only meaningful when it is ``ok``.
    kind
        ``table`` (SQL, M), ``frame`` or ``series`` (pandas), ``value`` (any other Python value).
    columns, rows
        The result. A value is one row of one cell.
    index
        Row labels of a frame whose index carries meaning, else None.
    message
        What went wrong, in the engine's words, capped.
    flags
        ``nondeterministic`` (the program asks for random numbers or the clock), ``ordered`` (top-level ORDER BY).
    seconds
        Wall time inside the worker; not part of equality and never cached as truth about speed.
    isolation
        Layers that were in force when it ran.
    """

    verdict: Verdict
    kind: str = "table"
    columns: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    index: tuple[Cell, ...] | None = None
    message: str | None = None
    flags: frozenset[str] = frozenset()
    seconds: float = field(default=0.0, compare=False)
    isolation: str = field(default="", compare=False)

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.verdict is Verdict.OK

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.rows) * max(len(self.columns), 1)

    @property
    def nondeterministic(self) -> bool:
        """Whether two runs may differ; such results never vote for one another."""
        return "nondeterministic" in self.flags


def encode(outcome: Outcome) -> bytes:
    """Return an outcome as JSON bytes; [`decode`][rerank_programs.results.decode] is the inverse."""
    record: dict[str, Any] = {"v": str(outcome.verdict), "s": round(outcome.seconds, 6)}
    if outcome.ok:
        record |= {"k": outcome.kind, "c": outcome.columns, "r": outcome.rows}
        if outcome.index is not None:
            record["i"] = outcome.index
    if outcome.message is not None:
        record["m"] = outcome.message
    if outcome.isolation:
        record["w"] = outcome.isolation
    if outcome.flags:
        record["f"] = sorted(outcome.flags)
    return json.dumps(record, default=_pack, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def decode(data: bytes) -> Outcome:
    """Read an outcome.

    Raises
    ------
    ValueError
        When the bytes are no outcome: a worker that was tampered with, a damaged cache entry.
    """
    try:
        record = json.loads(data.decode("utf-8", "surrogatepass"), object_hook=_unpack)
        rows = tuple(map(tuple, record.get("r", ())))
        columns = tuple(map(str, record.get("c", ())))
        if any(len(r) != len(columns) for r in rows):
            raise ValueError("ragged rows")
        index = record.get("i")
        return Outcome(
            Verdict(record["v"]),
            str(record.get("k", "table")),
            columns,
            rows,
            None if index is None else tuple(index),
            record.get("m"),
            frozenset(record.get("f", ())),
            float(record.get("s", 0.0)),
            str(record.get("w", "")),
        )
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not an outcome: {error}") from error


def failed(verdict: Verdict, message: str, seconds: float = 0.0, flags: frozenset[str] = frozenset()) -> Outcome:
    """Return an outcome without a result; the message is cut at 500 characters."""
    return Outcome(verdict, message=message[:500], seconds=seconds, flags=flags)


def _pack(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"$b": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _unpack(value: dict[str, Any]) -> Any:
    if len(value) == 1 and "$b" in value:
        return base64.b64decode(value["$b"])
    return value

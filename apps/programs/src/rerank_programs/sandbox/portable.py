"""Turns whatever a Python program computed into plain values that JSON can carry.

Runs inside the sandbox, after the program. The program may have patched anything in its own process, so nothing here
is trusted outside: it only decides what that program's own result looks like.
"""

from __future__ import annotations

import sys
from typing import Any

from rerank_programs.results import Outcome, Verdict

MAX_DEPTH = 50


class TooManyCells(Exception):
    """The value has more cells than the limit."""


class Portable:
    """Converts values, counting cells against a limit."""

    def __init__(self, cells: int) -> None:
        self.left = cells
        self.limit = cells

    def outcome(self, value: Any) -> Outcome:
        """Return a program's result as an outcome."""
        pandas, numpy = sys.modules.get("pandas"), sys.modules.get("numpy")
        if pandas is not None:
            if isinstance(value, pandas.DataFrame):
                return self._frame(value, pandas)
            if isinstance(value, pandas.Series):
                return self._series(value, pandas)
            if isinstance(value, pandas.Index):
                return Outcome(Verdict.OK, "value", ("value",), ((self.cell(list(value)),),))
        if numpy is not None and isinstance(value, numpy.ndarray):
            return Outcome(Verdict.OK, "value", ("value",), ((self.cell(value.tolist()),),))
        return Outcome(Verdict.OK, "value", ("value",), ((self.cell(value),),))

    def _frame(self, frame: Any, pandas: Any) -> Outcome:
        self._take(frame.shape[0] * max(frame.shape[1], 1))
        columns = [[self.cell(c, free=True) for c in frame.iloc[:, j].tolist()] for j in range(frame.shape[1])]
        names = tuple(_name(c) for c in frame.columns)
        rows = tuple(zip(*columns, strict=True)) if columns else ((),) * frame.shape[0]
        return Outcome(Verdict.OK, "frame", names, rows, self._index(frame.index, pandas))

    def _series(self, series: Any, pandas: Any) -> Outcome:
        self._take(series.shape[0])
        name = "" if series.name is None else _name(series.name)
        rows = tuple((self.cell(c, free=True),) for c in series.tolist())
        return Outcome(Verdict.OK, "series", (name,), rows, self._index(series.index, pandas))

    def _index(self, index: Any, pandas: Any) -> tuple[Any, ...] | None:
        """Return labels that carry meaning: a named index, or one that is not just row numbers."""
        if index.nlevels == 1 and index.name is None and pandas.api.types.is_integer_dtype(index.dtype):
            return None
        self._take(len(index))
        return tuple(self.cell(x, free=True) for x in index.tolist())

    def _take(self, n: int) -> None:
        self.left -= n
        if self.left < 0:
            raise TooManyCells(f"more than {self.limit} cells")

    def cell(self, value: Any, depth: int = 0, *, free: bool = False) -> Any:
        """Return one value; unknown kinds become their type's name, so that addresses never differ."""
        if not free:
            self._take(1)
        kind = type(value)
        if value is None or kind in (bool, str, float):
            return value
        if kind is int:
            return value if abs(value) < 1 << 4096 else f"int of {value.bit_length()} bits"
        if depth > MAX_DEPTH:
            return "..."
        if isinstance(value, bytes | bytearray):
            return bytes(value)
        if isinstance(value, list | tuple):
            return [self.cell(v, depth + 1) for v in value]
        if isinstance(value, dict):
            return {str(self.cell(k, depth + 1)): self.cell(v, depth + 1) for k, v in value.items()}
        if isinstance(value, set | frozenset):
            return {"$set": sorted((self.cell(v, depth + 1) for v in value), key=repr)}
        return self._rare(value, depth)

    def _rare(self, value: Any, depth: int) -> Any:
        pandas, numpy = sys.modules.get("pandas"), sys.modules.get("numpy")
        if pandas is not None:
            if value is pandas.NaT or value is pandas.NA:
                return None
            if isinstance(value, pandas.Timestamp | pandas.Timedelta):
                return value.isoformat()
            if isinstance(value, pandas.DataFrame | pandas.Series):
                o = self.outcome(value)
                index = None if o.index is None else list(o.index)
                return {"$kind": o.kind, "columns": list(o.columns), "rows": list(map(list, o.rows)), "index": index}
        if numpy is not None:
            if isinstance(value, numpy.generic):
                return self.cell(value.item(), depth + 1)
            if isinstance(value, numpy.ndarray):
                return self.cell(value.tolist(), depth + 1)
        if isinstance(value, int | float | str):  # subclasses: enum members, patched numbers
            return f"{kind_name(value)}:{str(value)[:200]}"
        if hasattr(value, "isoformat"):
            return str(value.isoformat())
        if isinstance(value, complex):
            return {"$complex": [value.real, value.imag]}
        return f"<{kind_name(value)}>"


def kind_name(value: Any) -> str:
    """Return the name of a value's type."""
    return str(type(value).__name__)


def _name(label: Any) -> str:
    return "|".join(map(str, label)) if isinstance(label, tuple) else str(label)

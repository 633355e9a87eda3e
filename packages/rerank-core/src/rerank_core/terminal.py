"""What commands print: JSON on stdout, or tables that stay readable in a pipe."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160


def console() -> Console:
    """Return a console on stdout; where that is no terminal, wide enough not to break tables."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def print_json(value: Any) -> None:
    """Print JSON on stdout; a number that does not exist is null, never NaN."""
    json.dump(value, sys.stdout, ensure_ascii=False, indent=1, allow_nan=False)
    sys.stdout.write("\n")


def print_rows(rows: Sequence[Any], as_json: bool) -> None:
    """Print result rows (`Row` objects or their dicts): a JSON list, or a table with intervals."""
    plain = [r if isinstance(r, dict) else r.as_dict() for r in rows]
    if as_json:
        print_json(plain)
        return
    from rich.table import Table

    extra = [k for k in dict.fromkeys(k for r in plain for k in r) if k in ("domain", "subset", "p", "diff", "seconds")]
    table = Table("system", "measure", "value", "95 % interval", "n", *extra)
    for r in plain:
        interval = f"[{_short(r.get('ci_low'))}, {_short(r.get('ci_high'))}]".replace("[", "\\[")
        tail = [_short(r.get(k)) for k in extra]
        table.add_row(str(r["system"]), str(r["measure"]), _short(r["value"]), interval, str(r["n"]), *tail)
    console().print(table)


def _short(x: Any) -> str:
    return "–" if x is None else f"{x:.4f}" if isinstance(x, float) else str(x)

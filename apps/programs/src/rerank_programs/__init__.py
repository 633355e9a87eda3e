"""Rerank generated programs (SQL, Python and pandas, Power Query M) by what they do when they run.

Three lines::

    from rerank_programs import rank

    for pick in rank(["SELECT count(*) FROM t", "SELECT sum(x) FROM t"], "my.sqlite"):
        print(pick.program, pick.confidence)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerank_programs.api import Pick, execute, rank
    from rerank_programs.equality import MODES, equal
    from rerank_programs.results import Outcome, Verdict

__all__ = ["MODES", "Outcome", "Pick", "Verdict", "equal", "execute", "rank"]

# Resolved on first use: the workers import this package inside the sandbox and must start in milliseconds.
_HOMES = {
    "rank": "api",
    "execute": "api",
    "Pick": "api",
    "MODES": "equality",
    "equal": "equality",
    "Outcome": "results",
    "Verdict": "results",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

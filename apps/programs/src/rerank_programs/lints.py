"""Signs of an ill-formed result, each with a penalty on the scale of a vote share.

The list follows the well-formedness score tuning of "From Words to Code" (Khatry et al. 2023, abstract only: the
paper's own list and penalties could not be read). Constants were set by hand beforehand, never fitted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from rerank_programs.results import Outcome

PENALTIES: Mapping[str, float] = MappingProxyType(
    {
        "empty": 0.2,
        "all_null": 0.2,
        "null_column": 0.06,
        "duplicate_rows": 0.04,
        "duplicate_columns": 0.02,
        "same_as_input": 0.1,
        "not_finite": 0.1,
        "huge": 0.1,
        "scalar_for_table": 0.0,
        "table_for_scalar": 0.0,
        "unordered": 0.02,
        "limit_tie": 0.0,
        "text_order": 0.02,
        "nondeterministic": 0.2,
    }
)
"""Penalty per lint; zero marks a lint that is only reported."""

HUGE_CELLS = 1_000_000
_ASKS_ORDER = re.compile(
    r"\b(sort(ed)?|order(ed)? (by|of|in)|in (ascending|descending|alphabetical)|ascending|descending)\b", re.I
)
_ASKS_NUMBER = re.compile(r"^\s*(how many|what is the (total )?(number|count)|count|find the (total )?number)\b", re.I)
_ASKS_GROUPS = re.compile(r"\b(each|every|per|different .* (and|with) (their|its)|by (each )?\w+)\b", re.I)
_ASKS_LIST = re.compile(r"^\s*(list|which .*s\b|show (all|the names)|what are the (names|ids|titles))", re.I)
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?\Z")


@dataclass(frozen=True)
class LintConfig:
    """Penalties and their scale."""

    penalties: Mapping[str, float] = field(default_factory=lambda: PENALTIES)
    scale: float = 1.0


def lint(outcome: Outcome, question: str = "", program: str = "", language: str = "sql") -> tuple[str, ...]:
    """Name what looks wrong with a result.

    Parameters
    ----------
    question, program
        Where given, the result is also held against what was asked and how it was made.

    Returns
    -------
    tuple of str
        Lint names; ``null_column`` stands once per such column.
    """
    if not outcome.ok:
        return ()
    found = list(_shape_lints(outcome))
    if outcome.nondeterministic:
        found.append("nondeterministic")
    found += _question_lints(outcome, question)
    if program and language == "sql":
        found += _order_lints(outcome, question, program)
    return tuple(found)


def _shape_lints(outcome: Outcome) -> list[str]:
    found: list[str] = []
    rows = outcome.rows
    if not rows:
        return ["empty"]
    if len(set(outcome.columns)) < len(outcome.columns):
        found.append("duplicate_columns")
    columns = list(zip(*rows, strict=True))
    null = [all(_missing(c) for c in column) for column in columns]
    if all(null):
        found.append("all_null")
    else:
        found += ["null_column"] * sum(null)
    if len(rows) > 1 and len(set(map(repr, rows))) < len(rows):
        found.append("duplicate_rows")
    if any(isinstance(c, float) and math.isinf(c) for row in rows for c in row):
        found.append("not_finite")
    if outcome.cells > HUGE_CELLS:
        found.append("huge")
    if "same_as_input" in outcome.flags:
        found.append("same_as_input")
    return found


def _question_lints(outcome: Outcome, question: str) -> list[str]:
    scalar = len(outcome.rows) == 1 and len(outcome.columns) == 1
    if _ASKS_NUMBER.search(question) and not _ASKS_GROUPS.search(question):
        number = scalar and isinstance(outcome.rows[0][0], int | float)
        return [] if number else ["table_for_scalar"]
    if _ASKS_LIST.search(question) and scalar and isinstance(outcome.rows[0][0], int | float):
        return ["scalar_for_table"]
    return []


def _order_lints(outcome: Outcome, question: str, program: str) -> list[str]:
    # Words only, to look; programs are never edited this way.
    lower = program.lower()
    found = []
    if _ASKS_ORDER.search(question) and len(outcome.rows) > 1 and "order by" not in lower:
        found.append("unordered")
    if "order by" in lower and len(outcome.rows) > 1 and _sorted_as_text(outcome):
        found.append("text_order")
    return found


def _sorted_as_text(outcome: Outcome) -> bool:
    """Whether a column of numbers kept as text runs in text order but not in numeric order."""
    for column in zip(*outcome.rows, strict=True):
        if all(isinstance(c, str) and _NUMBER.match(c) for c in column):
            numbers = [float(c) for c in column]
            text = list(column)
            up, down = text == sorted(text), text == sorted(text, reverse=True)
            if (up and numbers != sorted(numbers)) or (down and numbers != sorted(numbers, reverse=True)):
                return True
    return False


def _missing(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def penalty(lints: Sequence[str], config: LintConfig | None = None) -> float:
    """Return the sum of a result's penalties."""
    config = config or LintConfig()
    return config.scale * sum(config.penalties.get(name, 0.0) for name in lints)

"""What the answer should look like, before anything has run, and how well a result fits.

Output-based score tuning of "From Words to Code" compares results with outputs predicted for the same task. The
prediction may come from anywhere (a language model, a person, a JSON file); built in is a heuristic on the question.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rerank_programs.results import Outcome

_WORDS = re.compile(r"[a-z0-9]+")
_COUNT = re.compile(r"\b(how many|(total )?number of|count( the)?)\b", re.I)
_EACH = re.compile(r"\b(each|every|per|different|respective|corresponding|group(ed)?)\b", re.I)
_SUPERLATIVE = re.compile(
    r"\b(most|least|fewest|highest|lowest|largest|smallest|biggest|youngest|oldest|longest|shortest|maximum|minimum|"
    r"earliest|latest|best|worst|first|last|top)\b",
    re.I,
)
_MANY = re.compile(r"^\s*(list|show all|return all|find all|give all)\b|\ball the\b|\b(names|ids|titles) of\b", re.I)


@dataclass(frozen=True, slots=True)
class Expectation:
    """A predicted output; None means no opinion.

    Parameters
    ----------
    n_columns
        Number of columns.
    columns
        Column names; compared as sets of words.
    rows
        ``0``, ``1`` or ``many``.
    numeric
        Whether the first cell is a number.
    """

    n_columns: int | None = None
    columns: tuple[str, ...] | None = None
    rows: str | None = None
    numeric: bool | None = None

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Expectation:
        """Read ``{"n_columns", "columns", "rows", "numeric"}``, each optional."""
        columns = value.get("columns")
        return cls(
            value.get("n_columns"),
            None if columns is None else tuple(map(str, columns)),
            value.get("rows"),
            value.get("numeric"),
        )


def guess(question: str) -> Expectation:
    """Predict an output's shape from the question's words; no opinion where they say nothing."""
    if not question:
        return Expectation()
    count, each = _COUNT.search(question), _EACH.search(question)
    if (
        count
        and not each
        and not _SUPERLATIVE.search(question)
        and re.match(r"\s*(how many|what is|count|find|return|show|give)", question, re.I)
    ):
        head = question[: count.start()].lower()
        if not re.search(r"\b(names?|ids?|titles?|and)\b", head):
            return Expectation(n_columns=1, rows="1", numeric=True)
    if _MANY.search(question) and not _SUPERLATIVE.search(question):
        return Expectation(rows="many")
    return Expectation()


def agreement(outcome: Outcome, expected: Expectation) -> float:
    """Return how well a result fits, the mean of the opinions held, in [-1, 0]: 0 is a perfect fit or no opinion."""
    if not outcome.ok:
        return 0.0
    marks: list[float] = []
    if expected.n_columns is not None:
        marks.append(float(len(outcome.columns) == expected.n_columns))
    if expected.columns is not None:
        marks.append(_f1(_words(outcome.columns), _words(expected.columns)))
    if expected.rows is not None:
        n = len(outcome.rows)
        marks.append(float(expected.rows == ("many" if n > 1 else str(n))))
    if expected.numeric is not None:
        cell = outcome.rows[0][0] if outcome.rows and outcome.columns else None
        marks.append(float((isinstance(cell, int | float) and not isinstance(cell, bool)) == expected.numeric))
    return sum(marks) / len(marks) - 1.0 if marks else 0.0


def _words(names: tuple[str, ...]) -> set[str]:
    return {w for name in names for w in _WORDS.findall(name.lower())}


def _f1(a: set[str], b: set[str]) -> float:
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0

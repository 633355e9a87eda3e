"""Magneto's cell cleaning and column types (magneto-python 0.2.0; PVLDB 18(8):2681-2694, section 4).

Everything works on distinct values with counts. Cleaning maps several raw values to one clean value, so counts are
added up; the order of first appearance is kept, which Magneto's sampling depends on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_schema.tables import Column

NULLS = frozenset(
    {
        "not allowed to collect", "not reported", "unknown", "not otherwise specified", "nos", "not applicable", "na",
        "not available", "n/a", "none", "null", "", " ", "missing", "unspecified", "undetermined", "not collected",
        "not recorded", "not provided", "no data", "unavailable", "empty", "undefined", "not defined",
        "other, specify", "other", "indeterminate", "staging incomplete",
        "exposure to secondhand smoke history not available", "exposure to secondhand smoke history not available.",
        "no pathologic evidence of distant metastasis", "medical record does not state",
        "medical record does not state.", "patient not interviewed", "patient not interviewed.",
    }
)  # fmt: skip
"""Texts that Magneto takes for "no value", lower case."""

_CAMEL = re.compile(r"([a-z])([A-Z])")
_OTHER = re.compile(r"[^a-zA-Z0-9\s]")
SHORT = 100
"""Columns share values: what was made of texts up to so many characters is remembered, longer ones would fill memory."""

KEY_AFFIXES = (
    "id", "identifier", "key", "uuid", "gid", "sid", "token", "serial", "code", "hash", "primary_key", "foreign_key",
    "access_key", "unique_id", "slug", "auth_token", "apikey", "object_id", "record_id",
)  # fmt: skip

BINARY_WORDS = frozenset(
    {
        "yes", "no", "true", "false", "t", "f", "y", "n", "0", "1", "0.", "1.", "0.0", "1.0", "0.00", "1.00",
        "present", "absent", "positive", "negative", "detected", "not detected", "normal", "abnormal", "enabled",
        "disabled", "active", "inactive", "open", "closed", "success", "failure", "on", "off", "approved", "rejected",
        "included", "excluded", "passed", "failed", "accepted", "denied", "smoker", "non-smoker", "not identified",
        "no or minimal exposure to secondhand smoke", "no or minimal exposure to secondhand smoke.",
    }
)  # fmt: skip
"""Words of which two make a column ``binary``."""


@dataclass(frozen=True, eq=False)
class Cleaned:
    """A cleaned column: distinct values in order of first appearance, their counts, and Magneto's type."""

    values: tuple[Any, ...]
    counts: NDArray[np.int64]
    type: str

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The values as text."""
        return tuple(map(str, self.values))

    @cached_property
    def text_set(self) -> frozenset[str]:
        """The same to look up."""
        return frozenset(self.texts)


def clean_cell(value: Any) -> Any:
    """Return the cleaned value, or None where Magneto sees a missing one.

    Text: a blank between a lower-case and an upper-case letter, then lower case, then every character that is neither
    an ASCII letter, a digit nor white space becomes a blank. Other values stay as they are.
    """
    if isinstance(value, str):
        return _clean_short(value) if len(value) <= SHORT else _clean_text(value)
    return None if str(value).lower() in NULLS else value


def _clean_text(value: str) -> str | None:
    if value.lower() in NULLS:
        return None
    return _OTHER.sub(" ", _CAMEL.sub(r"\1 \2", value).strip().lower()) or None


_clean_short = lru_cache(maxsize=1 << 14)(_clean_text)


def clean(column: Column) -> Cleaned:
    """Clean a column's values and tell its type."""
    totals: dict[Any, int] = {}
    for value, count in zip(column.values, column.counts.tolist(), strict=True):
        cleaned = clean_cell(value)
        if cleaned is not None:
            totals[cleaned] = totals.get(cleaned, 0) + count
    values = tuple(totals)
    counts = np.fromiter(totals.values(), dtype=np.int64, count=len(totals))
    return Cleaned(values, counts, column_type(column.name, values, column.n_rows, _dtype(column, values)))


def column_type(name: str, values: tuple[Any, ...], n_rows: int, dtype: str) -> str:
    """Tell a column's type by Magneto's rules, the first that fires.

    One value that parses as a number makes a column ``numerical``; that is the original's behaviour. Where the
    original divides by zero (no rows) the answer is ``unknown``.

    Parameters
    ----------
    dtype
        ``int``, ``float``, ``bool`` or ``text``.
    """
    lower = name.lower()
    if any(_is_number(v) for v in values):
        return "numerical"
    if "gene" in lower:
        return "gene"
    if "date" in lower:
        return "date"
    if n_rows and len(values) / n_rows > 0.8 and dtype != "float":
        return "key"
    if not values:
        return "unknown"
    if lower.startswith(KEY_AFFIXES) or lower.endswith(KEY_AFFIXES):
        return "key"
    if len(values) == 2 and all(str(v).lower() in BINARY_WORDS for v in values):
        return "binary"
    return "categorical"


def _dtype(column: Column, values: tuple[Any, ...]) -> str:
    return "float" if column.storage == "float" or not values else column.storage


_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*\Z|\s*[+-]?(inf|infinity)\s*\Z", re.IGNORECASE)


def _is_number(value: Any) -> bool:
    """Whether pandas' ``to_numeric`` would read the value as a number that is not NaN."""
    if isinstance(value, str):
        return _NUMBER.match(value) is not None
    return isinstance(value, (bool, int, float, np.number)) and value == value

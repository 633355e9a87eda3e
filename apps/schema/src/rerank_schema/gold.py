"""Gold correspondences in the layouts that are about: plain CSV, table-aware CSV, Valentine JSON, SSSOM, MIMIC-OMOP."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError

Name = tuple[str, str]
"""Table and column; the table is empty where the gold names columns only."""


@dataclass(frozen=True)
class GoldPairs:
    """True correspondences of one table pair.

    Parameters
    ----------
    pairs
        Without repetition, in file order.
    unmatched
        Source columns that the gold says have no match.
    """

    pairs: tuple[tuple[Name, Name], ...]
    unmatched: tuple[Name, ...] = ()

    @property
    def has_tables(self) -> bool:
        """Whether the pairs name tables."""
        return any(s[0] or t[0] for s, t in self.pairs)

    def under(self, source: Sequence[str], target: Sequence[str]) -> GoldPairs:
        """Return the gold under the tables' names of today, where a side is one table and the gold names one too.

        A mapping exported for ``a.csv`` names the table ``a``; beside a file ``source.csv`` it would match nothing.
        """
        left = _renamed({s[0] for s, _ in self.pairs} | {s[0] for s in self.unmatched}, source)
        right = _renamed({t[0] for _, t in self.pairs}, target)
        pairs = tuple(((left.get(s[0], s[0]), s[1]), (right.get(t[0], t[0]), t[1])) for s, t in self.pairs)
        return GoldPairs(pairs, tuple((left.get(table, table), column) for table, column in self.unmatched))


def _renamed(named: Set[str], tables: Sequence[str]) -> dict[str, str]:
    """Return what a side's only table is called now, by its name in the gold; empty where nothing is to be renamed."""
    return dict(zip(named, tables, strict=True)) if len(tables) == len(named) == 1 and "" not in named else {}


_LAYOUTS: tuple[tuple[str, str, str, str], ...] = (
    ("source_table", "source_column", "target_table", "target_column"),
    ("src_ent", "src_att", "tgt_ent", "tgt_att"),
    ("", "source", "", "target"),
    ("", "left", "", "right"),
    ("", "source_column", "", "target_column"),
    ("", "subject_id", "", "object_id"),
)


_NONE = {"na", "n/a", "none", "null"}


def read_gold(path: Path, *, trim: bool = False) -> GoldPairs:
    """Read gold pairs.

    CSV and TSV with the columns ``source,target``, ``left,right`` (elements ``table-column``),
    ``source_table,source_column,target_table,target_column``, ``SRC_ENT,SRC_ATT,TGT_ENT,TGT_ATT`` or SSSOM's
    ``subject_id,object_id``; JSON as Valentine writes it (``matches``), or a list of such rows.

    Parameters
    ----------
    trim
        Take blanks around names away. By default names are compared as they stand, as Valentine does: published
        figures of gold files that hold such blanks were made so.

    Raises
    ------
    InputError
        When the layout is none of these or there is no pair.
    """
    from rerank_core.io import open_text

    with open_text(path) as stream:
        text = stream.read()
    rows = _json_rows(text, path) if text.lstrip("\ufeff \n\r\t")[:1] in ("{", "[") else _csv_rows(text, path)
    pairs: dict[tuple[Name, Name], None] = {}
    unmatched: dict[Name, None] = {}
    for number, row in rows:
        source, target = _names(row, path, number, trim)
        if not source[1]:
            continue
        if not _is_none(target):
            pairs.setdefault((source, target))
        else:
            unmatched.setdefault(source)
    if not pairs and not unmatched:
        raise InputError("no correspondence in it", path)
    matched = {s for s, _ in pairs}
    return GoldPairs(tuple(pairs), tuple(s for s in unmatched if s not in matched))


def _is_none(target: Name) -> bool:
    """Whether a gold target says "no match": empty, or ``NA`` for both table and column (the MIMIC-OMOP mapping)."""
    return not target[1] or (target[0].lower() in _NONE and target[1].lower() in _NONE)


def _csv_rows(text: str, path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    lines = [line for line in text.lstrip("\ufeff").splitlines() if not line.startswith("#")]
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    return [
        (n, {str(k).strip().lower(): v for k, v in row.items()})
        for n, row in enumerate(csv.DictReader(lines, delimiter=delimiter), start=2)
    ]


def _json_rows(text: str, path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    try:
        data = json.loads(text.lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", path, error.lineno) from error
    rows = data.get("matches", []) if isinstance(data, dict) else data
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise InputError("expected a list of matches", path)
    # Valentine repeats the tables of its one pair in every match; columns say it all.
    keep = ("source_column", "target_column") if isinstance(data, dict) else None
    return [(n, {k: v for k, v in row.items() if keep is None or k in keep}) for n, row in enumerate(rows, start=1)]


def _names(row: Mapping[str, Any], path: Path, number: int, trim: bool) -> tuple[Name, Name]:
    for layout in _LAYOUTS:
        if all(not name or name in row for name in layout):
            st, sc, tt, tc = (str(row.get(name) or "") if name else "" for name in layout)
            if trim or not tc.strip():
                st, sc, tt, tc = st.strip(), sc.strip(), tt.strip(), tc.strip()
            if layout[1] == "left":
                st, sc = split_element(sc)
                tt, tc = split_element(tc)
            return (st, sc), (tt, tc)
    known = "; ".join(",".join(n for n in layout if n) for layout in _LAYOUTS)
    raise InputError(f"its columns are none of the known layouts: {known}", path, number)


def split_element(element: str) -> Name:
    """Split ``table-column`` at the first hyphen (the OMAP layout)."""
    table, dash, column = element.partition("-")
    return (table, column) if dash else ("", element)

"""A reviewed mapping as CSV, JSON and SQL views."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from rerank_schema.gold import Name

Mapping = Sequence[tuple[Name, Name]]
HEADER = ("source_table", "source_column", "target_table", "target_column")


def to_csv(mapping: Mapping) -> str:
    """Return CSV that `eval --gold` and `fit` read as gold."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([*s, *t] for s, t in mapping)
    return out.getvalue()


def to_json(mapping: Mapping) -> str:
    """Return a JSON list of objects."""
    return (
        json.dumps([dict(zip(HEADER, (*s, *t), strict=True)) for s, t in mapping], ensure_ascii=False, indent=1) + "\n"
    )


def to_sql(mapping: Mapping) -> str:
    """Return one view for every source and target table that are mapped: target names over source columns.

    A target column that several source columns map to gets the first under its name, the others numbered, so that the
    statement stays valid and nothing is lost.
    """
    views: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for (source_table, source), (target_table, target) in mapping:
        views.setdefault((source_table or "source", target_table or "target"), []).append((source, target))
    return "\n".join(_view(tables, columns) for tables, columns in views.items())


def _view(tables: tuple[str, str], columns: Sequence[tuple[str, str]]) -> str:
    used: set[str] = set()
    lines = []
    for source, target in columns:
        name, number = target, 1
        while name.lower() in used:
            number += 1
            name = f"{target}_{number}"
        used.add(name.lower())
        lines.append(f"  {quoted(source)} AS {quoted(name)}")
    view = quoted(f"{tables[1]}_from_{tables[0]}")
    return f"CREATE VIEW {view} AS\nSELECT\n" + ",\n".join(lines) + f"\nFROM {quoted(tables[0])};\n"


def quoted(identifier: str) -> str:
    """Return an SQL identifier in double quotes."""
    return '"' + identifier.replace('"', '""').replace("\0", "") + '"'

"""Schemas without data: each row of a file describes a column.

Recognised by their headers: the OMAP layout (``element, table_description, column_description``), the MIMIC/OMOP layout
(``TableName, TableDesc, ColumnName, ColumnDesc, ColumnType, IsPK, IsFK``), and anything that has a column for the
column's name and perhaps others for table, type, description and keys under a usual name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError
from rerank_schema.gold import split_element
from rerank_schema.readers.text import decode, read_bytes, table_name, to_frame
from rerank_schema.tables import Column, Schema

_FIELDS: dict[str, tuple[str, ...]] = {
    "element": ("element",),
    "table": ("tablename", "table", "entity", "tblname", "srcent", "tgtent"),
    "name": (
        "columnname", "column", "attribute", "attributename", "field", "fieldname", "name", "variable", "variablename",
    ),
    "table_description": ("tabledesc", "tabledescription", "entitydescription"),
    "description": (
        "columndesc", "columndescription", "description", "desc", "comment", "definition", "attributedescription",
        "label",
    ),
    "type": ("columntype", "type", "datatype", "sqltype"),
    "primary": ("ispk", "primarykey", "pk"),
    "foreign": ("isfk", "foreignkey", "fk"),
}  # fmt: skip
_TRUE = {"yes", "y", "true", "1", "x", "pk", "fk"}


def read_description(path: Path) -> Schema:
    """Read a file whose rows describe columns (CSV, TSV or JSON).

    Raises
    ------
    InputError
        When no column of the file names columns.
    """
    if ".json" in path.name.lower():
        return _from_json(path)
    data, _ = read_bytes(path, 1 << 28)
    text, _ = decode(data)
    frame, _ = to_frame(text, path, as_text=True)
    fields = {key: found for key, names in _FIELDS.items() if (found := _find(frame.columns, names)) is not None}
    if "element" not in fields and "name" not in fields:
        raise InputError(f"--schema-only expects a row a column, with a header such as {_FIELDS['name'][0]!r}", path, 1)
    rows = frame.to_dict("records")
    columns = [_column({k: str(row[v]).strip() for k, v in fields.items()}, table_name(path)) for row in rows]
    return Schema(tuple(c for c in columns if c.name), str(path))


def _find(names: Any, wanted: tuple[str, ...]) -> str | None:
    plain = {re.sub(r"[^a-z]", "", str(n).lower()): n for n in reversed(list(names))}
    return next((plain[w] for w in wanted if w in plain), None)


def _column(row: Mapping[str, str], default_table: str) -> Column:
    if "element" in row:
        table, name = split_element(row["element"])
    else:
        table, name = row.get("table") or default_table, row["name"]
    key = " ".join(k for k in ("primary", "foreign") if row.get(k, "").lower() in _TRUE)
    return Column(
        table,
        name,
        description=row.get("description", ""),
        table_description=row.get("table_description", ""),
        declared_type=row.get("type", ""),
        key=key,
    )


def _from_json(path: Path) -> Schema:
    descriptions = read_descriptions(path)
    columns = []
    for name, text in descriptions.items():
        table, dot, column = name.rpartition(".")
        columns.append(Column(table if dot else table_name(path), column if dot else name, description=text))
    return Schema(tuple(columns), str(path))


def read_descriptions(path: Path) -> dict[str, str]:
    """Read column descriptions from JSON.

    ``{column: text}``, ``{column: {"column_description" or "description": text}}``, or a list of objects.

    Keys are column names or ``table.column``. Columns with an empty description are left out only by who uses them.

    Raises
    ------
    InputError
        When the file is no JSON object or list of such entries.
    """
    import json

    data, _ = read_bytes(path, 1 << 28)
    text, _ = decode(data)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", path, error.lineno) from error
    if isinstance(value, list) and all(isinstance(v, dict) for v in value):
        value = {_first(v, ("column", "column_name", "name", "attribute")): v for v in value}
    if not isinstance(value, dict):
        raise InputError("expected an object from column names to descriptions", path)
    out = {}
    for name, entry in value.items():
        if isinstance(entry, dict):
            out[str(name)] = _first(entry, ("column_description", "description", "desc", "comment"))
        elif entry is None or isinstance(entry, str):
            out[str(name)] = entry or ""
        else:
            raise InputError(f"the description of {name!r} is neither text nor an object", path)
    return out


def _first(entry: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return next((str(entry[k]) for k in keys if entry.get(k)), "")

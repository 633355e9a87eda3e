"""Parquet and Excel files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rerank_core.errors import InputError
from rerank_schema.readers.text import table_name
from rerank_schema.tables import Column, Schema, from_frame

if TYPE_CHECKING:
    from rerank_schema.readers.limits import Limits


def read_parquet(path: Path, limits: Limits) -> Schema:
    """Read a Parquet file; of a long one, row groups spread over it up to the row limit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        groups, notes = _groups(file.metadata, limits.rows)
        table = file.read_row_groups(groups) if groups else file.schema_arrow.empty_table()
    except pa.ArrowInvalid as error:
        raise InputError(f"not a Parquet file: {error}", path) from error
    rows = min(table.num_rows, limits.rows)
    columns: list[Column] = []
    for i, field in enumerate(table.schema):
        # One column at a time: cells of one are held as Python objects, not those of all.
        frame = table.select([i]).slice(0, rows).to_pandas() if table.schema.names.count(field.name) == 1 else None
        series = frame if frame is not None else table.column(i).slice(0, rows).to_pandas().to_frame(field.name)
        described = (field.metadata or {}).get(b"description", b"").decode("utf-8", "replace")
        columns += [_with(c, described, str(field.type)) for c in from_frame(series, table_name(path))]
    return Schema(tuple(columns), str(path), tuple(f"{path.name}: {n}" for n in notes))


def _groups(metadata: object, rows: int) -> tuple[list[int], list[str]]:
    n = metadata.num_row_groups  # type: ignore[attr-defined]
    total = metadata.num_rows  # type: ignore[attr-defined]
    if total <= rows or n <= 1:
        return list(range(n)), []
    keep = max(1, round(n * rows / total))
    return sorted({i * n // keep for i in range(keep)}), [f"{total} rows, {keep} of {n} row groups sampled"]


def _with(column: Column, description: str, kind: str) -> Column:
    from dataclasses import replace

    return replace(column, description=description, declared_type=kind)


def read_excel(path: Path, limits: Limits) -> Schema:
    """Read an Excel workbook; every sheet with a cell in it is a table."""
    import zipfile

    import pandas as pd

    try:
        sheets = pd.read_excel(path, sheet_name=None, nrows=limits.rows, engine="openpyxl")
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"not an Excel workbook: {error}", path) from error
    filled = {name: frame for name, frame in sheets.items() if len(frame.columns)}
    name_of = (lambda sheet: table_name(path)) if len(filled) == 1 else str
    columns = [c for sheet, frame in filled.items() for c in from_frame(frame, name_of(sheet))]
    return Schema(tuple(columns), str(path))

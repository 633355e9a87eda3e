"""One entry for every kind of source: a file, a folder of tables or a database URL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rerank_core.errors import InputError
from rerank_schema.tables import Column, Schema


@dataclass(frozen=True)
class Limits:
    """How much of a source is held in memory.

    Parameters
    ----------
    bytes
        Text files larger than this are sampled down to it: the head and blocks spread over the file.
    rows
        Rows taken of a database table or a Parquet file.
    """

    bytes: int = 32 << 20
    rows: int = 200_000


TEXT = (".csv", ".tsv", ".txt", ".psv")
JSON = (".json", ".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
EXCEL = (".xlsx", ".xlsm")
SQLITE = (".sqlite", ".sqlite3", ".db", ".db3")
DUCKDB = (".duckdb", ".ddb")
SUFFIXES = (*TEXT, *JSON, *PARQUET, *EXCEL, *SQLITE, *DUCKDB)


def read_schema(source: str | Path, *, limits: Limits = Limits(), schema_only: bool = False) -> Schema:
    """Read a table set.

    Parameters
    ----------
    source
        A file (CSV, TSV, JSON, JSONL, Parquet, Excel, SQLite, DuckDB; text also ``.gz``), a folder of such files, or
        an SQLAlchemy URL (``postgresql://...``; ``duckdb:///file`` works as well).
    schema_only
        Rows describe columns (name, type, description, keys) instead of being data.

    Raises
    ------
    InputError
        When the source does not exist, cannot be read, or holds no column.
    """
    text = str(source)
    if "://" in text:
        from rerank_schema.readers.databases import read_url

        return _checked(read_url(text, limits), text)
    path = Path(source)
    if not path.exists():
        raise InputError("does not exist", path)
    if path.is_dir():
        return _checked(_read_folder(path, limits, schema_only), text)
    return _checked(_read_file(path, limits, schema_only), text)


def _checked(schema: Schema, source: str) -> Schema:
    if not schema.columns:
        raise InputError("holds no column", source)
    return schema


def bare(path: Path) -> Path:
    """Return the path without ``.gz``."""
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def _read_folder(folder: Path, limits: Limits, schema_only: bool) -> Schema:
    files = sorted(p for p in folder.iterdir() if p.is_file() and bare(p).suffix.lower() in SUFFIXES)
    files = [p for p in files if not p.name.startswith(".")]
    if not files:
        raise InputError(f"no table in it; known: {', '.join(SUFFIXES)}", folder)
    columns: list[Column] = []
    notes: list[str] = []
    for path in files:
        part = _read_file(path, limits, schema_only)
        columns += part.columns
        notes += part.notes
    return Schema(tuple(columns), str(folder), tuple(notes))


def _read_file(path: Path, limits: Limits, schema_only: bool) -> Schema:
    suffix = bare(path).suffix.lower()
    if schema_only:
        from rerank_schema.readers.layouts import read_description

        return read_description(path)
    readers: list[tuple[tuple[str, ...], Callable[[Path, Limits], Schema]]] = []
    from rerank_schema.readers import binary, databases, text

    readers = [
        (TEXT, text.read_delimited),
        (JSON, text.read_json_table),
        (PARQUET, binary.read_parquet),
        (EXCEL, binary.read_excel),
        (SQLITE, databases.read_sqlite),
        (DUCKDB, databases.read_duckdb),
    ]
    for suffixes, reader in readers:
        if suffix in suffixes:
            with _io_errors(path):
                return reader(path, limits)
    raise InputError(f"unknown kind of file; known: {', '.join(SUFFIXES)}", path)


@contextlib.contextmanager
def _io_errors(path: Path) -> Iterator[None]:
    import gzip
    import zlib

    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"damaged gzip file: {error}", path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from error

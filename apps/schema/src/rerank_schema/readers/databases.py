"""Databases: SQLite and DuckDB files and SQLAlchemy URLs; tables, keys, comments and a sample of the rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_core.errors import InputError, MissingExtra
from rerank_schema.tables import Column, Schema, from_frame

if TYPE_CHECKING:
    from rerank_schema.readers.limits import Limits

_LOCK_SECONDS = 5


def read_sqlite(path: Path, limits: Limits) -> Schema:
    """Read a SQLite file without ever writing to it."""
    return read_url(f"sqlite:///file:{path.resolve()}?mode=ro&uri=true", limits, name=str(path))


def read_url(url: str, limits: Limits, *, name: str | None = None) -> Schema:
    """Read every table and view of a database.

    Raises
    ------
    InputError
        When the URL is not understood, the database cannot be reached, or it is locked.
    MissingExtra
        When the database's driver is not installed.
    """
    if url.startswith("duckdb:"):
        return read_duckdb(
            Path(url.split("://", 1)[1].lstrip("/") if ":////" not in url else "/" + url.split(":////", 1)[1]), limits
        )
    import sqlalchemy as sa

    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise InputError("not a database URL; expected like postgresql://user@host/database", url) from error
    shown = name or parsed.render_as_string(hide_password=True)
    options = {"connect_args": {"timeout": _LOCK_SECONDS}} if parsed.get_backend_name() == "sqlite" else {}
    if (
        parsed.get_backend_name() == "sqlite"
        and name is None
        and parsed.database
        and not Path(parsed.database).exists()
    ):
        raise InputError("does not exist", parsed.database)
    try:
        engine = sa.create_engine(parsed, **options)
    except sa.exc.NoSuchModuleError as error:
        raise InputError(f"unknown kind of database: {parsed.drivername}", shown) from error
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or parsed.drivername, error.name or parsed.drivername, shown) from error
    try:
        with engine.connect() as connection:
            return Schema(tuple(_reflect(connection, limits)), shown)
    except sa.exc.SQLAlchemyError as error:
        raise InputError(f"cannot be read: {_first_line(error)}", shown) from error
    finally:
        engine.dispose()


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]


def _reflect(connection: Any, limits: Limits) -> Iterable[Column]:
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    for table in [*inspector.get_table_names(), *inspector.get_view_names()]:
        primary, foreign = _keys(inspector, table)
        details = {c["name"]: c for c in inspector.get_columns(table)}
        for column in from_frame(_rows(connection, table, limits.rows), table):
            known = details.get(column.name, {})
            key = " ".join(k for k, names in (("primary", primary), ("foreign", foreign)) if column.name in names)
            yield replace(
                column,
                declared_type=str(known["type"]) if "type" in known else "",
                description=str(known.get("comment") or ""),
                key=key,
            )


def _keys(inspector: Any, table: str) -> tuple[set[str], set[str]]:
    primary = set(inspector.get_pk_constraint(table).get("constrained_columns") or ())
    foreign = {c for key in inspector.get_foreign_keys(table) for c in key["constrained_columns"]}
    return primary, foreign


def _rows(connection: Any, table: str, rows: int) -> Any:
    import pandas as pd
    import sqlalchemy as sa

    quoted = connection.dialect.identifier_preparer.quote(table)
    query = f"SELECT * FROM {quoted}"
    count = connection.execute(sa.text(f"SELECT count(*) FROM {quoted}")).scalar_one()
    if count > rows:
        query += f" WHERE rowid % {-(-count // rows)} = 0" if connection.dialect.name == "sqlite" else ""
        query += f" LIMIT {rows}"
    result = connection.execute(sa.text(query))
    names = list(result.keys())
    frame = pd.DataFrame([tuple(r) for r in result], columns=range(len(names)), dtype=object).infer_objects()
    frame.columns = pd.Index(names)
    return frame


def read_duckdb(path: Path, limits: Limits) -> Schema:
    """Read a DuckDB file without ever writing to it."""
    import duckdb

    if not path.exists():
        raise InputError("does not exist", path)
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise InputError(f"cannot be read: {_first_line(error)}", path) from error
    try:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables ORDER BY table_schema, table_name"
        ).fetchall()
        columns = [c for schema, table in tables for c in _duckdb_table(connection, schema, table, limits.rows)]
    except duckdb.Error as error:
        raise InputError(f"cannot be read: {_first_line(error)}", path) from error
    finally:
        connection.close()
    return Schema(tuple(columns), str(path))


def _duckdb_table(connection: Any, schema: str, table: str, rows: int) -> list[Column]:
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (schema, table))
    frame = connection.execute(f"SELECT * FROM {quoted} USING SAMPLE reservoir({rows} ROWS) REPEATABLE (0)").df()
    details = connection.execute(
        "SELECT column_name, data_type, comment FROM duckdb_columns() WHERE schema_name = ? AND table_name = ?",
        [schema, table],
    ).fetchall()
    keys = connection.execute(
        "SELECT constraint_type, constraint_column_names FROM duckdb_constraints() "
        "WHERE schema_name = ? AND table_name = ? AND constraint_type IN ('PRIMARY KEY', 'FOREIGN KEY')",
        [schema, table],
    ).fetchall()
    known = {name: (kind, comment) for name, kind, comment in details}
    out = []
    for column in from_frame(frame, table):
        kind, comment = known.get(column.name, ("", ""))
        key = " ".join(sorted({k.split()[0].lower() for k, names in keys if column.name in names}, reverse=True))
        out.append(replace(column, declared_type=kind, description=comment or "", key=key))
    return out

"""Runs SQL against DuckDB files and folders of CSV, Parquet and JSON files, read only.

Data is opened or loaded first; then external access, extension installs and the configuration are locked for good, and
only single SELECT statements run. DuckDB is never asked to attach SQLite files: it would try to download an extension.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import re
import sys
import threading
import time
from typing import Any

from rerank_programs.results import Outcome, Verdict, encode, failed
from rerank_programs.sandbox import confine
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.protocol import Closed, read_frame, write_frame

# Only looked for, to flag a result; a false alarm keeps two results from voting for each other, no more.
_CHANCE = re.compile(r"\b(random|uuid|now|today|current_(date|time|timestamp)|get_current_\w+|setseed)\b", re.I)
_NAME = re.compile(r"\W+")
_READERS = {"csv": "read_csv", "tsv": "read_csv", "parquet": "read_parquet", "json": "read_json", "jsonl": "read_json"}


def connect(path: str, limits: Limits) -> Any:
    """Open or load a data source and lock everything else."""
    import duckdb

    config: dict[str, Any] = {
        "threads": "1",
        "memory_limit": f"{limits.memory_mib}MiB",
        "temp_directory": "",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
    }
    folder = os.path.isdir(path)  # noqa: PTH112
    if folder:
        db = duckdb.connect(":memory:", config=config)
        for file in sorted(os.listdir(path)):  # noqa: PTH208
            stem, _, suffix = file.rpartition(".")
            if suffix.lower() in _READERS:
                table = _NAME.sub("_", stem)
                source = os.path.join(path, file).replace("'", "''")  # noqa: PTH118
                db.execute(f"CREATE TABLE \"{table}\" AS SELECT * FROM {_READERS[suffix.lower()]}('{source}')")
    else:
        db = duckdb.connect(path, read_only=True, config=config)
    db.execute("SET TimeZone = 'UTC'") if _has_icu(db) else None
    db.execute("SET enable_external_access = false")
    db.execute("SET lock_configuration = true")
    return db


def _has_icu(db: Any) -> bool:
    row = db.execute("SELECT count(*) FROM duckdb_extensions() WHERE extension_name = 'icu' AND loaded").fetchone()
    return bool(row and row[0])


def run(db: Any, sql: str, limits: Limits) -> Outcome:
    """Run one query; never raises for what a query can do."""
    import duckdb

    start = time.monotonic()
    late = threading.Event()

    def stop() -> None:
        late.set()
        db.interrupt()

    try:
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1:
            return failed(Verdict.DENIED if statements else Verdict.ERROR, f"{len(statements)} statements, not one")
        if statements[0].type != duckdb.StatementType.SELECT:
            kind = str(statements[0].type).rpartition(".")[2].lower()
            return failed(Verdict.DENIED, f"{kind}: not allowed")
        timer = threading.Timer(limits.seconds, stop)
        timer.daemon = True
        timer.start()
        try:
            return _fetch(db.execute(statements[0]), sql, limits, start)
        finally:
            timer.cancel()
    except duckdb.InterruptException:
        return failed(Verdict.TIMEOUT, f"stopped after {limits.seconds:g} s", time.monotonic() - start)
    except (duckdb.OutOfMemoryException, MemoryError):
        return failed(Verdict.MEMORY, "out of memory", time.monotonic() - start)
    except (duckdb.Error, ValueError, OverflowError, RuntimeError) as error:
        if late.is_set():
            return failed(Verdict.TIMEOUT, f"stopped after {limits.seconds:g} s", time.monotonic() - start)
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        denied = isinstance(error, duckdb.PermissionException) or "disabled" in text or "locked" in text
        return failed(Verdict.DENIED if denied else Verdict.ERROR, text, time.monotonic() - start)


def _fetch(cursor: Any, sql: str, limits: Limits, start: float) -> Outcome:
    columns = tuple(d[0] for d in cursor.description or ())
    most = limits.cells // max(len(columns), 1)
    rows: list[tuple[Any, ...]] = []
    while chunk := cursor.fetchmany(2048):
        rows += [tuple(map(_plain, row)) for row in chunk]
        if len(rows) > most:
            return failed(Verdict.OUTPUT_TOO_LARGE, f"more than {limits.cells} cells", time.monotonic() - start)
        if time.monotonic() - start > limits.seconds:
            return failed(Verdict.TIMEOUT, f"stopped after {limits.seconds:g} s", time.monotonic() - start)
    flags = frozenset({"nondeterministic"} if _CHANCE.search(sql) else ())
    return Outcome(Verdict.OK, "table", columns, tuple(rows), flags=flags, seconds=time.monotonic() - start)


def _plain(cell: Any) -> Any:
    if cell is None or isinstance(cell, bool | int | float | str | bytes):
        return cell
    if isinstance(cell, decimal.Decimal):
        return int(cell) if cell == cell.to_integral_value() and cell.is_finite() else float(cell)
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    if isinstance(cell, datetime.timedelta):
        return cell.total_seconds()
    if isinstance(cell, list | tuple):
        return [_plain(c) for c in cell]
    if isinstance(cell, dict):
        return {str(k): _plain(v) for k, v in cell.items()}
    return str(cell)


def main() -> None:
    """Serve jobs from stdin until it closes. Arguments: limits, layers, readable paths (JSON)."""
    limits = Limits.parse(sys.argv[1])
    layers, readable = json.loads(sys.argv[2]), json.loads(sys.argv[3])
    confine.die_with_parent()
    import duckdb

    duckdb.connect(":memory:").execute("SELECT 1").fetchall()
    confine.no_new_privileges()
    confine.drop_capabilities()
    confine.limit_resources(
        # DuckDB keeps its own memory limit; this one is the wall behind it.
        memory=(limits.memory_mib + 1024) << 20,
        cpu_seconds=1 << 30,
        file_bytes=0,
        base=confine.memory_in_use(),
    )
    if layers.get("landlock"):
        # DuckDB looks up its own control group when it opens a database.
        confine.Landlock([*readable, "/proc/self", "/proc/meminfo", "/sys/fs/cgroup"]).apply()
    if layers.get("seccomp"):
        confine.seccomp(final=True)
    open_: dict[str, Any] = {}
    write_frame(1, b"ready")
    while True:
        try:
            job = json.loads(read_frame(0))
            write_frame(1, _serve(job, limits, open_))
        except Closed:
            return


def _serve(job: dict[str, Any], limits: Limits, open_: dict[str, Any]) -> bytes:
    path = job["database"]
    if path not in open_:
        try:
            open_[path] = connect(path, limits)
        except Exception as error:  # noqa: BLE001 - a file that cannot be opened is the outcome of all its queries
            return encode(failed(Verdict.ERROR, f"cannot open the data: {error}"))
    try:
        data = encode(run(open_[path], job["program"], limits))
    except MemoryError:
        return encode(failed(Verdict.MEMORY, "out of memory"))
    if len(data) > limits.result_bytes:
        return encode(failed(Verdict.OUTPUT_TOO_LARGE, f"result of {len(data)} bytes"))
    return data

"""Runs SQL against SQLite files, read only. One process, many queries; the pool kills it when a query overstays.

The wall here is SQLite's authorizer: only SELECT, READ, RECURSIVE and FUNCTION minus a deny list. ``mode=ro`` alone
is no wall: ATTACH creates files, VACUUM INTO writes them, and one ``printf('%.*c', 9e8, 'x')`` runs for seconds
inside a single opcode, where no progress handler can stop it. Landlock, seccomp and rlimits come on top where the
kernel has them.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from typing import Any
from urllib.parse import quote

from rerank_programs.results import Outcome, Verdict, encode, failed
from rerank_programs.sandbox import confine
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.protocol import Closed, read_frame, write_frame

DENIED_FUNCTIONS = frozenset(
    ["printf", "format", "zeroblob", "randomblob", "load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"]
)
RANDOM_FUNCTIONS = frozenset({"random"})
FROZEN_CLOCK = "2020-01-01 00:00:00"
"""What ``'now'`` means inside the sandbox, so that results can be compared and repeated."""

_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_CLOCK_FUNCTIONS = ("date", "time", "datetime", "julianday", "strftime")
_CLOCK_WORDS = {"current_date": "date", "current_time": "time", "current_timestamp": "datetime"}
_STEP = 1000  # virtual-machine steps between two looks at the clock


class Connection:
    """A guarded connection to one database file."""

    def __init__(self, path: str, limits: Limits) -> None:
        self.limits = limits
        self.used: set[str] = set()
        self.refused: str | None = None
        self.deadline = 0.0
        self.db = sqlite3.connect(
            f"file:{quote(path)}?mode=ro&immutable=1", uri=True, isolation_level=None, cached_statements=0
        )
        self.db.text_factory = lambda b: b.decode("utf-8", "ignore")
        self._clock = sqlite3.connect(":memory:", isolation_level=None)
        self.db.execute("PRAGMA trusted_schema=OFF")
        self.db.execute("PRAGMA temp_store=MEMORY")
        self.db.execute("PRAGMA cell_size_check=ON")
        for name, value in (
            (sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000),
            (sqlite3.SQLITE_LIMIT_SQL_LENGTH, limits.text_bytes),
            (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
            (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 200),
            (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 50),
            (sqlite3.SQLITE_LIMIT_VDBE_OP, 250_000),
            (sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
            (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
        ):
            self.db.setlimit(name, value)
        self._freeze_clock()
        self.db.set_authorizer(self._authorize)
        self.db.set_progress_handler(self._overdue, _STEP)

    def _freeze_clock(self) -> None:
        def frozen(name: str) -> Any:
            def call(*arguments: Any) -> Any:
                args = list(arguments)
                at = 1 if name == "strftime" else 0
                if len(args) <= at:
                    args.append(FROZEN_CLOCK)
                    self.used.add("clock")
                elif isinstance(args[at], str) and args[at].strip().lower() == "now":
                    args[at] = FROZEN_CLOCK
                    self.used.add("clock")
                marks = ",".join("?" * len(args))
                return self._clock.execute(f"SELECT {name}({marks})", args).fetchone()[0]

            return call

        for name in _CLOCK_FUNCTIONS:
            self.db.create_function(name, -1, frozen(name), deterministic=True)
        for word, name in _CLOCK_WORDS.items():
            self.db.create_function(word, 0, frozen(name), deterministic=True)

    def _authorize(self, action: int, one: str | None, two: str | None, *_: str | None) -> int:
        if action in _ALLOWED:
            return sqlite3.SQLITE_OK
        if action == sqlite3.SQLITE_FUNCTION:
            name = (two or "").lower()
            if name in RANDOM_FUNCTIONS:
                self.used.add("random")
            if name not in DENIED_FUNCTIONS:
                return sqlite3.SQLITE_OK
            self.refused = f"function {name}"
            return sqlite3.SQLITE_DENY
        self.refused = self.refused or _ACTIONS.get(action, f"action {action}")
        return sqlite3.SQLITE_DENY

    def _overdue(self) -> int:
        return time.monotonic() > self.deadline

    def run(self, sql: str) -> Outcome:
        """Run one query; never raises for what a query can do."""
        self.used, self.refused = set(), None
        start = time.monotonic()
        self.deadline = start + self.limits.seconds
        try:
            columns, rows, large = self._fetch(sql)
        except (sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError, ValueError) as error:
            return failed(*self._judge(error), time.monotonic() - start)
        seconds = time.monotonic() - start
        if large:
            return failed(Verdict.OUTPUT_TOO_LARGE, f"more than {self.limits.cells} cells", seconds)
        if columns is None:
            return failed(Verdict.ERROR, "no statement that gives a result", seconds)
        flags = frozenset({"nondeterministic"} if self.used else ())
        return Outcome(Verdict.OK, "table", columns, rows, flags=flags, seconds=seconds)

    def _fetch(self, sql: str) -> tuple[tuple[str, ...] | None, tuple[tuple[Any, ...], ...], bool]:
        cursor = self.db.execute(sql)
        try:
            if cursor.description is None:
                return None, (), False
            columns = tuple(d[0] for d in cursor.description)
            rows: list[tuple[Any, ...]] = []
            most = self.limits.cells // max(len(columns), 1)
            while chunk := cursor.fetchmany(1000):
                rows += chunk
                if len(rows) > most:
                    return columns, (), True
            return columns, tuple(rows), False
        finally:
            cursor.close()

    def _judge(self, error: Exception) -> tuple[Verdict, str]:
        text = str(error) or type(error).__name__
        if self.refused is not None:
            return Verdict.DENIED, f"{self.refused}: not allowed"
        if isinstance(error, MemoryError) or "out of memory" in text:
            return Verdict.MEMORY, "out of memory"
        if text == "interrupted":
            return Verdict.TIMEOUT, f"stopped after {self.limits.seconds:g} s"
        if "too big" in text:
            return Verdict.MEMORY, text
        return Verdict.ERROR, text


_ACTIONS = {
    getattr(sqlite3, f"SQLITE_{name}"): name.replace("_", " ").lower()
    for name in [
        "CREATE_INDEX",
        "CREATE_TABLE",
        "CREATE_TEMP_INDEX",
        "CREATE_TEMP_TABLE",
        "CREATE_TEMP_TRIGGER",
        "CREATE_TEMP_VIEW",
        "CREATE_TRIGGER",
        "CREATE_VIEW",
        "DELETE",
        "DROP_INDEX",
        "DROP_TABLE",
        "DROP_TEMP_INDEX",
        "DROP_TEMP_TABLE",
        "DROP_TEMP_TRIGGER",
        "DROP_TEMP_VIEW",
        "DROP_TRIGGER",
        "DROP_VIEW",
        "INSERT",
        "PRAGMA",
        "TRANSACTION",
        "UPDATE",
        "ATTACH",
        "DETACH",
        "ALTER_TABLE",
        "REINDEX",
        "ANALYZE",
        "CREATE_VTABLE",
        "DROP_VTABLE",
        "SAVEPOINT",
    ]
    if hasattr(sqlite3, f"SQLITE_{name}")
}


def run_job(job: dict[str, Any], limits: Limits, connections: dict[str, Connection]) -> bytes:
    """Run one job ``{"database", "program"}`` and return the encoded outcome."""
    path, sql = job["database"], job["program"]
    try:
        if path not in connections:
            if len(connections) >= 32:
                connections.pop(next(iter(connections))).db.close()
            connections[path] = Connection(path, limits)
    except sqlite3.Error as error:
        return encode(failed(Verdict.ERROR, f"cannot open the database: {error}"))
    try:
        data = encode(connections[path].run(sql))
    except MemoryError:
        return encode(failed(Verdict.MEMORY, "out of memory"))
    if len(data) > limits.result_bytes:
        return encode(failed(Verdict.OUTPUT_TOO_LARGE, f"result of {len(data)} bytes"))
    return data


def main() -> None:
    """Serve jobs from stdin until it closes. Arguments: limits, layers, readable paths (JSON)."""
    limits = Limits.parse(sys.argv[1])
    layers, readable = json.loads(sys.argv[2]), json.loads(sys.argv[3])
    confine.die_with_parent()
    confine.no_new_privileges()
    confine.drop_capabilities()
    sqlite3.connect(":memory:").execute("SELECT date('now')").fetchone()  # loads what is loaded lazily
    confine.limit_resources(
        memory=limits.memory_mib << 20, cpu_seconds=1 << 30, file_bytes=0, base=confine.memory_in_use()
    )
    if layers.get("landlock"):
        confine.Landlock(readable).apply()
    if layers.get("seccomp"):
        confine.seccomp(final=True)
    connections: dict[str, Connection] = {}
    write_frame(1, b"ready")
    while True:
        try:
            job = json.loads(read_frame(0))
            write_frame(1, run_job(job, limits, connections))
        except Closed:
            return

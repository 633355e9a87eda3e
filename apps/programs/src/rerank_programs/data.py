"""Questions and candidate programs, and the file formats they come in.

Read: this project's JSONL (``{"id", "question", "db_id", "candidates": [...]}``), CodeT's and HumanEval's, Jigsaw
pools, canonical ``{"id", "query", "candidates"}`` JSONL, and predictions to be merged (``predictions.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rerank_core.errors import InputError
from rerank_core.files import read_jsonl
from rerank_core.types import Candidate, Gold, Request

LANGUAGES = ("sql", "python", "pandas", "m")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a Python or pandas program is run on.

    Parameters
    ----------
    variables
        Name -> Python expression that builds the value (evaluated inside the sandbox).
    files
        Name -> data file (CSV, Parquet, JSON) read into a frame inside the sandbox.
    output
        Variable that holds the result; None takes the last expression.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """The query: what a person asked for, and on which data.

    Parameters
    ----------
    language
        ``sql``, ``python``, ``pandas`` or ``m``.
    database
        Id of the database, as the file of candidates names it.
    data
        Where the database is: a SQLite or DuckDB file, or a folder of CSV and Parquet files.
    inputs
        For Python and pandas: one run per element; the results together are the program's behaviour.
    prefix
        Text put before every candidate (a function's signature).
    calls
        Expressions whose values are the program's behaviour, where it only defines something.
    """

    question: str
    language: str = "sql"
    database: str | None = None
    data: str | None = None
    inputs: tuple[Inputs, ...] = ()
    prefix: str = ""
    calls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """A candidate.

    Parameters
    ----------
    logprob
        Mean token log-probability under the model that wrote it.
    count
        How often it was sampled.
    source, temperature
        Which system wrote it, at which temperature; both optional.
    """

    text: str
    logprob: float | None = None
    count: int = 1
    source: str | None = None
    temperature: float | None = None


class ProgramCodec:
    """JSON <-> tasks and programs; defaults are left out."""

    def encode_query(self, query: Task) -> Any:
        """Return the task's fields that differ from their defaults."""
        out = {k: v for k, v in asdict(query).items() if v not in (None, "", ())}
        if query.inputs:
            out["inputs"] = [
                {"variables": dict(i.variables), "files": dict(i.files), "output": i.output} for i in query.inputs
            ]
        if query.calls:
            out["calls"] = list(query.calls)
        return out

    def decode_query(self, value: Any) -> Task:
        """Read a task; a plain string is a question."""
        if isinstance(value, str):
            return Task(value)
        inputs = tuple(_inputs(i) for i in value.get("inputs", ()))
        known = {k: value[k] for k in ("question", "language", "database", "data", "prefix") if k in value}
        return Task(**known, inputs=inputs, calls=tuple(value.get("calls", ())))

    def encode_content(self, content: Program) -> Any:
        """Return the program's fields that differ from their defaults."""
        return {k: v for k, v in asdict(content).items() if v is not None and not (k == "count" and v == 1)}

    def decode_content(self, value: Any) -> Program:
        """Read a program; a plain string is its text."""
        return Program(value) if isinstance(value, str) else Program(**value)


def _inputs(value: Mapping[str, Any]) -> Inputs:
    if "invars" in value:  # Jigsaw's form: names and expressions in two lists
        return Inputs(
            dict(zip(value["invars"], value["inputs"], strict=True)), MappingProxyType({}), value.get("outvar")
        )
    return Inputs(dict(value.get("variables", {})), dict(value.get("files", {})), value.get("output"))


_TEXT_FIELDS = ("program", "sql", "code", "completion", "text")
_SUFFIXES = (".sqlite", ".sqlite3", ".db", ".duckdb")


def find_database(folder: str | Path, database: str) -> Path | None:
    """Find a database by id: ``ID.sqlite``, ``ID/ID.sqlite`` (Spider's and BIRD's layout), ``ID.duckdb`` or ``ID/``.

    Ids are file names; one that climbs out of the folder finds nothing.
    """
    root = Path(folder)
    if not database or Path(database).name != database or database in (".", ".."):
        return None
    for base in (root, root / database):
        for suffix in _SUFFIXES:
            path = base / f"{database}{suffix}"
            if path.is_file():
                return path
    path = root / database
    return path if path.is_dir() else None


def read_candidates(path: str | Path, databases: str | Path | None = None) -> list[Request[Task, Program]]:
    """Read a file of questions and candidates.

    Parameters
    ----------
    databases
        Folder of the databases that ``db_id`` names.

    Raises
    ------
    InputError
        With file and line: a field is missing or wrong, an id occurs twice, a database is not in the folder.
    """
    if databases is not None and not Path(databases).is_dir():
        raise InputError("no such folder of databases", databases)
    requests: list[Request[Task, Program]] = []
    seen: set[str] = set()
    found: dict[str, str] = {}
    for line, record in read_jsonl(path):
        try:
            request = _request(record, line)
        except InputError as error:
            raise InputError(str(error), path, line) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"field {error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(what, path, line) from None
        if request.id in seen:
            raise InputError(f"id {request.id!r} occurs twice", path, line)
        seen.add(request.id)
        name = request.query.database
        if name is not None and request.query.data is None and databases is not None:
            if name not in found:
                where = find_database(databases, name)
                if where is None:
                    raise InputError(f"database {name!r} is not in {databases}", path, line)
                found[name] = str(where)
            request = _with_data(request, found[name])
        requests.append(request)
    if not requests:
        raise InputError("no requests", path)
    return requests


def _with_data(request: Request[Task, Program], data: str) -> Request[Task, Program]:
    task = request.query
    task = Task(task.question, task.language, task.database, data, task.inputs, task.prefix, task.calls)
    return Request(request.id, task, request.candidates, request.group)


def _request(record: Mapping[str, Any], line: int) -> Request[Task, Program]:
    task = _task(record)
    raw = record["candidates"] if "candidates" in record else record["samples"]
    if not isinstance(raw, list) or not raw:
        raise InputError("'candidates' must be a list that is not empty")
    key = record.get("id", record.get("task_id", record.get("qid")))
    request_id = str(line - 1 if key is None else key)
    return Request(request_id, task, tuple(_candidates(raw)), group=None)


def _task(record: Mapping[str, Any]) -> Task:
    query = record.get("query")
    if isinstance(query, Mapping):
        return ProgramCodec().decode_query(query)
    question = record.get("question", query)
    if question is None:
        question = record["queries"][0] if record.get("queries") else record.get("prompt", "")
    inputs = tuple(_inputs(i) for i in record.get("inputs", ()))
    language = record.get("language")
    if language is None:
        language = "pandas" if inputs else "python" if "entry_point" in record or "prompt" in record else "sql"
    if language not in LANGUAGES:
        raise InputError(f"unknown language {language!r}; known: {', '.join(LANGUAGES)}")
    return Task(
        str(question),
        language,
        record.get("db_id", record.get("database")),
        record.get("data"),
        inputs,
        record.get("prompt", "") if language == "python" else "",
        tuple(record.get("calls", ())),
    )


def _candidates(raw: Sequence[Any]) -> Iterable[Candidate[Program]]:
    ids: set[str] = set()
    for i, entry in enumerate(raw):
        record: Mapping[str, Any] = {"program": entry} if isinstance(entry, str) else entry
        if "content" in record:
            program, score = ProgramCodec().decode_content(record["content"]), record.get("score")
        else:
            program, score = _program(record), record.get("score")
        wanted = record.get("id", record.get("cid", record.get("source")))
        name = str(i if wanted is None else wanted)
        while name in ids:  # a source may have sampled several
            name = f"{name}#{i}"
        ids.add(name)
        yield Candidate(name, program, score, record.get("features", {}))


def _program(record: Mapping[str, Any]) -> Program:
    text = next((record[k] for k in _TEXT_FIELDS if k in record), None)
    if not isinstance(text, str):
        raise InputError(f"a candidate needs one of {', '.join(_TEXT_FIELDS)} as text")
    count = int(record.get("count", 1))
    if count < 1:
        raise InputError("'count' must be at least 1")
    logprob = record.get("logprob")
    if logprob is None and record.get("logprobs"):
        values = record["logprobs"]
        logprob = sum(values) / len(values)
    return Program(
        text, None if logprob is None else float(logprob), count, record.get("source"), record.get("temperature")
    )


def read_labels(path: str | Path) -> Gold:
    """Read which candidates are right: ``{"id", "ex": {candidate: 0/1}}`` or ``{"task_id", "passed": [0/1, ...]}``.

    Raises
    ------
    InputError
        With file and line, where a line is neither.
    """
    gold: dict[str, dict[str, float]] = {}
    for line, record in read_jsonl(path):
        key = record.get("id", record.get("task_id"))
        marks = record.get("ex", record.get("passed", record.get("correct")))
        if key is None or marks is None:
            raise InputError("a label needs 'id' and 'ex' (or 'task_id' and 'passed')", path, line)
        pairs = marks.items() if isinstance(marks, Mapping) else enumerate(marks)
        try:
            gold[str(key)] = {str(k): float(v) for k, v in pairs}
        except (TypeError, ValueError):
            raise InputError("labels must be numbers", path, line) from None
    return gold

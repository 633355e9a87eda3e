"""Predictions in the formats that text-to-SQL and code systems publish, as more candidates for known requests."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError
from rerank_core.files import read_json, read_jsonl, read_lines
from rerank_core.types import Candidate, Request
from rerank_programs.data import Program, Task

BIRD_MARK = "\t----- bird -----\t"
_SQL_COLUMNS = ("PREDICTED SQL", "predicted_sql", "sql", "SQL", "query")


def read_predictions(path: str | Path) -> dict[str, list[Program]] | list[Program]:
    """Read a prediction file; its name's ending says which kind it is.

    ==========  =====================================================================================
    ``.csv``    DIN-SQL: one row a question, in order, column ``PREDICTED SQL``
    ``.json``   BIRD: ``{"0": "SQL\\t----- bird -----\\tdb_id"}``
    ``.jsonl``  HumanEval ``{"task_id", "completion"}``, CodeT ``{"prompt", "samples"}``, LEVER
                ``{"metadata"/"id", "generated_programs": [{"code", "lm_prob"?}]}``
    any other   Spider: one SQL a line (what follows a tab is dropped)
    ==========  =====================================================================================

    Returns
    -------
    dict or list
        By request id where the file has ids, else in the requests' order.
    """
    suffixes = [s for s in Path(path).suffixes if s != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix == ".csv":
        return _din_sql(path)
    if suffix == ".json":
        return _bird(path)
    if suffix == ".jsonl":
        return _jsonl(path)
    source = Path(path).stem
    return [Program(line.split("\t")[0], source=source) for _, line in read_lines(path) if line.strip()]


def _din_sql(path: str | Path) -> list[Program]:
    lines = [line for _, line in read_lines(path)]
    rows = list(csv.DictReader(lines))
    column = next((c for c in _SQL_COLUMNS if rows and c in rows[0]), None)
    if column is None:
        raise InputError(f"no column among {', '.join(_SQL_COLUMNS)}", path, 1)
    return [Program(row[column], source=Path(path).stem) for row in rows]


def _bird(path: str | Path) -> dict[str, list[Program]]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError("an object of index -> prediction was expected", path)
    return {
        str(k): [Program(str(v).split(BIRD_MARK)[0], source=Path(path).stem)] for k, v in value.items() if v is not None
    }


def _jsonl(path: str | Path) -> dict[str, list[Program]]:
    out: dict[str, list[Program]] = {}
    source = Path(path).stem
    for line, record in read_jsonl(path):
        try:
            key, programs = _record(record, source)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a HumanEval, CodeT or LEVER record: {error}", path, line) from None
        out.setdefault(key, []).extend(programs)
    return out


def _record(record: Mapping[str, Any], source: str) -> tuple[str, list[Program]]:
    if "generated_programs" in record:
        key = record.get("id", record.get("metadata", {}).get("id"))
        if key is None:
            raise ValueError("LEVER records need an 'id'")
        return str(key), [
            Program(str(p["code"]), None if p.get("lm_prob") is None else float(p["lm_prob"]), source=source)
            for p in record["generated_programs"]
        ]
    if "samples" in record:
        return str(record.get("task_id", record["prompt"])), [Program(str(s), source=source) for s in record["samples"]]
    return str(record["task_id"]), [Program(str(record["completion"]), source=source)]


def merge(
    requests: Sequence[Request[Task, Program]], predictions: dict[str, list[Program]] | list[Program], path: str | Path
) -> list[Request[Task, Program]]:
    """Add predictions as candidates.

    Raises
    ------
    InputError
        When a file without ids has not one prediction a request, or no id of it is known.
    """
    if isinstance(predictions, list):
        if len(predictions) != len(requests):
            raise InputError(f"{len(predictions)} predictions for {len(requests)} requests", path)
        by_id = {r.id: [p] for r, p in zip(requests, predictions, strict=True)}
    else:
        by_position = {str(i): r.id for i, r in enumerate(requests)}
        known = {r.id for r in requests} | {r.query.prefix for r in requests}
        by_id = {k if k in known else by_position.get(k, k): v for k, v in predictions.items()}
    out, used = [], 0
    for request in requests:
        added = by_id.get(request.id) or by_id.get(request.query.prefix) or []
        used += len(added)
        ids = set(request.ids)
        fresh = []
        for program in added:
            name = program.source or "pred"
            unique, n = name, 1
            while unique in ids:
                unique, n = f"{name}#{n}", n + 1
            ids.add(unique)
            fresh.append(Candidate(unique, program))
        out.append(Request(request.id, request.query, (*request.candidates, *fresh), request.group))
    if not used:
        raise InputError("none of its predictions belongs to a request", path)
    return out

"""What a rerank leaves on disk: rankings that carry their evidence, and the field's own prediction formats."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError
from rerank_core.files import atomic_write, read_jsonl
from rerank_core.io import ranking_from_json, ranking_to_json
from rerank_core.types import Ranking, Request
from rerank_programs.data import Program, ProgramCodec, Task
from rerank_programs.rerank import Evidence
from rerank_programs.results import Cell, Outcome

SAMPLE_ROWS = 5
SAMPLE_TEXT = 80


def evidence_to_json(evidence: Evidence) -> dict[str, Any]:
    """Encode a ranking with its clusters, lints, result samples, confidence and the isolation its programs ran in."""
    ids = evidence.request.ids
    task = evidence.request.query
    picked = evidence.picked
    record = ranking_to_json(evidence.ranking, seconds=False)
    record |= {
        "confidence": round(picked.confidence, 6),
        "margin": round(picked.margin, 6),
        "mode": evidence.mode,
        "isolation": sorted({o.isolation for o in evidence.outcomes if o.isolation}),
        "question": task.question,
        "language": task.language,
        "database": task.database,
        "all_failed": picked.all_failed,
        "clusters": [
            {
                "members": [ids[i] for i in c.members],
                "mass": round(c.mass, 6),
                "score": round(c.score, 6),
                "lints": list(c.lints),
                "fit": round(c.fit, 6),
                "result": sample(evidence.outcomes[c.members[0]]),
            }
            for c in picked.clusters
        ],
        "failed": {
            ids[i]: {"verdict": str(o.verdict), "message": o.message}
            for i, o in enumerate(evidence.outcomes)
            if not o.ok
        },
        "programs": {c.id: c.content.text for c in evidence.request.candidates},
    }
    if task.inputs:  # an explanation runs the leading programs again
        record["inputs"] = ProgramCodec().encode_query(task)["inputs"]
    return record


def sample(outcome: Outcome) -> dict[str, Any]:
    """Return a result's shape and first rows as JSON; a nondeterministic result shows its shape only."""
    rows = () if outcome.nondeterministic else outcome.rows[:SAMPLE_ROWS]
    out: dict[str, Any] = {
        "kind": outcome.kind,
        "columns": list(outcome.columns),
        "n_rows": len(outcome.rows),
        "rows": [[_shown(c) for c in row] for row in rows],
    }
    if outcome.flags:
        out["flags"] = sorted(outcome.flags)
    return out


def _shown(cell: Cell) -> Any:
    if cell is None or isinstance(cell, bool | int):
        return cell
    if isinstance(cell, float):
        return cell if cell - cell == 0 else str(cell)
    text = cell if isinstance(cell, str) else repr(cell)
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= SAMPLE_TEXT else text[: SAMPLE_TEXT - 1] + "…"


def ranking_record(
    ranking: Ranking, request: Request[Task, Program], confidence: float | None = None
) -> dict[str, Any]:
    """Encode the ranking of a method that runs nothing."""
    record = ranking_to_json(ranking, seconds=False)
    if confidence is not None:
        record["confidence"] = round(confidence, 6)
    record |= {
        "question": request.query.question,
        "language": request.query.language,
        "database": request.query.database,
        "programs": {c.id: c.content.text for c in request.candidates},
    }
    return record


def write_records(path: str | Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write JSONL atomically."""
    with atomic_write(path) as file:
        for record in records:
            # dumps, not dump: only it uses the C encoder
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_records(path: str | Path) -> list[tuple[Ranking, dict[str, Any]]]:
    """Read rankings with whatever evidence stands beside them.

    Raises
    ------
    InputError
        With file and line where a record is no ranking or an id occurs twice.
    """
    out: list[tuple[Ranking, dict[str, Any]]] = []
    seen: set[str] = set()
    for line, record in read_jsonl(path):
        ranking = ranking_from_json(record, path, line)
        if ranking.id in seen:
            raise InputError(f"ranking of {ranking.id!r} occurs twice", path, line)
        seen.add(ranking.id)
        out.append((ranking, record))
    if not out:
        raise InputError("no rankings", path)
    return out


def write_sql_lines(path: str | Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write the chosen program of every request on one line, as Spider's scorers read them."""
    with atomic_write(path) as file:
        for record in records:
            file.write(" ".join(_chosen(record).split()) + "\n")


def write_bird_json(path: str | Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write ``{"0": "SQL\\t----- bird -----\\tdb_id", ...}``, as BIRD's scorer reads it."""
    value = {
        str(i): f"{_chosen(record)}\t----- bird -----\t{record.get('database') or ''}"
        for i, record in enumerate(records)
    }
    with atomic_write(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=1)


def _chosen(record: Mapping[str, Any]) -> str:
    return str(record["programs"][record["ranking"][0]["id"]])

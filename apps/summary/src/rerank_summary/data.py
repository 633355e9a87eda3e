"""Candidate files: documents, their candidate summaries, and (kept apart) references and human scores.

Canonical JSONL, one document a line::

    {"id": "...", "source": "...",
     "candidates": [{"id": "...", "text": "...", "system": "...", "score": 0.1, "human": {"coherence": 4.3}}],
     "reference": "..."  or  "references": ["...", ...]}

``doc_id`` may stand for ``id``, ``query`` for ``source``, ``content`` for ``text``; a candidate without ``id`` goes
by its ``system``, without both by its position. ``human`` may also stand beside ``candidates`` as
``{candidate id: {dimension: value}}``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.io import atomic_write, read_jsonl
from rerank_core.types import Candidate, Dataset, Request

SummaryRequest = Request[str, str]


@dataclass(frozen=True, slots=True)
class Record:
    """One document with everything the file says about it.

    Parameters
    ----------
    request
        The source as query, the summaries as candidates. Never holds a label.
    references
        Reference summaries; the first is *the* reference.
    human
        Candidate id -> dimension -> score.
    line
        Line of the file, for messages.
    """

    request: SummaryRequest
    references: tuple[str, ...] = ()
    human: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    line: int | None = None

    @property
    def id(self) -> str:
        """The document's id."""
        return self.request.id

    def human_means(self) -> dict[str, float]:
        """Candidate id -> mean over dimensions, for the candidates that have human scores."""
        return {i: float(np.mean(list(d.values()))) for i, d in self.human.items() if d}


def read_records(path: str | Path, *, labels: bool = True) -> Iterator[Record]:
    """Yield the documents of a candidate file; ``.gz`` is unpacked, memory does not grow with the texts.

    Parameters
    ----------
    labels
        Whether to read references and human scores at all; rerankers run without.

    Raises
    ------
    InputError
        With file and line: no candidates, a text that is none, an id twice, a human score that is no finite number.
    """
    seen: set[str] = set()
    number = 0
    for number, value in read_jsonl(path):
        record = _record(value, path, number, labels)
        if record.id in seen:
            raise InputError(f"document id {record.id!r} occurs twice", path, number)
        seen.add(record.id)
        yield record
    if not number:
        raise InputError("holds no documents", path)


def requests_of(path: str | Path) -> Iterator[SummaryRequest]:
    """Yield the requests of a candidate file; references and human scores are never looked at."""
    for record in read_records(path, labels=False):
        yield record.request


def _record(value: Mapping[str, Any], path: str | Path, line: int, labels: bool) -> Record:
    identity = value.get("id", value.get("doc_id", line - 1))
    source = value.get("source", value.get("query", value.get("article", "")))
    if not isinstance(source, str):
        raise InputError(f"'source' must be text, not {type(source).__name__}", path, line)
    raw = value.get("candidates")
    if not isinstance(raw, list) or not raw:
        raise InputError(
            f"document {identity!r} has no candidates; 'candidates' must be a list that is not empty", path, line
        )
    candidates = []
    for position, entry in enumerate(raw):
        if isinstance(entry, str):
            entry = {"text": entry}
        if not isinstance(entry, dict):
            raise InputError(f"candidate {position} must be text or an object with 'text'", path, line)
        candidates.append(_candidate(entry, position, path, line))
    try:
        request = Request(str(identity), source, tuple(candidates))
    except ValueError as error:
        raise InputError(str(error), path, line) from None
    if not labels:
        return Record(request, line=line)
    references, human = _references(value, path, line), _human(value, raw, request, path, line)
    return Record(request, references, human, line)


def _candidate(entry: Mapping[str, Any], position: int, path: str | Path, line: int) -> Candidate[str]:
    text = entry.get("text", entry.get("content"))
    if not isinstance(text, str):
        raise InputError(f"candidate {position}: 'text' must be text, not {type(text).__name__}", path, line)
    score = entry.get("score")
    if score is not None:
        score = _finite(score, f"candidate {position}: 'score'", path, line)
    name = entry.get("id", entry.get("system", position))
    return Candidate(str(name), text, score)


def _references(value: Mapping[str, Any], path: str | Path, line: int) -> tuple[str, ...]:
    one, many = value.get("reference"), value.get("references")
    found = ([one] if one is not None else []) + (many if isinstance(many, list) else [])
    if any(not isinstance(r, str) for r in found):
        raise InputError("'reference' must be text and 'references' a list of texts", path, line)
    return tuple(dict.fromkeys(found))


def _human(
    value: Mapping[str, Any], raw: list[Any], request: SummaryRequest, path: str | Path, line: int
) -> dict[str, dict[str, float]]:
    beside = value.get("human") or {}
    if not isinstance(beside, dict):
        raise InputError("'human' must be an object", path, line)
    unknown = sorted(set(beside) - set(request.ids))
    if unknown:
        raise InputError(f"'human' names {unknown[0]!r}, which is no candidate of {request.id!r}", path, line)
    out = {}
    for c, entry in zip(request.candidates, raw, strict=True):
        scores = beside.get(c.id, entry.get("human") if isinstance(entry, dict) else None)
        if scores is None:
            continue
        if not isinstance(scores, dict):
            scores = {"score": scores}
        out[c.id] = {
            str(k): _finite(v, f"candidate {c.id!r}: human score {str(k)!r}", path, line) for k, v in scores.items()
        }
    return out


def _finite(x: Any, what: str, path: str | Path, line: int) -> float:
    if isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x):
        raise InputError(f"{what} is {x!r}, a finite number was expected", path, line)
    return float(x)


def record_to_json(record: Record) -> dict[str, Any]:
    """Encode one document in the canonical form."""
    candidates = []
    for c in record.request.candidates:
        entry: dict[str, Any] = {"id": c.id, "text": c.content}
        if c.score is not None:
            entry["score"] = c.score
        if c.id in record.human:
            entry["human"] = dict(record.human[c.id])
        candidates.append(entry)
    out: dict[str, Any] = {"id": record.id, "source": record.request.query, "candidates": candidates}
    if len(record.references) == 1:
        out["reference"] = record.references[0]
    elif record.references:
        out["references"] = list(record.references)
    return out


def write_records(path: str | Path, records: Iterable[Record]) -> None:
    """Write a canonical candidate file atomically."""
    with atomic_write(path) as file:
        for record in records:
            json.dump(record_to_json(record), file, ensure_ascii=False, allow_nan=False)
            file.write("\n")


def gains(record: Record) -> dict[str, float]:
    """The truth about each candidate as one number, 0 where the file has none.

    The mean human score where there are any, else (R1 + R2 + RL) / 3 against the first reference.
    """
    means = record.human_means()
    if means:
        return means
    if not record.references:
        return {}
    from rerank_summary.rouge import Rouge, flavour

    rouge = Rouge(flavour(), ("rouge1", "rouge2", "rougeL"))
    texts = [c.content for c in record.request.candidates]
    scores = rouge.score_batch([record.references[0]] * len(texts), texts)
    return {i: float(np.mean([v.f for v in s.values()])) for i, s in zip(record.request.ids, scores, strict=True)}


def dataset_of(records: Iterable[Record], name: str = "") -> Dataset[str, str]:
    """Requests with gains; a document is never split."""
    found = list(records)
    return Dataset([r.request for r in found], {r.id: gains(r) for r in found}, {r.id: r.id for r in found}, name)

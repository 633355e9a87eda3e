"""Files of passage search: queries, passages and runs in, requests out.

Queries are TSV (``id<TAB>text``) or JSONL; passages are JSONL, one object a line; both may be gzipped. Runs are TREC runs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rerank_core.errors import InputError
from rerank_core.io import Run, read_jsonl, read_lines, trec_order
from rerank_core.types import Candidate, Request

PassageRequest: TypeAlias = Request[str, str]

QUERY_ID = ("qid", "id", "_id", "query_id")
QUERY_TEXT = ("text", "query", "title")
PASSAGE_ID = ("docid", "id", "_id", "doc_id", "pid")
PASSAGE_TEXT = ("text", "contents", "content", "body", "passage", "segment", "abstract")


def read_queries(path: str | Path) -> dict[str, str]:
    """Read queries: TSV ``id<TAB>text``, or JSONL objects where the file's name says so.

    Raises
    ------
    InputError
        A line without a tab, an empty query, an id twice, or no query at all; with file and line.
    """
    queries: dict[str, str] = {}
    for line, qid, text in _queries(path):
        if not qid or not text:
            raise InputError("a query needs an id and a text", path, line)
        if qid in queries:
            raise InputError(f"query {qid!r} occurs twice", path, line)
        queries[qid] = text
    if not queries:
        raise InputError("holds no queries", path)
    return queries


def _queries(path: str | Path) -> Iterator[tuple[int, str, str]]:
    if _is_jsonl(path):
        for line, value in read_jsonl(path):
            qid, text = (_field(value, names, path, line) for names in (QUERY_ID, QUERY_TEXT))
            yield line, qid, text.strip()
        return
    for line, row in read_lines(path):
        if not row.strip():
            continue
        qid, tab, text = row.rstrip("\r\n").partition("\t")
        if not tab:
            raise InputError("a query line is id<TAB>text; this one has no tab", path, line)
        yield line, qid.strip(), text.strip()


def read_passages(path: str | Path, keep: Collection[str] | None = None) -> dict[str, str]:
    """Read passages from JSONL: ``{"docid" | "id", "text" | "abstract", "title"?}``; a title alone will do.

    Parameters
    ----------
    keep
        Read only these ids; the rest of the file is checked for form but not held.

    Raises
    ------
    InputError
        A missing field, an id twice, or no passage at all; with file and line.
    """
    passages: dict[str, str] = {}
    line = 0
    for line, value in read_jsonl(path):
        docid = _field(value, PASSAGE_ID, path, line)
        if keep is not None and docid not in keep:
            continue
        if docid in passages:
            raise InputError(f"passage {docid!r} occurs twice", path, line)
        title = value.get("title")
        if not isinstance(title, str) or not title.strip():
            passages[docid] = _field(value, PASSAGE_TEXT, path, line)
        else:  # a title alone is a text too: many studies have no abstract
            text = next((value[n] for n in PASSAGE_TEXT if isinstance(value.get(n), str)), "")
            passages[docid] = f"{title}. {text}" if text.strip() else title
    if not line:
        raise InputError("holds no passages", path)
    return passages


def _field(value: Mapping[str, Any], names: tuple[str, ...], path: str | Path, line: int) -> str:
    for name in names:
        found = value.get(name)
        if isinstance(found, str):
            return found
        if isinstance(found, int) and not isinstance(found, bool):
            return str(found)
    raise InputError(f"needs one of the fields {', '.join(names)}, as text", path, line)


def _is_jsonl(path: str | Path) -> bool:
    return Path(path).name.removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def requests_from_run(
    queries: Mapping[str, str], passages: Mapping[str, str], run: Run, *, top: int | None = None
) -> list[PassageRequest]:
    """Join queries, passages and a run into requests, in the run's query order and trec_eval's candidate order.

    Parameters
    ----------
    top
        Keep only that many candidates a query.

    Raises
    ------
    InputError
        When the run names a query or a passage that is not there; the text counts them and names the first.
    """
    without_query = [qid for qid in run if qid not in queries]
    if without_query:
        raise InputError(
            f"the run has {len(without_query)} queries that are not in the queries file, first {without_query[0]!r}"
        )
    requests, missing = [], []
    for qid, docs in run.items():
        ids = trec_order(docs)[:top]
        missing += [i for i in ids if i not in passages]
        if not missing:
            candidates = tuple(Candidate(i, passages[i], float(docs[i])) for i in ids)
            requests.append(Request(qid, queries[qid], candidates))
    if missing:
        raise InputError(
            f"the run names {len(set(missing))} passages that are not in the passages file, first {missing[0]!r}"
        )
    return requests


def run_ids(run: Run, top: int | None = None) -> set[str]:
    """Return the passage ids a run needs."""
    return {i for docs in run.values() for i in trec_order(docs)[:top]}


def read_candidates(path: str | Path) -> list[PassageRequest]:
    """Read requests that bring their candidates: ``{"qid", "query", "candidates": [{"docid", "text", "score"?}]}``.

    Candidates stand in first-stage order; a missing score is fine.

    Raises
    ------
    InputError
        A missing field or an id twice, with file and line.
    """
    requests: list[PassageRequest] = []
    for line, value in read_jsonl(path):
        qid, query = _field(value, QUERY_ID, path, line), _field(value, ("query", "text"), path, line)
        entries = value.get("candidates")
        if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
            raise InputError("'candidates' must be a list of objects that is not empty", path, line)
        candidates = []
        for entry in entries:
            score = entry.get("score")
            candidates.append(
                Candidate(
                    _field(entry, PASSAGE_ID, path, line),
                    _field(entry, PASSAGE_TEXT, path, line),
                    float(score) if isinstance(score, (int, float)) and math.isfinite(score) else None,
                )
            )
        try:
            requests.append(Request(qid, query, tuple(candidates)))
        except ValueError as error:
            raise InputError(str(error), path, line) from None
    if len({r.id for r in requests}) != len(requests):
        raise InputError("a query id occurs twice", path)
    return requests

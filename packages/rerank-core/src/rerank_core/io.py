"""Field formats of ranking: TREC runs and qrels, JSONL requests and rankings, RankLLM request files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rerank_core.codec import Codec
from rerank_core.errors import InputError
from rerank_core.files import (
    atomic_path,
    atomic_write,
    open_binary,
    open_text,
    read_json,
    read_jsonl,
    read_lines,
    write_json,
)
from rerank_core.types import Candidate, Cost, Gold, Ranked, Ranking, Request, Status

__all__ = [
    "Run",
    "atomic_path",
    "atomic_write",
    "open_binary",
    "open_text",
    "ranking_of",
    "read_gold",
    "read_json",
    "read_jsonl",
    "read_lines",
    "read_qrels",
    "read_rankings",
    "read_rankllm",
    "read_requests",
    "read_run",
    "run_of",
    "trec_order",
    "write_gold",
    "write_json",
    "write_rankings",
    "write_rankllm",
    "write_requests",
    "write_run",
]

Run: TypeAlias = dict[str, dict[str, float]]
"""Query id -> document id -> score, higher is better."""


def read_run(path: str | Path) -> Run:
    """Read a TREC run: ``qid Q0 docid rank score tag``; ``.gz`` is unpacked.

    The rank column is ignored, as trec_eval does: the score decides.

    Raises
    ------
    InputError
        A line without six columns, a score that is no finite number, or a document given twice, with file and line.
    """
    run: Run = {}
    # A plain local loop: a million lines are to be read in a few seconds.
    qid, docs = None, {}
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != 6:
            if not columns:
                continue
            raise InputError(
                f"a run line has 6 columns (qid Q0 docid rank score tag), this one {len(columns)}", path, number
            )
        if columns[0] != qid:
            qid = columns[0]
            docs = run.setdefault(qid, {})
        try:
            score = float(columns[4])
        except ValueError:
            raise InputError(f"score {columns[4]!r} is not a number", path, number) from None
        if not math.isfinite(score):
            raise InputError(f"score {columns[4]!r} is not finite", path, number)
        if columns[2] in docs:
            raise InputError(f"document {columns[2]!r} occurs twice for query {qid!r}", path, number)
        docs[columns[2]] = score
    if not run:
        raise InputError("holds no run lines", path)
    return run


def read_qrels(path: str | Path) -> Gold:
    """Read TREC qrels: ``qid 0 docid grade``; ``.gz`` is unpacked.

    Raises
    ------
    InputError
        A line without four columns or with a grade that is no whole number, with file and line.
    """
    gold: dict[str, dict[str, float]] = {}
    for number, line in read_lines(path):
        columns = line.split()
        if not columns:
            continue
        if len(columns) != 4:
            raise InputError(f"a qrels line has 4 columns (qid 0 docid grade), this one {len(columns)}", path, number)
        try:
            grade = int(columns[3])
        except ValueError:
            raise InputError(f"grade {columns[3]!r} is not a whole number", path, number) from None
        gold.setdefault(columns[0], {})[columns[2]] = grade
    if not gold:
        raise InputError("holds no qrels lines", path)
    return gold


def read_gold(path: str | Path) -> Gold:
    """Read gold: TREC qrels, or JSONL with ``{"id", "gold": {candidate id: gain}}`` a line.

    Raises
    ------
    InputError
        With file and line where neither form fits.
    """
    first = next((line for _, line in read_lines(path) if line.strip()), "")
    if not first.lstrip().startswith("{"):
        return read_qrels(path)
    gold: dict[str, dict[str, float]] = {}
    for number, value in read_jsonl(path):
        gains = value.get("gold")
        if "id" not in value or not isinstance(gains, dict):
            raise InputError("a gold line needs 'id' and 'gold', an object of candidate id -> gain", path, number)
        gold[str(value["id"])] = {str(k): _feature(v, path, number) for k, v in gains.items()}
    return gold


def write_gold(path: str | Path, gold: Gold) -> None:
    """Write gold as JSONL atomically; see `read_gold`."""
    with atomic_write(path) as file:
        for i, gains in gold.items():
            json.dump({"id": i, "gold": dict(gains)}, file, ensure_ascii=False, allow_nan=False)
            file.write("\n")


def trec_order(docs: Mapping[str, float]) -> list[str]:
    """Return document ids as trec_eval sorts them: score (as 32-bit float) falling, ties by id falling."""
    scores = np.fromiter(docs.values(), np.float32, len(docs)).tolist()
    return [d for _, d in sorted(zip(scores, docs, strict=True), reverse=True)]


def ranking_of(query_id: str, docs: Mapping[str, float]) -> Ranking:
    """Return one query of a run as a ranking, in trec_eval's order."""
    return Ranking(query_id, tuple(Ranked(d, float(docs[d])) for d in trec_order(docs)))


def run_of(rankings: Iterable[Ranking]) -> Run:
    """Return rankings as a run with strictly falling scores, so that every evaluator sees the same order."""
    return {r.id: dict(zip(r.ids, _falling(r), strict=True)) for r in rankings}


def write_run(path: str | Path, rankings: Iterable[Ranking], tag: str = "rerank") -> None:
    """Write a TREC run atomically, with scores that fall strictly even as 32-bit floats."""
    tag = "_".join(tag.split()) or "rerank"
    with atomic_write(path) as file:
        for ranking in rankings:
            for rank, (item, score) in enumerate(zip(ranking.items, _falling(ranking), strict=True), 1):
                if any(c.isspace() for c in item.id + ranking.id):
                    raise InputError(
                        f"id {item.id!r} has white space, which a TREC run cannot hold; write JSONL instead"
                    )
                file.write(f"{ranking.id} Q0 {item.id} {rank} {np.float32(score)!s} {tag}\n")


def _falling(ranking: Ranking) -> list[float]:
    """Return the items' scores, lowered just enough to fall strictly in 32-bit precision."""
    out: list[float] = []
    last = np.float32(np.inf)
    for item in ranking.items:
        if item.score is None or not math.isfinite(item.score):
            want = np.float32(last - 1) if np.isfinite(last) else np.float32(0)
        else:
            want = np.float32(min(max(item.score, -1e37), 1e37))
        if not want < last:
            want = np.nextafter(last, np.float32(-np.inf))
        last = want
        out.append(float(want))
    return out


def read_requests(path: str | Path, codec: Codec[Any, Any]) -> list[Request[Any, Any]]:
    """Read canonical JSONL requests.

    One request a line: ``{"id", "query", "candidates": [{"id", "content", "score"?, "features"?}], "group"?}``.

    Raises
    ------
    InputError
        With file and line: a field is missing or of the wrong type, no candidates, an id twice, a NaN score.
    """
    requests: list[Request[Any, Any]] = []
    seen: set[str] = set()
    for number, value in read_jsonl(path):
        request = request_from_json(value, codec, path, number)
        if request.id in seen:
            raise InputError(f"request id {request.id!r} occurs twice", path, number)
        seen.add(request.id)
        requests.append(request)
    return requests


def request_from_json(
    value: Mapping[str, Any], codec: Codec[Any, Any], path: str | Path | None = None, line: int | None = None
) -> Request[Any, Any]:
    """Decode one request; see `read_requests` for the shape."""
    try:
        raw = value["candidates"]
        if not isinstance(raw, list) or not raw:
            raise InputError("'candidates' must be a list that is not empty", path, line)
        candidates = tuple(
            Candidate(
                str(c["id"]),
                codec.decode_content(c["content"]),
                _number(c.get("score"), path, line),
                {str(k): _feature(v, path, line) for k, v in c.get("features", {}).items()},
            )
            for c in raw
        )
        group = value.get("group")
        return Request(
            str(value["id"]), codec.decode_query(value["query"]), candidates, None if group is None else str(group)
        )
    except KeyError as error:
        raise InputError(f"field {error.args[0]!r} is missing", path, line) from None
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(str(error), path, line) from None


def request_to_json(request: Request[Any, Any], codec: Codec[Any, Any]) -> dict[str, Any]:
    """Encode one request; see `read_requests` for the shape."""
    candidates = []
    for c in request.candidates:
        entry: dict[str, Any] = {"id": c.id, "content": codec.encode_content(c.content)}
        if c.score is not None:
            entry["score"] = c.score
        if c.features:
            entry["features"] = dict(c.features)
        candidates.append(entry)
    out = {"id": request.id, "query": codec.encode_query(request.query), "candidates": candidates}
    if request.group is not None:
        out["group"] = request.group
    return out


def write_requests(path: str | Path, requests: Iterable[Request[Any, Any]], codec: Codec[Any, Any]) -> None:
    """Write canonical JSONL requests atomically."""
    with atomic_write(path) as file:
        for request in requests:
            json.dump(request_to_json(request, codec), file, ensure_ascii=False, allow_nan=False)
            file.write("\n")


def ranking_to_json(ranking: Ranking, *, seconds: bool = True) -> dict[str, Any]:
    """Encode one ranking: ``{"id", "ranking": [{"id", "score", "rank", "reason"?}], "status", "cost"}``."""
    items = []
    for rank, item in enumerate(ranking.items, 1):
        entry: dict[str, Any] = {"id": item.id, "score": item.score, "rank": rank}
        if item.reason is not None:
            entry["reason"] = item.reason
        items.append(entry)
    c = ranking.cost
    cost: dict[str, Any] = {
        "calls": c.calls,
        "prompt_tokens": c.prompt_tokens,
        "output_tokens": c.output_tokens,
    }
    if seconds:
        cost["seconds"] = round(c.seconds, 6)
    return {"id": ranking.id, "ranking": items, "status": str(ranking.status), "cost": cost}


def ranking_from_json(value: Mapping[str, Any], path: str | Path | None = None, line: int | None = None) -> Ranking:
    """Decode one ranking; the order of its list counts, ranks are not read."""
    try:
        items = tuple(
            Ranked(str(x["id"]), _number(x.get("score"), path, line), x.get("reason")) for x in value["ranking"]
        )
        cost = Cost(**{k: v for k, v in value.get("cost", {}).items() if k in Cost.__dataclass_fields__})
        return Ranking(str(value["id"]), items, Status(value.get("status", "ok")), cost)
    except KeyError as error:
        raise InputError(f"field {error.args[0]!r} is missing", path, line) from None
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(str(error), path, line) from None


def read_rankings(path: str | Path) -> list[Ranking]:
    """Read a JSONL ranking file.

    Raises
    ------
    InputError
        With file and line where a field is missing, of the wrong type, or a request occurs twice.
    """
    rankings: list[Ranking] = []
    seen: set[str] = set()
    for number, value in read_jsonl(path):
        ranking = ranking_from_json(value, path, number)
        if ranking.id in seen:
            raise InputError(f"ranking of {ranking.id!r} occurs twice", path, number)
        seen.add(ranking.id)
        rankings.append(ranking)
    return rankings


def write_rankings(path: str | Path, rankings: Iterable[Ranking], *, seconds: bool = False) -> None:
    """Write a JSONL ranking file atomically; seconds only on demand, so that equal runs give equal bytes."""
    with atomic_write(path) as file:
        for ranking in rankings:
            json.dump(ranking_to_json(ranking, seconds=seconds), file, ensure_ascii=False, allow_nan=False)
            file.write("\n")


def read_rankllm(path: str | Path) -> list[Request[str, str]]:
    """Read RankLLM request files (a JSON list or JSONL).

    One request: ``{"query": {"text", "qid"}, "candidates": [{"docid", "score", "doc"}]}``, where ``doc`` is text or an
    object with ``text``/``contents``/``segment``/``body`` and perhaps ``title``.
    """
    entries: Iterator[tuple[int, Any]]
    first = next((line for _, line in read_lines(path) if line.strip()), "")
    if first.lstrip().startswith("["):
        entries = enumerate(read_json(path), 1)
    else:
        entries = iter(read_jsonl(path))
    requests = []
    for number, value in entries:
        try:
            candidates = tuple(
                Candidate(str(c["docid"]), rankllm_text(c["doc"]), _number(c.get("score"), path, number))
                for c in value["candidates"]
            )
            requests.append(Request(str(value["query"]["qid"]), str(value["query"]["text"]), candidates))
        except KeyError as error:
            raise InputError(f"request {number}: field {error.args[0]!r} is missing", path) from None
        except (TypeError, ValueError) as error:
            raise InputError(f"request {number}: {error}", path) from None
    return requests


def rankllm_text(doc: Any) -> str:
    """Return the text of a RankLLM ``doc`` field."""
    if isinstance(doc, str):
        return doc
    title = str(doc.get("title") or "")
    for key in ("text", "contents", "content", "segment", "body", "passage"):
        if key in doc:
            body = str(doc[key])
            return f"{title} {body}".strip() if title and not body.startswith(title) else body
    raise InputError(f"document has none of text, contents, content, segment, body, passage: {sorted(doc)}")


def write_rankllm(path: str | Path, requests: Sequence[Request[str, str]], rankings: Iterable[Ranking]) -> None:
    """Write rankings in RankLLM's form (JSONL where the name says so, else a JSON list)."""
    by_id = {r.id: r for r in requests}
    out = []
    for ranking in rankings:
        request = by_id[ranking.id]
        text = {c.id: c.content for c in request.candidates}
        out.append(
            {
                "query": {"text": request.query, "qid": request.id},
                "candidates": [
                    {"docid": i, "score": s, "doc": {"contents": text[i]}}
                    for i, s in zip(ranking.ids, _falling(ranking), strict=True)
                ],
            }
        )
    name = Path(path).name.removesuffix(".gz")
    with atomic_write(path) as file:
        if name.endswith(".jsonl"):
            for entry in out:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        else:
            json.dump(out, file, ensure_ascii=False, indent=1)


def _number(x: Any, path: str | Path | None, line: int | None) -> float | None:
    if x is None:
        return None
    if isinstance(x, bool) or not isinstance(x, (int, float)):
        raise InputError(f"score {x!r} is not a number", path, line)
    if not math.isfinite(x):
        raise InputError(f"score {x!r} is not finite", path, line)
    return float(x)


def _feature(x: Any, path: str | Path | None, line: int | None) -> float:
    value = _number(x, path, line)
    if value is None:
        raise InputError("a feature has no value", path, line)
    return value

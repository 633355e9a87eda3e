"""Requests and rankings as sharded Parquet, so that Spark, Dask or any dataframe can feed a run and read its result.

A folder of ``part-00000.parquet``, ... Requests: ``id``, ``query`` and each candidate's ``content`` as JSON text,
``score``, ``group``. Rankings: ``id``, ``ranking`` (id, score, rank, reason), ``status``, calls and tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rerank_core.codec import Codec
from rerank_core.errors import InputError, require
from rerank_core.files import atomic_path
from rerank_core.io import ranking_from_json, ranking_to_json, request_from_json, request_to_json
from rerank_core.types import Ranking, Request


def _pyarrow() -> Any:
    require("pyarrow.parquet", "rerank-core[parquet]", "Parquet")
    return require("pyarrow", "rerank-core[parquet]", "Parquet")


def shards(path: str | Path) -> list[Path]:
    """Return the Parquet files of a folder in order, or the one file.

    Raises
    ------
    InputError
        When there is none.
    """
    path = Path(path)
    found = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.exists() else []
    if not found:
        raise InputError("holds no Parquet files", path)
    return found


def write_requests_parquet(
    folder: str | Path, requests: Iterable[Request[Any, Any]], codec: Codec[Any, Any], *, per_shard: int = 10_000
) -> list[Path]:
    """Write requests as shards; each appears only when it is complete."""
    pa = _pyarrow()
    candidate = pa.struct(
        [("id", pa.string()), ("content", pa.string()), ("score", pa.float64()), ("features", pa.string())]
    )
    schema = pa.schema(
        [("id", pa.string()), ("query", pa.string()), ("group", pa.string()), ("candidates", pa.list_(candidate))]
    )

    def row(request: Request[Any, Any]) -> dict[str, Any]:
        value = request_to_json(request, codec)
        return {
            "id": value["id"],
            "query": json.dumps(value["query"], ensure_ascii=False),
            "group": value.get("group"),
            "candidates": [
                {
                    "id": c["id"],
                    "content": json.dumps(c["content"], ensure_ascii=False),
                    "score": c.get("score"),
                    "features": json.dumps(c["features"]) if "features" in c else None,
                }
                for c in value["candidates"]
            ],
        }

    return _write(folder, (row(r) for r in requests), schema, per_shard)


def read_requests_parquet(path: str | Path, codec: Codec[Any, Any]) -> Iterator[Request[Any, Any]]:
    """Yield requests shard by shard; only one shard is in memory at a time."""
    for shard in shards(path):
        for number, value in enumerate(_rows(shard), 1):
            try:
                raw = {
                    "id": value["id"],
                    "query": json.loads(value["query"]),
                    "group": value.get("group"),
                    "candidates": [_candidate(c) for c in value["candidates"]],
                }
            except (KeyError, TypeError, ValueError) as error:
                raise InputError(f"row {number} is no request: {error}", shard) from None
            yield request_from_json(raw, codec, shard, number)


def _candidate(c: dict[str, Any]) -> dict[str, Any]:
    out = {"id": c["id"], "content": json.loads(c["content"])}
    if c.get("score") is not None:
        out["score"] = c["score"]
    if c.get("features"):
        out["features"] = json.loads(c["features"])
    return out


def write_rankings_parquet(folder: str | Path, rankings: Iterable[Ranking], *, per_shard: int = 10_000) -> list[Path]:
    """Write rankings as shards."""
    pa = _pyarrow()
    ranked = pa.struct([("id", pa.string()), ("score", pa.float64()), ("rank", pa.int32()), ("reason", pa.string())])
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("ranking", pa.list_(ranked)),
            ("status", pa.string()),
            ("calls", pa.int64()),
            ("prompt_tokens", pa.int64()),
            ("output_tokens", pa.int64()),
        ]
    )

    def row(ranking: Ranking) -> dict[str, Any]:
        value = ranking_to_json(ranking, seconds=False)
        return {"id": value["id"], "ranking": value["ranking"], "status": value["status"], **value["cost"]}

    return _write(folder, (row(r) for r in rankings), schema, per_shard)


def read_rankings_parquet(path: str | Path) -> Iterator[Ranking]:
    """Yield rankings shard by shard."""
    for shard in shards(path):
        for number, value in enumerate(_rows(shard), 1):
            cost = {k: value[k] for k in ("calls", "prompt_tokens", "output_tokens") if k in value}
            yield ranking_from_json({**value, "cost": cost}, shard, number)


def _rows(shard: Path) -> Iterator[dict[str, Any]]:
    pa = _pyarrow()
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"is no readable Parquet file: {error}", shard) from None


def _write(folder: str | Path, rows: Iterable[dict[str, Any]], schema: Any, per_shard: int) -> list[Path]:
    pa = _pyarrow()
    import pyarrow.parquet as pq

    folder, stream = Path(folder), iter(rows)
    out: list[Path] = []
    while chunk := list(islice(stream, per_shard)):
        path = folder / f"part-{len(out):05d}.parquet"
        with atomic_path(path) as temporary:
            pq.write_table(pa.Table.from_pylist(chunk, schema), temporary)
        out.append(path)
    return out


def requests_of(path: Path, codec: Codec[Any, Any]) -> Sequence[Request[Any, Any]]:
    """Read requests from JSONL or Parquet, as the name says."""
    if path.is_dir() or path.suffix == ".parquet":
        return list(read_requests_parquet(path, codec))
    from rerank_core.io import read_requests

    return read_requests(path, codec)

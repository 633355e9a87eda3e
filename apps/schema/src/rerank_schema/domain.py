"""What this app registers: the domain ``schema``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.domain import Domain, Method, TextRendering
from rerank_core.measures import PerRequest, parse
from rerank_core.reranker import Reranker
from rerank_core.types import Candidate, Dataset, Ranking, Request
from rerank_schema.tables import Column

SAMPLES_SHOWN = 5


class ColumnCodec:
    """JSON <-> column: what it is called, what it holds, what a schema says of it."""

    def encode_query(self, query: Column) -> dict[str, Any]:
        """Return a column as JSON values."""
        out: dict[str, Any] = {"table": query.table, "name": query.name}
        for key in ("description", "table_description", "declared_type", "key", "id"):
            if text := getattr(query, key):
                out[key] = text
        if query.n_rows:
            out |= {"storage": query.storage, "n_rows": query.n_rows}
            out["values"] = [v if isinstance(v, (str, int, float, bool)) else str(v) for v in query.values]
            out["counts"] = query.counts.tolist()
        return out

    def decode_query(self, value: Any) -> Column:
        """Read a column; ``values`` may also be plain cells, without ``counts``.

        Raises
        ------
        ValueError
            When it is no object, has no name, or its counts do not fit its values.
        """
        if isinstance(value, str):
            return Column("", value)
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise ValueError("a column is its name, or an object with a 'name'")
        described = {
            k: str(value.get(k, "")) for k in ("description", "table_description", "declared_type", "key", "id")
        }
        table, values = str(value.get("table", "")), value.get("values", [])
        if not isinstance(values, list):
            raise ValueError(f"the values of column {value['name']!r} must be a list")
        if "counts" not in value:
            from rerank_schema.tables import column_from_values

            cells = column_from_values(table, value["name"], values)
            return Column(table, cells.name, cells.values, cells.counts, cells.n_rows, cells.storage, **described)
        counts = np.asarray(value["counts"], dtype=np.int64)
        if counts.shape != (len(values),):
            raise ValueError(f"column {value['name']!r}: {counts.size} counts for {len(values)} values")
        storage = str(value.get("storage", "text"))
        return Column(
            table, value["name"], tuple(values), counts, int(value.get("n_rows", counts.sum())), storage, **described
        )

    def encode_content(self, content: Column) -> dict[str, Any]:
        """Return a column as JSON values."""
        return self.encode_query(content)

    def decode_content(self, value: Any) -> Column:
        """Read a column."""
        return self.decode_query(value)


def render_column(column: Column) -> str:
    """Return a column as a judge reads it: table and name, type, description, sample values."""
    parts = [f"{column.table}.{column.name}" if column.table else column.name]
    if column.declared_type:
        parts.append(f"type: {column.declared_type}")
    if column.key:
        parts.append(f"key: {column.key}")
    if column.description:
        parts.append(f"description: {column.description}")
    if column.values:
        parts.append(f"values: {', '.join(v[:40] for v in column.samples(SAMPLES_SHOWN))}")
    return "; ".join(parts)


def _render_candidate(candidate: Candidate[Column]) -> str:
    return render_column(candidate.content)


def _make(name: str) -> Callable[[Mapping[str, Any]], Reranker]:
    def make(config: Mapping[str, Any]) -> Reranker:
        from rerank_schema.rerank import ColumnReranker, make_matcher

        return ColumnReranker(make_matcher(name, config))

    return make


def sample() -> Dataset[Column, Column]:
    """Return table pairs fabricated in Valentine's way from real tables of installed packages; no network."""
    from rerank_schema.fabricate import fabricate
    from rerank_schema.packaged import small_tables

    requests: list[Request[Column, Column]] = []
    gold: dict[str, Mapping[str, float]] = {}
    splits: dict[str, str] = {}
    scenarios = ("unionable", "view-unionable", "joinable")
    for i, table in enumerate(small_tables()):
        for pair in fabricate([table], seed=i, scenarios=[scenarios[i % 3]]):
            _add(requests, gold, splits, pair.source, pair.target, pair.gold, pair.name)
    return Dataset(requests, gold, splits, "fabricated from packaged tables")


def load(folder: Path) -> Dataset[Column, Column]:
    """Read a folder of table pairs: every folder below it that holds a ``ground_truth.csv`` is one.

    The sides are ``source`` and ``target`` (files or folders) or ``left`` and ``right`` (descriptions of columns); a
    missing target is looked for beside the pair's folder, which serves several pairs with one standard.
    """
    from rerank_schema.pairs import read_pairs

    requests: list[Request[Column, Column]] = []
    gold: dict[str, Mapping[str, float]] = {}
    splits: dict[str, str] = {}
    for pair in read_pairs(folder):
        _add(requests, gold, splits, pair.source, pair.target, pair.gold, pair.name)
    return Dataset(requests, gold, splits, folder.name)


def _add(
    requests: list[Any],
    gold: dict[str, Mapping[str, float]],
    splits: dict[str, str],
    source: Any,
    target: Any,
    pairs: Any,
    name: str,
) -> None:
    from rerank_schema.rerank import gold_of, requests_of

    gains = gold_of(source, target, pairs, name)
    # Source columns without a counterpart stay in: they are part of the table pair that is matched as a whole.
    asked = requests_of(source, target, name)
    requests.extend(asked)
    gold.update(gains)
    splits.update({r.id: name.split("/")[0] for r in asked})


def _reciprocal_rank(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
    return next((1.0 / rank for rank, i in enumerate(ranking.ids, start=1) if gains.get(i, 0) > 0), 0.0)


def _methods() -> dict[str, Method]:
    from rerank_schema.rerank import DEFAULTS

    encoder = "model: all-minilm-l6-v2 (any bi-encoder)"
    table: dict[str, tuple[str, str, tuple[str, ...], str]] = {
        "default": (
            "names, samples, shared values and descriptions with equal weights, hubs corrected",
            "ours; CSLS of Conneau et al., ICLR 2018",
            (encoder,),
            "4 texts encoded a column, once",
        ),
        "magneto": (
            "Magneto with its quirks repaired, repeated header and priority samples",
            "Liu et al., PVLDB 18(8), 2025",
            (encoder,),
            "1 text encoded a column, once",
        ),
        "magneto-official": (
            "Magneto as released (magneto-python 0.2.0, zero-shot, bipartite)",
            "Liu et al., PVLDB 18(8), 2025",
            (encoder,),
            "1 text encoded a column, once",
        ),
        "header": ("similarity of the names alone", "RapidFuzz ratio", (), "none"),
    }
    return {
        name: Method(_make(name), title, source, needs, DEFAULTS[name], cost)
        for name, (title, source, needs, cost) in table.items()
    }


INSTRUCTION = "Does this column of another table hold the same kind of information as the query column?"

domain: Domain[Column, Column] = Domain(
    name="schema",
    title="schema matching",
    methods=_methods(),
    measures=(PerRequest("MRR", _reciprocal_rank), parse("R@20"), parse("Success@1"), parse("Success@5")),
    codec=ColumnCodec(),
    rendering=TextRendering(INSTRUCTION, render_column, _render_candidate),
    sample=sample,
    load=load,
    demo_methods=("header", "magneto-official", "default"),
)

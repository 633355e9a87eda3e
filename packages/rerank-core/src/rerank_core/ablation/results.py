"""A suite's results on disk: tables, and what the report reads."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError
from rerank_core.experiment import FIRST, ORACLE
from rerank_core.files import atomic_path, atomic_write, read_json
from rerank_core.report import Example

COLUMNS = (
    "domain", "data", "system", "kind", "seed", "measure", "value", "ci_low", "ci_high", "n", "p",
    "seconds", "calls", "tokens", "status", "reason", "run",
)  # fmt: skip


def write_tables(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``results.csv`` and, where pyarrow is installed, ``results.parquet``."""
    with atomic_write(out / "results.csv") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if importlib.util.find_spec("pyarrow") is None:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = {"domain", "data", "system", "kind", "measure", "status", "reason", "run"}
    whole = {"seed", "n", "calls", "tokens"}
    kinds = {c: pa.string() if c in text else pa.int64() if c in whole else pa.float64() for c in COLUMNS}
    table = pa.table({c: pa.array([r.get(c) for r in rows], kinds[c]) for c in COLUMNS})
    with atomic_path(out / "results.parquet") as temporary:
        pq.write_table(table, temporary)


def read_results(folder: str | Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a result folder's manifest and its cells.

    Raises
    ------
    InputError
        When the folder holds no finished suite.
    """
    folder = Path(folder)
    if not (folder / "suite.json").exists():
        raise InputError("holds no suite.json; `rerank ablate SUITE -o DIR` makes one", folder)
    manifest = read_json(folder / "suite.json")
    return manifest, list(_cells(folder, manifest["cells"]))


def _cells(folder: Path, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
    for key in keys:
        path = folder / "cells" / f"{key}.json"
        if path.exists():
            yield read_json(path)


def examples_from(cells: Iterable[Mapping[str, Any]]) -> list[Example]:
    """Return the drill-down examples of some cells."""
    return [
        Example(e["query"], {k: [tuple(x) for x in v] for k, v in e["lists"].items()})
        for c in cells
        for e in c["examples"]
    ]


def distinct_rows(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of all cells; first stage and oracle, which every cell of the same data repeats, once."""
    seen: set[tuple[Any, ...]] = set()
    out = []
    for result in results:
        for row in result["rows"]:
            if row["system"] in (FIRST, ORACLE):
                name = tuple(row[k] for k in ("domain", "data", "seed", "system", "measure", "n", "value"))
                if name in seen:
                    continue
                seen.add(name)
            out.append(row)
    return out

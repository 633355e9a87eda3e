"""A suite's main measure as Markdown tables: for an issue, a notebook or a page of documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_core.ablation.page import drop_rows
from rerank_core.ablation.results import distinct_rows, read_results
from rerank_core.files import atomic_write
from rerank_core.report import ALPHA

Row = Mapping[str, Any]


def markdown_of(manifest: Mapping[str, Any], cells: Sequence[Row]) -> str:
    """Return one table a domain: systems down, data across, value with its interval; ``*``: p < .05 to the first stage."""
    suite = manifest["suite"]
    parts = [f"## {suite['name']}", suite["title"]]
    rows = distinct_rows(cells)
    mains = {c["cell"]["domain"]: c["main"]["measure"] for c in cells if c["status"] == "done"}
    for domain, measure in mains.items():
        mine = [r for r in rows if r["domain"] == domain and r["measure"] == measure]
        parts += [f"### {domain}, {measure}", _table(mine)]
    drops = [r for r in drop_rows(cells, suite["familiar"], suite["new"]) if r["measure"] == "drop"]
    if drops:
        parts += ["### From familiar to new queries: the drop", _table([{**r, "data": "drop"} for r in drops])]
    failed = int(manifest["provenance"].get("failed", 0))
    return "\n\n".join([*parts, *([f"{failed} cells failed; results.csv says why."] if failed else [])]) + "\n"


def write_markdown(folder: str | Path, out: str | Path) -> None:
    """Write the tables of a result folder."""
    with atomic_write(out) as file:
        file.write(markdown_of(*read_results(folder)))


def _table(rows: Sequence[Row]) -> str:
    rows = [r for r in rows if r["value"] is not None]
    columns = list(dict.fromkeys((r["data"], r["n"]) for r in rows))
    lines = [
        "| system | " + " | ".join(f"{data}, n = {n}" for data, n in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for system in dict.fromkeys((r["system"], r.get("seed", 0)) for r in rows):
        cells = {(r["data"], r["n"]): _cell(r) for r in rows if (r["system"], r.get("seed", 0)) == system}
        lines.append(f"| {system[0]} | " + " | ".join(cells.get(c, "–") for c in columns) + " |")
    return "\n".join(lines)


def _cell(row: Row) -> str:
    p = row.get("p")
    star = "*" if p is not None and p < ALPHA else ""
    return f"{row['value']:.3f}{star} [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"

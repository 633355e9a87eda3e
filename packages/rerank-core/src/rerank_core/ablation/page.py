"""The report of an ablation: leaderboards, cross-domain matrix, quality against cost, drops, drill-down."""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.ablation.results import distinct_rows, examples_from, read_results
from rerank_core.experiment import FIRST, ORACLE
from rerank_core.files import atomic_write
from rerank_core.report import Page, Section, render


def write_report(folder: str | Path, out: str | Path) -> None:
    """Write the report of a result folder as one HTML page."""
    manifest, cells = read_results(folder)
    with atomic_write(out) as file:
        file.write(render(page_of(manifest, cells)))


def page_of(manifest: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> Page:
    """Build the page of a suite's results."""
    suite = manifest["suite"]
    rows = distinct_rows(cells)
    sections = []
    for name in dict.fromkeys(r["domain"] for r in rows):
        mine = [r for r in rows if r["domain"] == name]
        those = [c for c in cells if c["rows"] and c["rows"][0]["domain"] == name]
        plots = [svg for measure in [_main(those)] if (svg := quality_cost(mine, measure))]
        labelled = [_seeded(r, len(suite["seeds"]) > 1) for r in mine]
        sections.append(Section(name, manifest["titles"].get(name, name), labelled, examples_from(those)[:6], plots))
    drops = drop_rows(cells, suite["familiar"], suite["new"])
    if drops:
        note = (
            "Mean on familiar queries minus mean on new ones; 95 % interval by resampling both. New queries may also be "
            "harder or easier by themselves: compare systems with each other, and with the first stage."
        )
        sections.insert(0, Section("novelty", "From familiar to new queries", drops, note=note))
    failed = int(manifest["provenance"].get("failed", 0))
    intro = suite["title"] + (f" {failed} cells failed; results.csv says why." if failed else "")
    return Page(f"rerank: {suite['name']}", sections, manifest["provenance"], intro)


def _seeded(row: Mapping[str, Any], several: bool) -> Mapping[str, Any]:
    return {**row, "data": f"{row['data']}, seed {row['seed']}"} if several else row


def _main(cells: Sequence[Mapping[str, Any]]) -> str:
    return str(cells[0]["main"]["measure"]) if cells else ""


def quality_cost(rows: Sequence[Mapping[str, Any]], measure: str) -> str:
    """Plot a measure against wall seconds a query as SVG; empty where matplotlib or points are missing."""
    points = [
        (r["seconds"] / r["n"], r["value"], r["ci_low"], r["ci_high"], r["system"], r["data"])
        for r in rows
        if r["measure"] == measure and r.get("seconds") and r["n"] and r["value"] is not None
    ]
    if len(points) < 2 or importlib.util.find_spec("matplotlib") is None:
        return ""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # Fixed ids and no date, so that equal results give equal bytes; text as text, readable to screen readers.
    with mpl.rc_context({"svg.hashsalt": "rerank", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8, 4.2), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for data in dict.fromkeys(p[5] for p in points):
            mine = [p for p in points if p[5] == data]
            x, y = [p[0] for p in mine], [p[1] for p in mine]
            spread = [[p[1] - p[2] for p in mine], [p[3] - p[1] for p in mine]]
            axes.errorbar(x, y, np.maximum(spread, 0), fmt="o", capsize=2, label=data)
            for p in mine:
                axes.annotate(p[4], (p[0], p[1]), textcoords="offset points", xytext=(4, 4), fontsize=7)
        axes.set(xscale="log", xlabel="seconds a query", ylabel=measure)
        if len({p[5] for p in points}) > 1:
            axes.legend(fontsize=7)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    # The page stands alone: no document type, and no metadata with addresses of vocabularies.
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)


def drop_rows(
    cells: Sequence[Mapping[str, Any]],
    familiar: Sequence[str],
    new: Sequence[str],
    *,
    seed: int = 0,
    n_boot: int = 2000,
) -> list[dict[str, Any]]:
    """Return, for each system, its value on familiar and on new data and the drop with its interval."""
    if not familiar or not new:
        return []
    pooled: dict[str, dict[str, list[float]]] = {}
    measure = ""
    for cell in cells:
        row = next((r for r in cell["rows"] if r["system"] not in (FIRST, ORACLE)), None)
        if row is None or cell["status"] != "done":
            continue
        side = "familiar" if row["data"] in familiar else "new" if row["data"] in new else ""
        if side:
            measure = cell["main"]["measure"]
            sides = pooled.setdefault(row["system"], {"familiar": [], "new": []})
            sides[side].extend(cell["main"]["values"].values())
    rng = np.random.default_rng(seed)
    out = []
    for system, sides in pooled.items():
        a, b = np.array(sides["familiar"]), np.array(sides["new"])
        if not len(a) or not len(b):
            continue
        means = [_resampled(x, rng, n_boot) for x in (a, b)]
        for name, value, sample, n in (
            (f"{measure} familiar", a.mean(), means[0], len(a)),
            (f"{measure} new", b.mean(), means[1], len(b)),
            ("drop", a.mean() - b.mean(), means[0] - means[1], len(a) + len(b)),
        ):
            low, high = np.percentile(sample, [2.5, 97.5])
            out.append(
                {
                    "domain": "novelty",
                    "data": "",
                    "system": system,
                    "measure": name,
                    "value": float(value),
                    "n": n,
                    "ci_low": float(low),
                    "ci_high": float(high),
                }
            )
    return out


def _resampled(values: np.ndarray, rng: np.random.Generator, n_boot: int) -> np.ndarray:
    return values[rng.integers(0, len(values), (n_boot, len(values)))].mean(axis=1)

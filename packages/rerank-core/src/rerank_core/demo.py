"""``rerank demo``: every domain's embedded sample through its rerankers, as a table and one HTML page."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank_core.domain import Domain
from rerank_core.errors import RerankError
from rerank_core.experiment import FIRST, ORACLE, trial
from rerank_core.files import atomic_write, write_json
from rerank_core.machine import provenance
from rerank_core.report import Page, Section, examples_of, render
from rerank_core.terminal import console


def run_demo(domains: Sequence[Domain[Any, Any]], out: Path | None = None, *, seed: int = 0) -> list[str]:
    """Run the samples, print a table, and write ``report.html`` and ``results.json`` where a folder is given.

    Returns
    -------
    list of str
        What failed, one line a domain or method; the rest is done all the same.
    """
    rows: list[dict[str, Any]] = []
    sections: list[Section] = []
    failures: list[str] = []
    start = time.perf_counter()
    for domain in domains:
        print(f"{domain.name}: building the sample ...", file=sys.stderr, flush=True)
        try:
            dataset = domain.sample()
            rerankers = {}
            for name in domain.demo_methods:
                try:
                    rerankers[name] = domain.method(name)
                except RerankError as error:
                    failures.append(f"{domain.name} {name}: {error}")
            print(
                f"{domain.name}: {len(dataset.requests)} queries, {', '.join(rerankers)} ...",
                file=sys.stderr,
                flush=True,
            )
            result = trial(domain, dataset, rerankers, seed=seed)
        except RerankError as error:
            failures.append(f"{domain.name}: {error}")
            continue
        rows.extend(result.rows)
        examples = examples_of(domain, dataset, result.rankings)
        note = domain.notes.get("sample", "")
        sections.append(Section(domain.name, domain.title, result.rows, examples, note=note))
    _print(rows)
    for failure in failures:
        print(f"failed: {failure}", file=sys.stderr)
    if out is not None:
        write_json(out / "results.json", rows)
        facts = provenance() | {"seconds": round(time.perf_counter() - start, 1), "seed": seed}
        if failures:
            facts["failed"] = failures
        page = Page(
            "rerank demo",
            sections,
            facts,
            "Every installed domain's embedded sample: first stage, rerankers, and the oracle, a perfect reranker of the "
            "same candidates. Samples are small and easy to run; they show that things work, not how good a method is "
            "in your field.",
        )
        with atomic_write(out / "report.html") as file:
            file.write(render(page))
        print(f"{out / 'report.html'}", file=sys.stderr)
    return failures


def _print(rows: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table

    screen = console()
    for domain in dict.fromkeys(r["domain"] for r in rows):
        mine = [r for r in rows if r["domain"] == domain]
        measures = list(dict.fromkeys(r["measure"] for r in mine))[:4]
        n = max(r["n"] for r in mine)
        table = Table("system", *measures, "seconds", title=f"{domain} ({n} queries)", title_justify="left")
        cells = {(r["system"], r["measure"]): r for r in mine}
        for system in dict.fromkeys(r["system"] for r in mine):
            style = "italic" if system in (FIRST, ORACLE) else None
            seconds = next(r["seconds"] for r in mine if r["system"] == system)
            table.add_row(
                system,
                *(_cell(cells.get((system, m))) for m in measures),
                "" if seconds is None else f"{seconds:.1f}",
                style=style,
            )
        screen.print(table)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return "–"
    star = "*" if row.get("p") is not None and row["p"] < 0.05 else ""
    if row["ci_low"] is None:
        return f"{row['value']:.3f}{star}"
    return f"{row['value']:.3f}{star} \\[{row['ci_low']:.3f}, {row['ci_high']:.3f}]"

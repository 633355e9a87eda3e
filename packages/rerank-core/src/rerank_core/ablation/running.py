"""Runs a suite: every cell once, resumable, failures as cells with a reason."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rerank_core import domain as domains
from rerank_core.ablation.cells import Cell, spread
from rerank_core.ablation.inputs import Inputs
from rerank_core.ablation.results import distinct_rows, write_tables
from rerank_core.ablation.suites import Suite, read_suite
from rerank_core.ablation.systems import Runner
from rerank_core.engine import Executor, local
from rerank_core.errors import InputError, RerankError, UsageError
from rerank_core.experiment import FIRST, ORACLE, compare, oracle_rankings, statuses
from rerank_core.files import read_json, write_json
from rerank_core.io import write_run
from rerank_core.machine import provenance
from rerank_core.measures import COMMON, Measure, parse
from rerank_core.report import examples_of
from rerank_core.reranker import FirstStage, digest
from rerank_core.types import Cost, Ranking


def run_suite(
    path: str | Path, out: str | Path, *, data: Path | None = None, executor: Executor = local, progress: bool = True
) -> list[dict[str, Any]]:
    """Run a suite into a folder; finished cells are taken from there.

    Returns
    -------
    list of dict
        All result rows, those of earlier runs included. Failed cells have a row with ``status`` ``failed`` and a
        ``reason``.
    """
    suite = read_suite(path)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be made: {error.strerror or error}", out) from error
    wanted = {n for e in suite.experiments if e.domains != "all" for n in e.domains}
    names = list(domains.installed()) if any(e.domains == "all" for e in suite.experiments) else sorted(wanted)
    available = {n: domains.load(n) for n in names}
    inputs = Inputs(out, data, available)
    measures = [parse(m) for m in suite.measures]
    cells = _runnable(suite, spread(suite, available), data, progress)
    runner = Runner(executor)
    results: list[dict[str, Any]] = []
    fresh = 0
    for number, cell in enumerate(cells, 1):
        start = time.perf_counter()
        result, was_there = _cell(cell, inputs, out, measures, runner)
        results.append(result)
        fresh += not was_there
        if progress and not was_there:
            note = "" if result["status"] == "done" else f": {result['reason']}"
            print(
                f"[{number}/{len(cells)}] {cell.domain} {cell.data} {cell.label} seed {cell.seed}: {result['status']}"
                f" in {time.perf_counter() - start:.1f} s{note}",
                file=sys.stderr,
                flush=True,
            )
    rows = distinct_rows(results)
    write_tables(out, rows)
    facts = provenance() | {
        "suite": suite.name,
        "cells": len(cells),
        "failed": sum(r["status"] != "done" for r in results),
    }
    manifest = {
        "suite": suite.model_dump(mode="json"),
        "provenance": facts,
        "cells": [r["key"] for r in results],
        "titles": {n: d.title for n, d in available.items()},
    }
    write_json(out / "suite.json", manifest)
    if progress:
        print(f"{len(cells)} cells, {fresh} run now, {facts['failed']} failed -> {out}", file=sys.stderr)
    return rows


def _runnable(suite: Suite, cells: list[Cell], data: Path | None, progress: bool) -> list[Cell]:
    """Leave out, and say so, the cells on data folders where no folder was given."""
    if data is not None:
        return cells
    own = [c for c in cells if c.data == "sample"]
    missing = sorted({c.data for c in cells if c.data != "sample"})
    if missing and not own:
        raise UsageError(f"suite {suite.name!r} is about {', '.join(missing)}: needs --data FOLDER, which holds them")
    if missing and progress:
        print(f"left out, as there is no --data FOLDER: {', '.join(missing)}", file=sys.stderr)
    return own


def _cell(
    cell: Cell, inputs: Inputs, out: Path, measures: Sequence[Measure], runner: Runner
) -> tuple[dict[str, Any], bool]:
    """Return a cell's result and whether it was there already. Failures become results; only a user's stop goes up."""
    names = [m.name for m in measures]
    try:
        key = digest(inputs.key(cell), names)
    except RerankError as error:
        # Without its input a cell has no key; it is tried again every time.
        return _failed(cell, digest(asdict(cell), "no input"), str(error)), False
    path = out / "cells" / f"{key}.json"
    if path.exists():
        try:
            return read_json(path), True
        except InputError:
            path.unlink()
    try:
        result = _run(cell, key, inputs, out, measures, runner)
    except (
        RerankError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        OSError,
        RuntimeError,
        AssertionError,
    ) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = str(error) if isinstance(error, RerankError) else f"{type(error).__name__}: {error} ({where.name})"
        result = _failed(cell, key, reason)
        if not isinstance(error, RerankError):
            write_json(out / "failures" / f"{key}.json", {"traceback": traceback.format_exc()})
        return result, False  # not kept: the next run tries it again
    write_json(path, result)
    return result, False


def _failed(cell: Cell, key: str, reason: str) -> dict[str, Any]:
    row = _facts(cell) | {"system": cell.label, "measure": "", "value": None, "n": 0, "ci_low": None, "ci_high": None}
    return {"key": key, "status": "failed", "reason": reason, "rows": [row | {"status": "failed", "reason": reason}]}


def _facts(cell: Cell) -> dict[str, Any]:
    return {"domain": cell.domain, "data": cell.data, "seed": cell.seed, "kind": cell.system.kind}


def _run(
    cell: Cell, key: str, inputs: Inputs, out: Path, measures: Sequence[Measure], runner: Runner
) -> dict[str, Any]:
    domain, dataset = inputs.available[cell.domain], inputs.load(cell)
    if not dataset.requests:
        raise InputError(f"{cell.data} holds no requests")
    rankings, seconds = runner(domain, dataset, cell)
    systems = {FIRST: FirstStage().rerank(dataset.requests), cell.label: rankings, ORACLE: oracle_rankings(dataset)}
    own = [m for m in domain.measures if m.name not in {c.name for c in COMMON}]
    wanted = measures or [*(m for m in COMMON if m.name != "Oracle"), *own]
    rows = compare(dataset, systems, wanted, seed=cell.seed)
    total = sum((r.cost for r in rankings), Cost())
    for row in rows:
        row |= _facts(cell) | {"status": "done"}
        if row["system"] == cell.label:
            row |= {
                "seconds": round(seconds, 3),
                "calls": total.calls,
                "tokens": total.tokens,
                "statuses": statuses(rankings),
                "run": f"runs/{key}.trec",
            }
    _write_run(out / "runs" / f"{key}.trec", rankings, cell.system.name)
    shown = examples_of(domain, dataset, systems, n=3)
    main = next((m for m in wanted if m.name == "nDCG@10"), wanted[0]) if not measures else measures[0]
    values = main.rows(dataset.gold, {r.id: r for r in rankings}, {r.id: r for r in dataset.requests})
    return {
        "key": key,
        "status": "done",
        "reason": "",
        "rows": rows,
        "examples": [asdict(e) for e in shown],
        "main": {"measure": main.name, "values": {q: v[0] for q, v in values.items() if len(v) == 1}},
        "cell": asdict(cell) | {"budget": cell.budget.model_dump()},
    }


def _write_run(path: Path, rankings: Sequence[Ranking], tag: str) -> None:
    """Write a run; ids that TREC cannot hold are percent-encoded."""
    from urllib.parse import quote

    def safe(i: str) -> str:
        return quote(i, safe="/:@!$&'()*+,;=-._~|") if any(c.isspace() for c in i) or not i else i

    write_run(
        path,
        [Ranking(safe(r.id), tuple(replace(x, id=safe(x.id)) for x in r.items), r.status, r.cost) for r in rankings],
        tag,
    )

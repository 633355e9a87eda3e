"""Runs a suite: every reranker on every domain's data, resumable cell by cell, failures as cells with a reason.

A cell is keyed by the content of its input, the code that makes it and its parameters; a finished cell is never run
again. Results lie in the output folder: ``cells/KEY.json``, ``runs/KEY.trec``, ``results.csv`` and, where pyarrow is
installed, ``results.parquet``.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core import domain as domains
from rerank_core.budget import Budget, Meter
from rerank_core.domain import Domain
from rerank_core.engine import Executor, cut, input_hash, local
from rerank_core.errors import InputError, RerankError, UsageError
from rerank_core.experiment import FIRST, ORACLE, compare, oracle_rankings, statuses
from rerank_core.files import atomic_write, read_json, write_json
from rerank_core.fusion import fuse
from rerank_core.io import write_run
from rerank_core.learning import FeatureTable, cross_fit, gains_of, rank_features
from rerank_core.machine import provenance
from rerank_core.measures import COMMON, Measure, parse
from rerank_core.report import Example, examples_of
from rerank_core.reranker import FirstStage, digest
from rerank_core.suites import BudgetSpec, Experiment, MethodGrid, Suite, grid, read_suite
from rerank_core.types import Cost, Dataset, Ranking

LEARNED = "learned"


@dataclass(frozen=True)
class System:
    """What a cell runs: a method or judge with settings, or a fusion of the experiment's methods."""

    name: str
    kind: str  # method | judge | fuse
    config: Mapping[str, Any]
    parts: tuple[tuple[str, str], ...] = ()  # of a fusion: (name, settings as JSON)

    @property
    def label(self) -> str:
        """Name and settings, as shown."""
        shown = ", ".join(f"{k}={v}" for k, v in self.config.items() if k != "seed")
        return f"{self.name}({shown})" if shown else self.name


@dataclass(frozen=True)
class Cell:
    """One run: a system on some data of a domain, with a seed and a budget."""

    domain: str
    data: str
    requests: int | None
    candidates: int | None
    system: System
    seed: int
    budget: BudgetSpec

    @property
    def label(self) -> str:
        """The system with its budget."""
        limits = {k: v for k, v in self.budget.model_dump().items() if v is not None}
        shown = ", ".join(f"{k} <= {v:g}" for k, v in limits.items())
        return f"{self.system.label} [{shown}]" if shown else self.system.label


def spread(suite: Suite, available: Mapping[str, Domain[Any, Any]]) -> list[Cell]:
    """Spread a suite out into cells.

    Raises
    ------
    UsageError
        When it names a domain that is not installed.
    """
    cells: list[Cell] = []
    for e in suite.experiments:
        names = list(available) if e.domains == "all" else e.domains
        for name in names:
            if name not in available:
                raise UsageError(f"suite {suite.name!r}: domain {name!r} is not installed; {', '.join(available)}")
            for data in ["sample"] if e.data == "sample" else e.data.get(name, []):
                for seed in suite.seeds:
                    for system in _systems(e, available[name], seed):
                        cells.extend(
                            Cell(name, data, e.requests, e.candidates, system, seed, budget) for budget in e.budgets
                        )
    return _distinct(cells)


def _distinct(cells: Iterable[Cell]) -> list[Cell]:
    seen: dict[str, Cell] = {}
    for cell in cells:
        seen.setdefault(digest(asdict(cell)), cell)
    return list(seen.values())


def _systems(e: Experiment, domain: Domain[Any, Any], seed: int) -> list[System]:
    if e.methods == "demo":
        wanted: Sequence[str | MethodGrid] = domain.demo_methods
    elif e.methods == "all":
        wanted = list(domain.methods)
    else:
        wanted = e.methods
    out = []
    for item in wanted:
        method = MethodGrid(name=item) if isinstance(item, str) else item
        for config in method.settings():
            known = domain.methods[method.name].default if method.name in domain.methods else {}
            out.append(System(method.name, "method", {**config, **({"seed": seed} if "seed" in known else {})}))
    if domain.rendering is not None:
        for judge in e.judges:
            out.extend(System(judge, "judge", {**c, "seed": seed}) for c in grid(e.judge_settings))
    parts = tuple((s.name, json.dumps(dict(s.config), sort_keys=True)) for s in out)
    return out + [System(name, "fuse", {}, parts) for name in e.fuse]


# -- identity ------------------------------------------------------------------------------------------------------


def code_version(packages: Iterable[str]) -> str:
    """Return a digest of the source files of packages, so that changed code makes new cells."""
    h = hashlib.sha256()
    for package in sorted(set(packages)):
        spec = importlib.util.find_spec(package)
        if spec is None:
            continue
        roots = sorted(spec.submodule_search_locations or ())
        files = [f for root in roots for f in sorted(Path(root).rglob("*.py"))] or [Path(spec.origin or "")]
        for path in files:
            h.update(path.name.encode())
            h.update(path.read_bytes())
    return h.hexdigest()[:16]


def data_version(path: Path) -> str:
    """Return a digest of a data folder's file names, sizes and times: what tells that it changed without reading it."""
    h = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        stat = file.stat()
        h.update(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return h.hexdigest()[:16]


class Inputs:
    """Datasets by (domain, data, limits), loaded once, and their content's digest, remembered across runs.

    The digest of an unchanged folder or sample is looked up in ``inputs.json`` instead of loading the data again.
    """

    def __init__(self, out: Path, data: Path | None, available: Mapping[str, Domain[Any, Any]]) -> None:
        self.data, self.available = data, available
        self._file = out / "inputs.json"
        self._known: dict[str, str] = read_json(self._file) if self._file.exists() else {}
        self._loaded: dict[str, Dataset[Any, Any]] = {}
        own = {n: e.value.partition(":")[0].partition(".")[0] for n, e in domains.installed().items()}
        self._code = {n: code_version(["rerank_core", "rerank_lm", own[n]]) for n in available}

    def code(self, name: str) -> str:
        """Return the digest of the code behind a domain's cells."""
        return self._code[name]

    def _folder(self, data: str) -> Path:
        if self.data is None:
            raise InputError(f"data {data!r} needs --data FOLDER")
        path = self.data / data
        if not path.exists():
            raise InputError("does not exist", path)
        return path

    def key(self, cell: Cell) -> str:
        """Return the cell's key: content of its input, code, parameters."""
        place = "sample" if cell.data == "sample" else data_version(self._folder(cell.data))
        identity = digest(
            cell.domain, cell.data, place, cell.requests, cell.candidates, cell.seed, self.code(cell.domain)
        )
        if identity not in self._known:
            dataset = self.load(cell)
            codec = self.available[cell.domain].codec
            self._known[identity] = digest(input_hash(dataset.requests, codec), dataset.gold, dataset.splits)
            write_json(self._file, self._known)
        return digest(self._known[identity], self.code(cell.domain), asdict(cell))

    def load(self, cell: Cell) -> Dataset[Any, Any]:
        """Return the cell's dataset, cut to its limits."""
        whole_key = digest(cell.domain, cell.data)
        if whole_key not in self._loaded:
            domain = self.available[cell.domain]
            if cell.data == "sample":
                self._loaded[whole_key] = domain.sample()
            elif domain.load is None:
                raise UsageError(f"domain {cell.domain!r} reads no data folders")
            else:
                self._loaded[whole_key] = domain.load(self._folder(cell.data))
        return limited(self._loaded[whole_key], cell.requests, cell.candidates, cell.seed)


def limited(dataset: Dataset[Any, Any], requests: int | None, candidates: int | None, seed: int) -> Dataset[Any, Any]:
    """Draw whole groups until there are enough requests; keep the first candidates of each.

    Requests that are ranked jointly (one ``group``) and those of one split stay together.
    """
    chosen = list(dataset.requests)
    if requests is not None and len(chosen) > requests:
        units: dict[str, list[Any]] = {}
        for r in chosen:
            units.setdefault(r.group or dataset.group_of(r.id), []).append(r)
        names = sorted(units)
        keep: set[str] = set()
        for i in np.random.default_rng(seed).permutation(len(names)):
            unit = units[names[i]]
            if len(keep) + len(unit) <= requests or not keep:
                keep.update(r.id for r in unit)
            if len(keep) >= requests:
                break
        chosen = [r for r in chosen if r.id in keep]
    if candidates is not None:
        chosen = [replace(r, candidates=r.candidates[:candidates]) for r in chosen]
    ids = {r.id for r in chosen}
    return replace(dataset, requests=chosen, gold={q: g for q, g in dataset.gold.items() if q in ids})


# -- running -------------------------------------------------------------------------------------------------------


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
    cells = spread(suite, available)
    results: list[dict[str, Any]] = []
    fresh = 0
    for number, cell in enumerate(cells, 1):
        start = time.perf_counter()
        result, was_there = _cell(cell, inputs, out, measures, executor)
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
    _write_tables(out, rows)
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


def _cell(
    cell: Cell, inputs: Inputs, out: Path, measures: Sequence[Measure], executor: Executor
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
        result = _run(cell, key, inputs, out, measures, executor)
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
    cell: Cell, key: str, inputs: Inputs, out: Path, measures: Sequence[Measure], executor: Executor
) -> dict[str, Any]:
    domain, dataset = inputs.available[cell.domain], inputs.load(cell)
    if not dataset.requests:
        raise InputError(f"{cell.data} holds no requests")
    start = time.perf_counter()
    rankings = system_rankings(domain, dataset, cell.system, cell.budget.budget(), executor, cell.seed)
    seconds = time.perf_counter() - start
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


def system_rankings(
    domain: Domain[Any, Any],
    dataset: Dataset[Any, Any],
    system: System,
    budget: Budget | None,
    executor: Executor,
    seed: int,
) -> list[Ranking]:
    """Run one system on a dataset; gold is used by ``learned`` alone, and there across folds of whole groups."""
    requests = dataset.requests
    if system.kind == "fuse":
        parts = [
            system_rankings(domain, dataset, System(n, "method", json.loads(c)), budget, executor, seed)
            for n, c in system.parts
        ]
        lists = [FirstStage().rerank(requests), *parts]
        return _learned(dataset, lists, seed) if system.name == LEARNED else _fused(dataset, lists, system.name)
    reranker = domain.method(system.name, dict(system.config))
    limited_ = None if budget is None or budget == Budget() else budget
    found = executor(reranker, enumerate(cut(requests, 64)), Meter(limited_))
    by_id = {r.id: r for _, rankings in found for r in rankings}
    return [by_id[r.id] for r in requests]


def _fused(dataset: Dataset[Any, Any], lists: Sequence[Sequence[Ranking]], method: str) -> list[Ranking]:
    out = []
    for request, *rankings in zip(dataset.requests, *lists, strict=True):
        scores = fuse([{x.id: x.score for x in r.items if x.score is not None} for r in rankings], method)
        cost = sum((r.cost for r in rankings), Cost())
        out.append(Ranking.from_scores(request, [scores.get(i, np.nan) for i in request.ids], cost=cost))
    return out


def _learned(dataset: Dataset[Any, Any], lists: Sequence[Sequence[Ranking]], seed: int) -> list[Ranking]:
    """LambdaRank over every list's reciprocal rank, z-score and gap, cross-fitted over split groups."""
    requests = dataset.requests
    columns = [
        rank_features("", {str(i): r.scores_for(q) for i, r in enumerate(rankings)})
        for q, *rankings in zip(requests, *lists, strict=True)
    ]
    names = tuple(columns[0]) if columns else ()
    values = np.concatenate([np.column_stack([c[n] for n in names]) for c in columns])
    offsets = np.concatenate([[0], np.cumsum([len(r.candidates) for r in requests])])
    table = FeatureTable(names, values, offsets)
    groups = [r.group or dataset.group_of(r.id) for r in requests]
    folds = min(5, len(set(groups)))
    if folds < 2:
        raise InputError("learned fusion needs at least two split groups, to train on one and test on the other")
    scores = cross_fit(table, gains_of(requests, dataset.gold), groups, folds, seed=seed)
    costs = [sum((r.cost for r in rankings), Cost()) for rankings in zip(*lists, strict=True)]
    return [Ranking.from_scores(r, s, cost=c) for r, s, c in zip(requests, table.split(scores), costs, strict=True)]


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


# -- results -------------------------------------------------------------------------------------------------------

COLUMNS = (
    "domain", "data", "system", "kind", "seed", "measure", "value", "ci_low", "ci_high", "n", "p",
    "seconds", "calls", "tokens", "status", "reason", "run",
)  # fmt: skip


def _write_tables(out: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with atomic_write(out / "results.csv") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if importlib.util.find_spec("pyarrow") is None:
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rerank_core.files import atomic_path

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

"""Judging and fusing TREC run files: what ``rerank eval`` and ``rerank fuse`` do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import UsageError
from rerank_core.fusion import FUSIONS, fuse
from rerank_core.io import Run, read_qrels, read_run, trec_order, write_run
from rerank_core.measures import Missing, parse, rows_of_run, settle, summarise
from rerank_core.statistics import paired_bootstrap, randomisation_test
from rerank_core.types import Gold, Ranked, Ranking


def judge_runs(
    qrels: Path,
    runs: Sequence[Path],
    measures: Sequence[str],
    level: int | None = None,
    missing: Missing = "zero",
    oracle: Sequence[int] = (),
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Judge runs; from the second on, with the paired difference to the first run, its interval and p.

    Parameters
    ----------
    oracle
        For each K and each run, also judge a perfect rerank of the run's first K.
    """
    gold = read_qrels(qrels)
    wanted = [parse(m, level=level) for m in measures]
    systems: dict[str, Run] = {}
    for path, name in zip(runs, names_of(runs), strict=True):
        systems[name] = read_run(path)
        for k in oracle:
            systems[f"{name} (perfect top {k})"] = perfect(systems[name], gold, k)
    first = next(iter(systems))
    out = []
    for measure in wanted:
        base = None
        for name, run in systems.items():
            rows = settle(rows_of_run(measure, gold, run), gold, run, missing)
            row = summarise(measure, rows, system=name, seed=seed).as_dict()
            flat = {q: r[0] for q, r in rows.items() if len(r) == 1}
            if name == first:
                base = flat
            elif base and set(flat) & set(base):
                diff, low, high, _ = paired_bootstrap(flat, base, seed=seed)
                row |= {
                    "baseline": first,
                    "diff": diff,
                    "diff_low": low,
                    "diff_high": high,
                    "p": randomisation_test(flat, base, seed=seed),
                }
            out.append(row)
    return out


def names_of(paths: Sequence[Path]) -> list[str]:
    """Name each run by its file, with as many parent folders as it takes to tell them apart."""
    stems = [p.name.removesuffix(".gz").removesuffix(".trec").removesuffix(".run") for p in paths]
    if len(set(stems)) == len(stems):
        return stems
    return [str(p) if len({str(x) for x in paths}) == len(paths) else f"{p}#{i}" for i, p in enumerate(paths, 1)]


def perfect(run: Run, gold: Gold, k: int) -> Run:
    """Return the run with the first ``k`` of each query sorted by grade and the rest left out."""
    out: Run = {}
    for q, docs in run.items():
        head = trec_order(docs)[:k]
        head.sort(key=lambda d: -gold.get(q, {}).get(d, 0.0))
        out[q] = {d: float(len(head) - i) for i, d in enumerate(head)}
    return out


def fuse_runs(
    paths: Sequence[Path],
    out: Path,
    method: str = "rrf",
    weights: Sequence[float] | None = None,
    *,
    k: float = 60.0,
    protect: int = 1,
    depth: int | None = None,
) -> None:
    """Fuse run files query by query and write one run."""
    if method not in FUSIONS:
        raise UsageError(f"unknown fusion {method!r}; known: {', '.join(sorted(FUSIONS))}")
    if len(paths) < 2:
        raise UsageError("fusion needs at least two --run")
    if weights and len(weights) != len(paths):
        raise UsageError(f"{len(weights)} --weight for {len(paths)} --run")
    options: dict[str, Any] = {"k": k} if method == "rrf" else {"h": protect} if method == "head" else {}
    runs = [read_run(p) for p in paths]
    queries = list(dict.fromkeys(q for run in runs for q in run))
    write_run(out, (_fused(q, runs, method, weights, options, depth) for q in queries), tag=method)


def _fused(
    query: str,
    runs: Sequence[Run],
    method: str,
    weights: Sequence[float] | None,
    options: dict[str, Any],
    depth: int | None,
) -> Ranking:
    scores = fuse([run.get(query, {}) for run in runs], method, weights=weights or None, **options)
    items = [Ranked(d, float(np.float64(s))) for d, s in scores.items()]
    return Ranking(query, tuple(items[:depth]))

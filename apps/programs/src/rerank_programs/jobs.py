"""The work behind the commands, free of argument parsing: files in, files out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_core.cache import cache_home
from rerank_core.errors import InputError, UsageError
from rerank_core.files import read_json
from rerank_core.io import write_run
from rerank_core.measures import Row

from rerank_programs.data import read_candidates, read_labels
from rerank_programs.domain import METHODS, domain
from rerank_programs.equality import MODES
from rerank_programs.execution import need_data
from rerank_programs.expectation import Expectation
from rerank_programs.measures import judge
from rerank_programs.output import (
    evidence_to_json,
    ranking_record,
    read_records,
    write_bird_json,
    write_records,
    write_sql_lines,
)
from rerank_programs.rerank import ByOutcome, Semantic


@dataclass(frozen=True)
class RunOptions:
    """How to rerank."""

    method: str = "semantic"
    mode: str = "spider"
    seconds: float = 2.0
    memory_mib: int = 512
    workers: int = 2
    cache: Path | None = None
    no_cache: bool = False
    unsafe_local: bool = False
    model: Path | None = None
    expected: Path | None = None

    def config(self) -> dict[str, Any]:
        """Return the settings that the method knows."""
        if self.mode not in MODES:
            raise UsageError(f"unknown comparison mode {self.mode!r}; known: {', '.join(MODES)}")
        cache = None if self.no_cache else str(self.cache or cache_home() / "programs" / "outcomes.sqlite")
        known = {
            "mode": self.mode,
            "seconds": self.seconds,
            "memory_mib": self.memory_mib,
            "workers": self.workers,
            "cache": cache,
            "unsafe_local": self.unsafe_local,
            "model": None if self.model is None else str(self.model),
        }
        default = METHODS[self.method].default if self.method in METHODS else {}
        return {k: v for k, v in known.items() if k in default}


def rerank(
    candidates: Path,
    databases: Path | None,
    out: Path,
    options: RunOptions,
    run_file: Path | None = None,
    sql_lines: Path | None = None,
    bird_json: Path | None = None,
) -> dict[str, Any]:
    """Rerank a file of candidates and write everything asked for; return a summary."""
    reranker = domain.method(options.method, options.config())
    requests = read_candidates(candidates, databases)
    summary: dict[str, Any] = {"method": options.method, "requests": len(requests)}
    if isinstance(reranker, ByOutcome):
        need_data(requests)
        if options.expected is not None:
            if not isinstance(reranker.scorer, Semantic):
                raise UsageError("--expected goes with --method semantic")
            reranker.scorer.expected.update(_expected(options.expected))
        evidence = reranker.evidence(requests)
        rankings = [e.ranking for e in evidence]
        records = [evidence_to_json(e) for e in evidence]
        summary |= {
            "programs": sum(len(r.candidates) for r in requests),
            "executed": reranker.executor.executed,
            "isolation": sorted({o.isolation for e in evidence for o in e.outcomes if o.isolation}),
            "all_failed": sum(e.picked.all_failed for e in evidence),
        }
    else:
        rankings = reranker.rerank(requests)
        records = [ranking_record(x, r) for x, r in zip(rankings, requests, strict=True)]
    for record in records:
        record["method"] = options.method
    write_records(out, records)
    if run_file is not None:
        write_run(run_file, rankings, tag=options.method)
    if sql_lines is not None:
        write_sql_lines(sql_lines, records)
    if bird_json is not None:
        write_bird_json(bird_json, records)
    return summary


def _expected(path: Path) -> dict[str, Expectation]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError("an object of request id -> predicted output was expected", path)
    return {str(k): Expectation.parse(v) for k, v in value.items()}


def summary_line(summary: dict[str, Any]) -> str:
    """Return a rerank's summary in one line."""
    parts = [f"{summary['requests']} requests by {summary['method']}"]
    if "programs" in summary:
        parts.append(f"{summary['programs']} programs, {summary['executed']} run now")
        parts.append(f"isolation {', '.join(summary['isolation']) or 'none'}")
    if summary.get("all_failed"):
        parts.append(f"{summary['all_failed']} requests where nothing ran")
    return "; ".join(parts)


def evaluate(ranking: Path, labels: Path, seed: int = 0) -> list[Row]:
    """Judge a ranking file against labels.

    Raises
    ------
    InputError
        When the two share no request.
    """
    records = read_records(ranking)
    gold = read_labels(labels)
    rankings = [r for r, _ in records]
    if not any(r.id in gold for r in rankings):
        raise InputError(f"no request of it has a label in {labels}", ranking)
    system = str(records[0][1].get("method", "ranking"))
    confidence = {r.id: float(x["confidence"]) for r, x in records if x.get("confidence") is not None}
    return judge(gold, rankings, confidence, system=system, seed=seed)

"""The work behind the commands, free of argument parsing: files in, files out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_core.cache import cache_home
from rerank_core.errors import InputError, UsageError
from rerank_core.files import read_json
from rerank_core.io import write_run
from rerank_core.measures import Row
from rerank_core.statistics import paired_bootstrap
from rerank_core.types import Gold
from rerank_programs.data import find_database, read_candidates, read_labels
from rerank_programs.domain import METHODS, domain
from rerank_programs.equality import MODES
from rerank_programs.execution import need_data
from rerank_programs.expectation import Expectation
from rerank_programs.measures import judge, mcnemar
from rerank_programs.output import (
    evidence_to_json,
    ranking_record,
    read_records,
    write_bird_json,
    write_records,
    write_sql_lines,
)
from rerank_programs.predictions import merge, read_predictions
from rerank_programs.rerank import ByOutcome, Evidence, Semantic
from rerank_programs.results import Verdict

if TYPE_CHECKING:
    from rerank_programs.explain import Explanation


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
    pred: tuple[Path, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    budget_calls: int | None = None
    budget_seconds: float | None = None

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
            "budget_calls": self.budget_calls,
            "budget_seconds": self.budget_seconds,
            "model": None if self.model is None else str(self.model),
        }
        default = METHODS[self.method].default if self.method in METHODS else {}
        return {k: v for k, v in known.items() if k in default} | dict(self.settings)


@dataclass(frozen=True)
class Outputs:
    """Files to write."""

    ranking: Path
    run: Path | None = None
    sql_lines: Path | None = None
    bird_json: Path | None = None


def rerank(
    candidates: Path, databases: Path | None, outputs: Outputs, options: RunOptions
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Rerank a file of candidates and write everything asked for; return a summary and the records."""
    reranker = domain.method(options.method, options.config())
    requests = read_candidates(candidates, databases)
    for path in options.pred:
        requests = merge(requests, read_predictions(path), path)
    summary: dict[str, Any] = {"method": options.method, "requests": len(requests)}
    if isinstance(reranker, ByOutcome):
        need_data(requests)
        if options.expected is not None:
            if not isinstance(reranker.scorer, Semantic):
                raise UsageError("--expected goes with --method semantic")
            reranker.scorer.expected.update(_expected(options.expected))
        evidence = reranker.evidence(requests)
        if options.model is not None and options.method != "learned":
            evidence = calibrated(evidence, options.method, options.model)
        rankings = [e.ranking for e in evidence]
        records = [evidence_to_json(e) for e in evidence]
        summary |= {
            "programs": sum(len(r.candidates) for r in requests),
            "executed": reranker.executor.executed,
            "isolation": sorted({o.isolation for e in evidence for o in e.outcomes if o.isolation}),
            "all_failed": sum(e.picked.all_failed for e in evidence),
            "over_budget": sum(o.verdict is Verdict.NOT_RUN for e in evidence for o in e.outcomes),
        }
    else:
        rankings = reranker.rerank(requests)
        records = [ranking_record(x, r) for x, r in zip(rankings, requests, strict=True)]
    for record in records:
        record["method"] = options.method
    write_records(outputs.ranking, records)
    if outputs.run is not None:
        write_run(outputs.run, rankings, tag=options.method)
    if outputs.sql_lines is not None:
        write_sql_lines(outputs.sql_lines, records)
    if outputs.bird_json is not None:
        write_bird_json(outputs.bird_json, records)
    return summary, records


def calibrated(evidence: list[Evidence], method: str, model: Path) -> list[Evidence]:
    """Replace shares by the probabilities that `fit` learned for a method."""
    from rerank_programs.learned import Calibration

    calibration = Calibration.load(model, method)
    return [replace(e, picked=replace(e.picked, confidence=calibration.confidence(e.picked))) for e in evidence]


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
    if summary.get("over_budget"):
        parts.append(f"{summary['over_budget']} programs not run: the budget was spent")
    if summary.get("all_failed"):
        parts.append(f"{summary['all_failed']} requests where nothing ran")
    return "; ".join(parts)


def evaluate(ranking: Path, labels: Path, seed: int = 0, against: Path | None = None) -> list[dict[str, Any]]:
    """Judge a ranking file against labels.

    Raises
    ------
    InputError
        When the two share no request.
    """
    gold = read_labels(labels)
    rows, first = _judged(ranking, gold, labels, seed)
    if against is None:
        return rows
    other_rows, other = _judged(against, gold, labels, seed)
    common = sorted(set(first) & set(other))
    difference, low, high, p = paired_bootstrap(first, other, seed=seed)
    only, only_other, mcnemar_p = mcnemar([first[i] for i in common], [other[i] for i in common])
    rows += other_rows
    rows.append(
        {
            "system": f"{rows[0]['system']} - {other_rows[0]['system']}",
            "measure": "EX@1",
            "value": difference,
            "n": len(common),
            "ci_low": low,
            "ci_high": high,
            "p": p,
            "mcnemar_p": mcnemar_p,
            "only_first": only,
            "only_second": only_other,
        }
    )
    return rows


def _judged(path: Path, gold: Gold, labels: Path, seed: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    records = read_records(path)
    rankings = [r for r, _ in records]
    if not any(r.id in gold for r in rankings):
        raise InputError(f"no request of it has a label in {labels}", path)
    system = str(records[0][1].get("method", "ranking"))
    confidence = {r.id: float(x["confidence"]) for r, x in records if x.get("confidence") is not None}
    rows = judge(gold, rankings, confidence, system=system, seed=seed)
    right = {r.id: gold[r.id].get(r.ids[0], 0.0) for r in rankings if r.id in gold}
    return [r.as_dict() for r in rows], right


def fit(
    candidates: Path,
    labels: Path,
    databases: Path | None,
    out: Path,
    options: RunOptions,
    *,
    use_sources: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Train the learned ranker and every method's calibration into a folder; return cross-validated figures."""
    from rerank_programs.learned import train

    requests = read_candidates(candidates, databases)
    need_data(requests)
    gold = read_labels(labels)
    kept = [r for r in requests if r.id in gold]
    if len(kept) < 20:
        raise InputError(f"only {len(kept)} requests have labels; at least 20 are needed", labels)
    reranker = domain.method("vote", options.config())
    assert isinstance(reranker, ByOutcome)
    outcomes = reranker.executor.outcomes(kept)
    return [r.as_dict() for r in train(kept, outcomes, gold, out, use_sources=use_sources, seed=seed)]


def codet(
    tasks: Path,
    candidates: Path,
    tests: Path,
    out: Path,
    *,
    matrices: Path | None = None,
    save_matrices: Path | None = None,
    labels: Path | None = None,
    test_seconds: float = 0.1,
    workers: int = 2,
    unsafe_local: bool = False,
    seed: int = 0,
) -> list[Row]:
    """Rank completions by CodeT; return pass@k where labels are given."""
    from rerank_programs import codet as science

    requests = science.read_problems(tasks, candidates)
    written = science.read_tests(tests, tasks)
    if matrices is not None:
        passed, isolation = science.read_matrices(matrices, requests, written), "none (matrices read)"
    else:
        config = science.CodeTConfig(test_seconds=test_seconds)
        passed, isolation = science.pass_matrix(requests, written, config, workers=workers, unsafe_local=unsafe_local)
    sets = {
        r.id: science.consensus(
            passed[r.id], [c.content.count for c in r.candidates], [t.count for t in written.get(r.id, ())]
        )
        for r in requests
    }
    records = [science.record(r, sets[r.id], isolation) for r in requests]
    write_records(out, records)
    if save_matrices is not None:
        write_records(save_matrices, (science.matrix_record(r.id, passed[r.id]) for r in requests))
    if labels is None:
        return []
    return science.pass_rows(requests, sets, read_labels(labels), seed=seed)


def explain_one(ranking: Path, request: str, databases: Path | None) -> Explanation:
    """Explain one request of a ranking file.

    Raises
    ------
    UsageError
        When it is not in the file.
    """
    from rerank_programs.explain import explain

    record = next((x for r, x in read_records(ranking) if r.id == request), None)
    if record is None:
        raise UsageError(f"{ranking} has no request {request!r}")
    database = None
    if databases is not None and record.get("database"):
        database = find_database(databases, str(record["database"]))
        if database is None:
            raise InputError(f"database {record['database']!r} is not there", databases)
    return explain(record, database or record.get("data"))

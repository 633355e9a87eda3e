"""The command ``rerank-programs``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rerank_core.cli import (
    BudgetCalls,
    BudgetSeconds,
    ConfigOption,
    JsonFlag,
    OutOption,
    SeedOption,
    app_for,
    print_json,
    print_rows,
    run,
    set_threads,
    settings,
)

if TYPE_CHECKING:
    from rerank_core.domain import Domain


def _domain() -> Domain[Any, Any]:
    from rerank_programs.domain import domain

    return domain


app = app_for(
    _domain,
    help_text="Rerank generated programs (SQL, Python and pandas, Power Query M) by what they do.",
    without=("rerank", "eval"),
)

Databases = Annotated[Path | None, typer.Option("--databases", help="Folder of the databases that db_id names.")]
Workers = Annotated[int, typer.Option("--threads", help="Worker processes; 0 = min(cores, 2).")]
Unsafe = Annotated[bool, typer.Option("--unsafe-local", help="Run code even where this machine offers no isolation.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0.01, help="Time limit of one program.")]
Memory = Annotated[int, typer.Option("--memory-mib", min=16, help="Memory limit of one program.")]
CacheFile = Annotated[Path | None, typer.Option("--cache", help="Cache file; by default in the user's cache folder.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")]
Mode = Annotated[str, typer.Option("--mode", help="Comparison: spider, bird, ordered, bag, set, approx, frame.")]


@app.command("rerank")
def rerank_command(
    candidates: Annotated[Path, typer.Argument(help="Questions and candidate programs, JSONL (.gz).")],
    out: OutOption,
    databases: Databases = None,
    method: Annotated[str, typer.Option("--method", help="Reranker; `methods` lists them.")] = "semantic",
    model: Annotated[Path | None, typer.Option("--model", help="Folder written by `fit`.")] = None,
    mode: Mode = "spider",
    pred: Annotated[list[Path] | None, typer.Option("--pred", help="More candidates: a prediction file.")] = None,
    config: ConfigOption = None,
    expected: Annotated[Path | None, typer.Option("--expected", help="JSON: request id -> predicted output.")] = None,
    seconds: Seconds = 2.0,
    memory_mib: Memory = 512,
    threads: Workers = 0,
    cache: CacheFile = None,
    no_cache: NoCache = False,
    unsafe_local: Unsafe = False,
    run_file: Annotated[Path | None, typer.Option("--run", help="Also write a TREC run.")] = None,
    sql_lines: Annotated[
        Path | None, typer.Option("--sql-lines", help="Also write the chosen SQL, one a line.")
    ] = None,
    bird_json: Annotated[Path | None, typer.Option("--bird-json", help="Also write BIRD's prediction JSON.")] = None,
    budget_calls: BudgetCalls = None,
    budget_seconds: BudgetSeconds = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print why each first one stands first.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Order candidate programs; write the ranking with clusters, lints, samples and confidence.

    A budget's calls are programs to run; those beyond it go last, and what the cache has is free.
    """
    from rerank_programs import jobs

    workers = threads or set_threads(0)
    options = jobs.RunOptions(
        method,
        mode,
        seconds,
        memory_mib,
        workers,
        cache,
        no_cache,
        unsafe_local,
        model,
        expected,
        tuple(pred or ()),
        settings(config),
        budget_calls,
        budget_seconds,
    )
    outputs = jobs.Outputs(out, run_file, sql_lines, bird_json)
    summary, records = jobs.rerank(candidates, databases, outputs, options)
    if explain:
        for record in records:
            first = record["ranking"][0]
            print(f"{record['id']}\t{first['id']}\t{first.get('reason', '')}", file=sys.stderr)
    if as_json:
        print_json(summary)
    else:
        print(jobs.summary_line(summary), file=sys.stderr)


@app.command("eval")
def eval_command(
    ranking: Annotated[Path, typer.Argument(help="Ranking written by `rerank`, `codet` or `fit`.")],
    labels: Annotated[Path, typer.Option("--labels", help="Which candidates are right, JSONL (.gz).")],
    against: Annotated[Path | None, typer.Option("--against", help="Another ranking: difference and McNemar.")] = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Score a ranking: EX@1, EX@3, ECE, coverage at 95 % accuracy, with bootstrap intervals."""
    from rerank_programs import jobs

    print_rows(jobs.evaluate(ranking, labels, seed, against), as_json)


@app.command("fit")
def fit_command(
    candidates: Annotated[Path, typer.Argument(help="Questions and candidate programs, JSONL (.gz).")],
    labels: Annotated[Path, typer.Option("--labels", help="Which candidates are right, JSONL (.gz).")],
    out: OutOption,
    databases: Databases = None,
    use_sources: Annotated[bool, typer.Option("--sources", help="Let the ranker know the systems by name.")] = False,
    seconds: Seconds = 2.0,
    memory_mib: Memory = 512,
    threads: Workers = 0,
    cache: CacheFile = None,
    no_cache: NoCache = False,
    unsafe_local: Unsafe = False,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Train the learned ranker and the calibration of every method; prints cross-validated figures."""
    from rerank_programs import jobs

    workers = threads or set_threads(0)
    options = jobs.RunOptions("vote", "spider", seconds, memory_mib, workers, cache, no_cache, unsafe_local)
    print_rows(jobs.fit(candidates, labels, databases, out, options, use_sources=use_sources, seed=seed), as_json)


@app.command("codet")
def codet_command(
    tasks: Annotated[Path, typer.Argument(help="Tasks: task_id, prompt, entry_point.")],
    candidates: Annotated[Path, typer.Argument(help="Completions: task_id, candidates; or prompt, samples.")],
    tests: Annotated[Path, typer.Argument(help="Model-written tests: task_id, tests; or prompt, samples.")],
    out: OutOption,
    matrices: Annotated[Path | None, typer.Option("--pass-matrix", help="Use these instead of running.")] = None,
    save_matrices: Annotated[Path | None, typer.Option("--save-matrix", help="Write which test each passes.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Print pass@1, 2, 10.")] = None,
    test_seconds: Annotated[float, typer.Option("--test-seconds", help="CPU time of one test.")] = 0.1,
    threads: Workers = 0,
    unsafe_local: Unsafe = False,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """CodeT: rank completions by consensus with model-written tests, which are run here, isolated."""
    from rerank_programs import jobs

    workers = threads or set_threads(0)
    rows = jobs.codet(
        tasks,
        candidates,
        tests,
        out,
        matrices=matrices,
        save_matrices=save_matrices,
        labels=labels,
        test_seconds=test_seconds,
        workers=workers,
        unsafe_local=unsafe_local,
        seed=seed,
    )
    if rows:
        print_rows(rows, as_json)


@app.command("explain")
def explain_command(
    ranking: Annotated[Path, typer.Argument(help="Ranking written by `rerank`.")],
    request: Annotated[str, typer.Option("--id", help="Which request.")],
    databases: Databases = None,
    as_json: JsonFlag = False,
) -> None:
    """Show clusters, lints, result samples, the difference of the leading two and an input that tells them apart."""
    from rerank_programs import explain, jobs

    explanation = jobs.explain_one(ranking, request, databases)
    if as_json:
        print_json(explain.as_json(explanation))
    else:
        print(explain.as_text(explanation))


@app.command("sandbox-check")
def sandbox_check_command(
    engine: Annotated[list[str] | None, typer.Option("--engine", help="Only this engine; may be repeated.")] = None,
    unsafe_local: Unsafe = False,
    as_json: JsonFlag = False,
) -> None:
    """Run the abuse list on this machine: the layers in force and a verdict for every case. Exit code 1 on an escape."""
    from rerank_core.errors import UsageError
    from rerank_programs.sandbox.check import run_check
    from rerank_programs.sandbox.pool import ENGINES

    unknown = set(engine or ()) - set(ENGINES)
    if unknown:
        raise UsageError(f"unknown engine {sorted(unknown)[0]!r}; known: {', '.join(ENGINES)}")
    report = run_check(engine or (), unsafe_local=unsafe_local)
    if as_json:
        json.dump(report, sys.stdout, indent=1, ensure_ascii=True)
        print()
    else:
        for c in report["cases"]:
            print(
                f"{'ok    ' if c['ok'] else 'ESCAPE'} {c['engine']:<7} {c['name']:<40} {c['verdict']:<17} {c['seconds']:.2f} s"
            )
            for p in c["problems"]:
                print(f"       {p}")
        for name, why in report["skipped"].items():
            print(f"skipped {name}: {why}")
        layers = ", ".join(f"{k} {v}" for k, v in report["isolation"].items())
        print(f"{len(report['cases'])} cases, {sum(not c['ok'] for c in report['cases'])} escaped; {layers}")
    if not report["ok"]:
        raise typer.Exit(1)


def main() -> None:
    """Entry point."""
    run(app)

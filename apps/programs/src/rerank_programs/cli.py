"""The command ``rerank-programs``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rerank_core.errors import RerankError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Rerank generated programs by what they do.")


@app.command("rerank")
def rerank_command(
    candidates: Annotated[Path, typer.Argument(help="JSONL of questions and candidate programs (.gz is unpacked).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Ranking to write (JSONL).")],
    databases: Annotated[Path | None, typer.Option(help="Folder of databases that db_id names.")] = None,
    method: Annotated[str, typer.Option(help="See `rerank-programs methods`.")] = "semantic",
    model: Annotated[Path | None, typer.Option(help="Folder written by `fit`: learned ranker and calibration.")] = None,
    mode: Annotated[str, typer.Option(help="How results are compared: spider, bird, ordered, bag, set, approx, frame.")] = "spider",
    expected: Annotated[Path | None, typer.Option(help="JSON: request id -> predicted output.")] = None,
    seconds: Annotated[float, typer.Option(help="Time limit of one program.")] = 2.0,
    memory_mib: Annotated[int, typer.Option(help="Memory limit of one program.")] = 512,
    threads: Annotated[int, typer.Option(help="Worker processes.")] = 2,
    cache: Annotated[Path | None, typer.Option(help="Cache file; by default in the user's cache folder.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither read nor write the cache.")] = False,
    unsafe_local: Annotated[bool, typer.Option("--unsafe-local", help="Run code even without isolation.")] = False,
    run_file: Annotated[Path | None, typer.Option("--run", help="Also write a TREC run.")] = None,
    sql_lines: Annotated[Path | None, typer.Option(help="Also write the chosen SQL, one a line.")] = None,
    bird_json: Annotated[Path | None, typer.Option(help="Also write BIRD's prediction JSON.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Order candidate programs; write the ranking with clusters, lints, samples and confidence."""
    from rerank_programs import jobs

    options = jobs.RunOptions(
        method, mode, seconds, memory_mib, threads, cache, no_cache, unsafe_local, model, expected
    )
    summary = jobs.rerank(candidates, databases, out, options, run_file, sql_lines, bird_json)
    if as_json:
        print(json.dumps(summary))
    else:
        print(jobs.summary_line(summary), file=sys.stderr)


@app.command("eval")
def eval_command(
    ranking: Annotated[Path, typer.Argument(help="Ranking written by `rerank`.")],
    labels: Annotated[Path, typer.Option(help="JSONL of labels: which candidates are right.")],
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a ranking: EX@1, EX@3, ECE, coverage at 95 %."""
    from rerank_programs import jobs

    rows = jobs.evaluate(ranking, labels, seed)
    if as_json:
        print(json.dumps([r.as_dict() for r in rows], indent=1))
    else:
        for r in rows:
            print(f"{r.system}\t{r.measure}\t{r.value:.4f}\t[{r.ci_low:.4f}, {r.ci_high:.4f}]\tn={r.n}")


def main() -> None:
    """Entry point: one line on stderr and exit code 2 for bad input."""
    try:
        app(standalone_mode=False)
    except RerankError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)



"""The umbrella command ``rerank``; apps import the parts of theirs from here.

``rerank <domain> ...`` forwards to that domain's own command. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rerank_core.app_command import app_for, method_rows, print_methods, rerank_to
from rerank_core.command import (
    BudgetCalls,
    BudgetSeconds,
    BudgetTokens,
    ConfigOption,
    JsonFlag,
    MethodOption,
    OutOption,
    ResumeFlag,
    SeedOption,
    ThreadsOption,
    budget_of,
    fail,
    new_app,
    run,
    set_threads,
    settings,
)
from rerank_core.errors import UsageError
from rerank_core.terminal import console, print_json, print_rows

if TYPE_CHECKING:
    from rerank_core.measures import Missing

__all__ = [
    "BudgetCalls",
    "BudgetSeconds",
    "BudgetTokens",
    "ConfigOption",
    "JsonFlag",
    "MethodOption",
    "OutOption",
    "ResumeFlag",
    "SeedOption",
    "ThreadsOption",
    "app_for",
    "budget_of",
    "console",
    "fail",
    "main",
    "method_rows",
    "new_app",
    "print_json",
    "print_methods",
    "print_rows",
    "rerank_to",
    "run",
    "set_threads",
    "settings",
]

COMMANDS = "rerank.commands"

umbrella = new_app("Reranking outside plain web search. `rerank DOMAIN ...` forwards to a domain's own command.")


@umbrella.command("domains")
def domains_command(as_json: JsonFlag = False) -> None:
    """List the installed domains (imports none of them)."""
    from rerank_core.domain import installed

    rows = [
        {"name": name, "package": e.dist.name if e.dist else "", "command": f"rerank-{name}"}
        for name, e in installed().items()
    ]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            print(f"{row['name']:<12} {row['package']:<20} {row['command']}")


@umbrella.command("demo")
def demo_command(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for report.html and results.json.")] = None,
    domain: Annotated[list[str] | None, typer.Option("--domain", help="Only this domain; may be repeated.")] = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Run every installed domain's embedded sample: real input, no network."""
    set_threads(threads)
    from rerank_core.demo import run_demo
    from rerank_core.domain import installed, load

    names = domain or list(installed())
    if not names:
        raise UsageError("no domain is installed; pip install rerank-passages")
    if run_demo([load(n) for n in names], out, seed=seed):
        raise typer.Exit(1)


@umbrella.command("eval")
def eval_command(
    qrels: Annotated[Path, typer.Option("--qrels", help="TREC qrels (.gz).")],
    run_files: Annotated[list[Path], typer.Option("--run", help="TREC run (.gz); repeat to compare with the first.")],
    measure: Annotated[list[str] | None, typer.Option("-m", "--measure", help="For example nDCG@10.")] = None,
    level: Annotated[int | None, typer.Option("--level", help="Lowest grade that counts as relevant.")] = None,
    missing: Annotated[
        str, typer.Option("--missing", help="Query without results: zero (trec_eval -c) or skip.")
    ] = "zero",
    oracle: Annotated[list[int] | None, typer.Option("--oracle", help="Also a perfect rerank of the top K.")] = None,
    seed: SeedOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Judge TREC runs as trec_eval does, with bootstrap intervals and paired tests against the first run."""
    from rerank_core.evaluation import judge_runs

    if missing not in ("zero", "skip"):
        raise UsageError(f"--missing is zero or skip, not {missing!r}")
    policy: Missing = "skip" if missing == "skip" else "zero"
    print_rows(judge_runs(qrels, run_files, measure or ["nDCG@10"], level, policy, oracle or [], seed), as_json)


@umbrella.command("fuse")
def fuse_command(
    run_files: Annotated[list[Path], typer.Option("--run", help="TREC run (.gz); at least two.")],
    out: OutOption,
    method: Annotated[
        str, typer.Option("--method", help="rrf, zscore, minmax, borda, combsum, combmnz, head.")
    ] = "rrf",
    weight: Annotated[list[float] | None, typer.Option("--weight", help="One a run, in order.")] = None,
    k: Annotated[float, typer.Option("--k", help="Constant of rrf.")] = 60.0,
    protect: Annotated[int, typer.Option("--protect", help="Places that `head` keeps for the first run.")] = 1,
    depth: Annotated[int | None, typer.Option("--depth", help="Write only so many candidates a query.")] = None,
) -> None:
    """Fuse TREC runs into one."""
    from rerank_core.evaluation import fuse_runs

    fuse_runs(run_files, out, method, weight, k=k, protect=protect, depth=depth)


@umbrella.command("ablate")
def ablate_command(
    suite: Annotated[Path, typer.Argument(help="Suite, YAML; shared/ablations holds some.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results; finished cells are not run again.")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder that the suite's data folders lie in.")] = None,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray (extra rerank-core[ray]).")] = "local",
    threads: ThreadsOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Run an ablation suite; resumable, failures are cells with a reason."""
    set_threads(threads)
    from rerank_core.ablation.running import run_suite
    from rerank_core.executors import executor

    with executor(engine) as run_batches:
        rows = run_suite(suite, out, data=data, executor=run_batches)
    if as_json:
        print_json(rows)
    if any(r.get("status") == "failed" for r in rows):
        raise typer.Exit(1)


@umbrella.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(help="Folder that `rerank ablate` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file, or Markdown where it ends in .md.")],
) -> None:
    """Write one self-contained HTML page of an ablation's results, or its main tables as Markdown."""
    if out.suffix == ".md":
        from rerank_core.ablation.markdown import write_markdown

        write_markdown(folder, out)
    else:
        from rerank_core.ablation.page import write_report

        write_report(folder, out)
    print(str(out), file=sys.stderr)


@umbrella.command("serve")
def serve_command(
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8080,
    host: Annotated[str, typer.Option("--host", help="Loopback unless you say otherwise and give keys.")] = "127.0.0.1",
    domain: Annotated[list[str] | None, typer.Option("--domain", help="Only these domains; may be repeated.")] = None,
    api_key_file: Annotated[Path | None, typer.Option("--api-key-file", help="One key a line.")] = None,
    text_method: Annotated[str, typer.Option("--text-method", help="Method of the text endpoints.")] = "cross-encoder",
    queue: Annotated[int, typer.Option("--queue", min=1, help="Requests that may wait; more get 429.")] = 1024,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Most requests in one batch.")] = 64,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds until a waiting request gets 408.")
    ] = 120.0,
    allow_execution: Annotated[
        bool, typer.Option("--allow-execution", help="Let domains run code of requests.")
    ] = False,
    threads: ThreadsOption = 0,
) -> None:
    """Serve reranking over HTTP (Cohere, Jina and TEI shapes, and every domain)."""
    set_threads(threads)
    from rerank_core.domain import installed, load
    from rerank_core.errors import require
    from rerank_core.io import read_lines

    for module in ("fastapi", "uvicorn", "prometheus_client"):
        require(module, "rerank-core[serve]", "the server")
    from rerank_core.server.app import serve
    from rerank_core.server.batching import Limits

    keys = (
        frozenset(k.strip() for _, k in read_lines(api_key_file) if k.strip())
        if api_key_file is not None
        else frozenset()
    )
    if api_key_file is not None and not keys:
        raise UsageError(f"{api_key_file} holds no key")
    domains = {n: load(n) for n in (domain or list(installed()))}
    print(f"serving {', '.join(domains)} on http://{host}:{port}", file=sys.stderr, flush=True)
    limits = Limits(queue=queue, batch=batch, timeout=timeout)
    serve(
        domains,
        host=host,
        port=port,
        api_keys=keys,
        limits=limits,
        allow_execution=allow_execution,
        text_method=text_method,
    )


@umbrella.command("doctor")
def doctor_command(as_json: JsonFlag = False) -> None:
    """Say what is installed, what works, and the command that mends each lack."""
    from rerank_core.doctor import as_json as findings

    rows = findings()
    if as_json:
        print_json(rows)
        return
    for r in rows:
        mark = {True: "ok  ", False: "lack", None: "info"}[r["ok"]]
        mend = f"  -> {r['mend']}" if r["ok"] is False and r["mend"] else ""
        print(f"{mark} {r['name']:<22} {r['detail']}{mend}")


@umbrella.command("judges")
def judges_command(as_json: JsonFlag = False) -> None:
    """List every judge: source, capability needed, domains it works in, test behind it."""
    from rerank_core.judging import catalogue

    rows = catalogue()
    if not rows:
        raise UsageError("no judges are installed; pip install rerank-lm")
    if as_json:
        print_json(rows)
        return
    for r in rows:
        print(f"{r['name']:<18} {r.get('capability', ''):<22} {r.get('source', '')}")


def _script(domain: str) -> EntryPoint | None:
    return next((e for e in entry_points(group="console_scripts") if e.name == f"rerank-{domain}"), None)


def main() -> None:
    """Entry point of ``rerank``."""
    from rerank_core.domain import installed

    first = sys.argv[1] if len(sys.argv) > 1 else ""
    extra = {e.name: e for e in entry_points(group=COMMANDS)} if first and not first.startswith("-") else {}
    if first in extra:
        command = extra[first].load()
        if not isinstance(command, typer.Typer):
            app = new_app("")
            app.command(first)(command)
            command = app
        run(command, sys.argv[2:], f"rerank {first}")
    if first in installed() and (script := _script(first)) is not None:
        sys.argv = [f"rerank-{first}", *sys.argv[2:]]
        script.load()()
        return
    run(umbrella, prog_name="rerank")


if __name__ == "__main__":
    main()

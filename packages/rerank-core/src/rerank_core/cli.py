"""The umbrella command ``rerank`` and what every app's command is made of.

``rerank <domain> ...`` forwards to that domain's own command. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from rerank_core.errors import RerankError, UsageError
from rerank_core.terminal import console, print_json, print_rows

if TYPE_CHECKING:
    from rerank_core.domain import Domain
    from rerank_core.measures import Missing

COMMANDS = "rerank.commands"
INTERRUPTED = 130

# -- what every command shares -------------------------------------------------------------------------------------

MethodOption = Annotated[str, typer.Option("--method", help="Reranker; `methods` lists them.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Output file; it appears only when it is complete.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
ThreadsOption = Annotated[int, typer.Option("--threads", help="CPU threads; 0 = min(cores, 2).")]
ResumeFlag = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on with an unfinished run of the same input.")
]
BudgetSeconds = Annotated[float | None, typer.Option("--budget-seconds", min=0, help="Stop asking after so long.")]
BudgetCalls = Annotated[
    int | None, typer.Option("--budget-calls", min=0, help="Stop asking after so many model calls.")
]
BudgetTokens = Annotated[int | None, typer.Option("--budget-tokens", min=0, help="Stop asking after so many tokens.")]
ConfigOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="Setting of the method, KEY=VALUE (JSON).")]


def new_app(help_text: str) -> typer.Typer:
    """Make a typer application in the house's style."""
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def run(app: typer.Typer, args: Sequence[str] | None = None, prog_name: str | None = None) -> NoReturn:
    """Run an application and exit: 0 done, 1 some items failed, 2 bad input or usage (one line), 130 interrupted."""
    from typer.main import get_command

    try:
        result = get_command(app).main(
            args=list(args) if args is not None else None, prog_name=prog_name, standalone_mode=False
        )
        sys.stdout.flush()
    except RerankError as error:
        fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        result = INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`); leave quietly, as every filter does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None:
            raise
        show()
        sys.exit(getattr(error, "exit_code", 2))
    if result == INTERRUPTED:
        print("interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
    sys.exit(result if isinstance(result, int) else 0)


def fail(message: str, code: int = 2) -> NoReturn:
    """Print one line on stderr and exit."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def settings(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Parse ``KEY=VALUE`` settings; a value is JSON where it parses as such, else text."""
    out: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"a setting is KEY=VALUE, not {pair!r}")
        try:
            out[key] = json.loads(value)
        except json.JSONDecodeError:
            out[key] = value
    return out


def set_threads(threads: int) -> int:
    """Bound the threads of numeric libraries that are not loaded yet; returns the number in force."""
    n = threads or min(2, os.cpu_count() or 1)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if threads or name not in os.environ:
            os.environ[name] = str(n)
    return int(os.environ["OMP_NUM_THREADS"]) if os.environ["OMP_NUM_THREADS"].isdigit() else n


def method_rows(domain: Domain[Any, Any]) -> list[dict[str, Any]]:
    """Return a domain's methods as plain objects."""
    return [
        {
            "name": name,
            "title": m.title,
            "source": m.source,
            "needs": list(m.needs),
            "cost": m.cost,
            "settings": dict(m.default),
        }
        for name, m in domain.methods.items()
    ]


def print_methods(domain: Domain[Any, Any], as_json: bool) -> None:
    """Print a domain's methods, and the judges that work in it."""
    from rerank_core.judging import catalogue

    rows = method_rows(domain)
    if domain.rendering is not None:
        rows += [
            {
                "name": j["name"],
                "title": j.get("title", ""),
                "source": j.get("source", ""),
                "needs": ["rerank-lm", j.get("capability", "")],
                "cost": f"{j.get('calls', '')} calls",
                "settings": {},
            }
            for j in catalogue()
            if j["name"] not in domain.methods
        ]
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table("method", "what it does", "source", "needs", "cost a query")
    for r in rows:
        table.add_row(r["name"], r["title"], r["source"], ", ".join(r["needs"]) or "–", r["cost"] or "–")
    console().print(table)


# -- an app's command ----------------------------------------------------------------------------------------------


def app_for(
    get_domain: Callable[[], Domain[Any, Any]] | Domain[Any, Any],
    *,
    help_text: str | None = None,
    without: Sequence[str] = (),
) -> typer.Typer:
    """Make a domain's application with ``rerank``, ``eval``, ``methods`` and ``demo`` over canonical files.

    Parameters
    ----------
    get_domain
        The domain, or a function that gives it (so that ``--help`` need not build it).
    without
        Names of commands that the app brings itself.
    """
    get: Callable[[], Domain[Any, Any]] = get_domain if callable(get_domain) else lambda: get_domain
    app = new_app(help_text or f"Rerank in the domain {get().title}.")

    def rerank(
        requests: Annotated[Path, typer.Argument(help="Requests: JSONL (.gz), Parquet file or folder.")],
        out: OutOption,
        method: MethodOption = "default",
        model: Annotated[
            str | None, typer.Option("--model", help="Model of a judge: alias, folder or hub name.")
        ] = None,
        endpoint: Annotated[str | None, typer.Option("--endpoint", help="OpenAI-compatible server of a judge.")] = None,
        config: ConfigOption = None,
        resume: ResumeFlag = True,
        budget_seconds: BudgetSeconds = None,
        budget_calls: BudgetCalls = None,
        budget_tokens: BudgetTokens = None,
        threads: ThreadsOption = 0,
    ) -> None:
        """Rerank requests and write a ranking (JSONL; a TREC run where OUT ends in .trec or .run)."""
        set_threads(threads)
        from rerank_core.parquet import requests_of

        domain = get()
        items = requests_of(requests, domain.codec)
        named = {k: v for k, v in (("model", model), ("endpoint", endpoint)) if v is not None}
        rerank_to(
            domain,
            items,
            method,
            named | settings(config),
            out,
            resume,
            budget_of(budget_calls, budget_tokens, budget_seconds),
        )

    def evaluate(
        rankings: Annotated[Path, typer.Argument(help="Rankings, JSONL (.gz).")],
        gold: Annotated[Path, typer.Option("--gold", help="Gold: TREC qrels or JSONL {id, gold}.")],
        requests: Annotated[
            Path | None, typer.Option("--requests", help="Requests, for Oracle and GainRecovered.")
        ] = None,
        measure: Annotated[list[str] | None, typer.Option("-m", "--measure", help="For example nDCG@10.")] = None,
        as_json: JsonFlag = False,
        seed: SeedOption = 0,
    ) -> None:
        """Score a ranking against gold, with bootstrap intervals."""
        from rerank_core.io import read_gold, read_rankings, read_requests
        from rerank_core.measures import COMMON, GainRecovered, parse
        from rerank_core.measures import evaluate as judge

        domain = get()
        asked = read_requests(requests, domain.codec) if requests is not None else []
        if measure:
            wanted = [parse(m) for m in measure]
        else:
            wanted = [m for m in (*COMMON, *domain.measures) if asked or not isinstance(m, GainRecovered)]
        print_rows(
            judge(wanted, read_gold(gold), read_rankings(rankings), asked, system=rankings.stem, seed=seed), as_json
        )

    def methods(as_json: JsonFlag = False) -> None:
        """List the rerankers with their sources, needs and costs."""
        print_methods(get(), as_json)

    def demo(
        out: Annotated[
            Path | None, typer.Option("--out", "-o", help="Folder for report.html and results.json.")
        ] = None,
        seed: SeedOption = 0,
        threads: ThreadsOption = 0,
    ) -> None:
        """Run the embedded sample: real input, no network."""
        set_threads(threads)
        from rerank_core.demo import run_demo

        run_demo([get()], out, seed=seed)

    commands: dict[str, Callable[..., None]] = {
        "rerank": rerank,
        "eval": evaluate,
        "methods": methods,
        "demo": demo,
    }
    for name, function in commands.items():
        if name not in without:
            app.command(name)(function)
    return app


def budget_of(calls: int | None, tokens: int | None, seconds: float | None) -> Any:
    """Return a budget, or None where nothing is limited."""
    from rerank_core.budget import Budget

    return None if calls is None and tokens is None and seconds is None else Budget(calls, tokens, seconds)


def rerank_to(
    domain: Domain[Any, Any],
    requests: Sequence[Any],
    method: str,
    config: dict[str, Any],
    out: Path,
    resume: bool,
    budget: Any,
    *,
    batch_size: int = 64,
    write: Callable[[Path, list[Any]], None] | None = None,
) -> list[Any]:
    """Run a named method over requests into a file, resumably, and say how it went on stderr."""
    from rerank_core.engine import run as run_engine
    from rerank_core.experiment import statuses

    reranker = domain.method(method, config)
    rankings = list(
        run_engine(
            requests,
            reranker,
            out=out,
            resume=resume,
            budget=budget,
            batch_size=batch_size,
            codec=domain.codec,
            write=write,
        )
    )
    counts = ", ".join(f"{n} {s}" for s, n in statuses(rankings).items())
    print(f"{len(rankings)} rankings ({counts}) -> {out}", file=sys.stderr)
    return rankings


# -- the umbrella --------------------------------------------------------------------------------------------------

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
    from rerank_core.ablation import run_suite
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
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML file.")],
) -> None:
    """Write one self-contained HTML page of an ablation's results."""
    from rerank_core.ablation_report import write_report

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


__all__ = ["app_for", "main", "new_app", "print_json", "print_rows", "rerank_to", "run", "settings"]

if __name__ == "__main__":
    main()

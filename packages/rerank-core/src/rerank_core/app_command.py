"""The command of an app: ``rerank``, ``eval``, ``methods`` and ``demo`` over canonical files, for any domain."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    new_app,
    set_threads,
    settings,
)
from rerank_core.terminal import console, print_json, print_rows

if TYPE_CHECKING:
    from rerank_core.domain import Domain


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
                "name": domain.judge_name(j["name"]),
                "title": j.get("title", ""),
                "source": j.get("source", ""),
                "needs": ["rerank-lm", j.get("capability", "")],
                "cost": f"{j.get('calls', '')} calls",
                "settings": {},
            }
            for j in catalogue()
            if domain.judge_name(j["name"]) not in domain.methods
        ]
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table("method", "what it does", "source", "needs", "cost a query")
    for r in rows:
        table.add_row(r["name"], r["title"], r["source"], ", ".join(r["needs"]) or "–", r["cost"] or "–")
    console().print(table)


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


def rerank_to(
    domain: Domain[Any, Any],
    requests: Sequence[Any],
    method: str,
    config: dict[str, Any],
    out: Path,
    resume: bool,
    budget: Any,
    *,
    batch_size: int | None = None,
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

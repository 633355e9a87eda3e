"""The ``rerank-recommend`` command."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rerank_core.errors import RerankError, UsageError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Machine output on stdout.")]


@app.callback()
def _root() -> None:
    """Rerank recommendations: conversational, cold-start and multi-interest."""


@app.command("eval")
def evaluate(
    ranked: Annotated[Path | None, typer.Argument(help="Ranking file written by `rerank`.")] = None,
    *,
    recorded: Annotated[Path | None, typer.Option(help="Recorded answers instead of a ranking file.")] = None,
    test: Annotated[Path, typer.Option(help="Turns with their truth (`rec`).")],
    entities: Annotated[Path | None, typer.Option(help="The catalogue; needed for recorded answers.")] = None,
    mode: Annotated[
        str, typer.Option(help="Grounding of recorded answers: default, or official (He et al.).")
    ] = "default",
    match: Annotated[str | None, typer.Option(help="id or name: when two items count as the same.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score a ranking file, or recorded answers of a language model, against the truth."""
    from rerank_recommend import commands

    if (ranked is None) == (recorded is None):
        raise UsageError("eval needs either a ranking file or --recorded ANSWERS")
    if recorded is not None:
        if entities is None:
            raise UsageError("--recorded answers are titles; --entities says what they lead to")
        rows = commands.evaluate_recorded(recorded, test, entities, mode=mode, match=match, seed=seed)
    else:
        assert ranked is not None
        rows = commands.evaluate_ranked(ranked, test, entities, match=match, seed=seed)
    show(rows, as_json)


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as JSON on stdout, or as a table."""
    if as_json:
        json.dump(rows, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return
    table = Table()
    for key in rows[0]:
        table.add_column(key, justify="left" if isinstance(rows[0][key], str) else "right")
    for row in rows:
        table.add_row(*(f"{v:.4f}" if isinstance(v, float) else "" if v is None else str(v) for v in row.values()))
    Console().print(table)


def main() -> None:
    """Run the command; an error of the input is one line on stderr and exit code 2."""
    try:
        app()
    except RerankError as error:
        typer.echo(f"rerank-recommend: {error}", err=True)
        raise SystemExit(2) from None

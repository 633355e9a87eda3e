"""What every command is made of: flags, how it runs and ends, how settings are read."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from rerank_core.errors import RerankError, UsageError

INTERRUPTED = 130

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
    except Exception as error:  # click's own errors know how to show themselves; everything else goes on up
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
    """Bound the threads of numeric libraries that are not loaded yet; returns the number in force.

    Without a number OMP_NUM_THREADS holds for all of them, else two. It has to reach MKL as well: torch takes MKL's number
    over OpenMP's, and one thread too many on a busy machine is spent waiting for the others.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    n = threads or (int(given) if given.isdigit() and int(given) else min(2, os.cpu_count() or 1))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        if threads or name not in os.environ:
            os.environ[name] = str(n)
    return n


def budget_of(calls: int | None, tokens: int | None, seconds: float | None) -> Any:
    """Return a budget, or None where nothing is limited."""
    from rerank_core.budget import Budget

    return None if calls is None and tokens is None and seconds is None else Budget(calls, tokens, seconds)

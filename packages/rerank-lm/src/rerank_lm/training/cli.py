"""``rerank train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe file (YAML).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for weights, card, metrics and checkpoint.")],
    resume: Annotated[bool, typer.Option(help="Go on from the folder's checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Take one step in memory and print time and memory; write nothing.")
    ] = False,
) -> None:
    """Train a reranker from a recipe."""
    from rerank_lm.training.recipe import load_recipe

    read = load_recipe(recipe)
    from rerank_lm.training.trainer import estimate
    from rerank_lm.training.trainer import train as run

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if dry_run:
        for line in estimate(read).lines():
            print(line)
        return
    try:
        outcome = run(read, out, resume=resume, say=say)
    except KeyboardInterrupt:
        say(f"interrupted; the last complete checkpoint stays in {out}, --resume goes on from there")
        raise typer.Exit(130) from None
    print(f"{outcome.steps} steps, {outcome.stopped}; {outcome.folder}")
    if outcome.start is not None and outcome.end is not None:
        print(
            f"held-out nDCG@10 {outcome.start[0]:.4f} -> {outcome.end[0]:.4f} "
            f"[{outcome.end[1]:.4f}, {outcome.end[2]:.4f}], n = {outcome.n_held}"
        )

"""``rerank-image documents``: page pictures and text ranked by judges that see."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rerank_core.cli import JsonFlag, SeedOption, app_for, print_rows


def _domain() -> Any:
    from rerank_image.documents import domain

    return domain


app = app_for(
    _domain,
    help_text="Multimodal documents: rerank page pictures and text for questions with a vision-language judge.",
    without=("demo", "eval"),
)


@app.command("eval")
def evaluate(
    rankings: Annotated[list[Path], typer.Argument(help="Rankings, JSONL (.gz).")],
    gold: Annotated[Path, typer.Option("--gold", help="Gold pages: TREC qrels or JSONL {id, gold}.")],
    as_json: JsonFlag = False,
    seed: SeedOption = 0,
) -> None:
    """Recall at 1, 3 and 5: micro over questions, macro over domains (what stands before an id's last slash)."""
    from rerank_core.io import read_gold, read_rankings
    from rerank_image.documents import page_recall
    from rerank_image.trec import names_of

    truth = read_gold(gold)
    rows: list[Any] = []
    for name, path in zip(names_of(rankings), rankings, strict=True):
        rows += page_recall(truth, read_rankings(path), system=name, seed=seed)
    print_rows(rows, as_json)

"""The model card that every trained folder carries."""

from __future__ import annotations

import datetime
from typing import Any

from rerank_lm.models import MODELS
from rerank_lm.training.data import Lists
from rerank_lm.training.outcome import Outcome
from rerank_lm.training.recipe import Recipe


def _interval(value: Any) -> str:
    return "not measured" if value is None else f"{value[0]:.4f} [{value[1]:.4f}, {value[2]:.4f}]"


def write_card(recipe: Recipe, outcome: Outcome, data: Lists) -> None:
    """Write ``README.md``: data, sizes, measures with intervals, licence, and how to use the folder."""
    from rerank_lm.judges.building import resolve_alias

    base = MODELS.get(resolve_alias(recipe.model))
    licence = base.licence if base is not None else "that of the base model"
    source = recipe.data.folder or f"embedded sample of the domain {recipe.data.domain}"
    gain = ""
    if outcome.start is not None and outcome.end is not None:
        difference = outcome.end[0] - outcome.start[0]
        gain = (
            f"\nDifference {difference:+.4f}. The same held-out groups chose when to stop: test on data of your own.\n"
        )
    method = "cross-encoder" if recipe.kind == "cross-encoder" else recipe.kind
    text = f"""# {recipe.name}

Trained {datetime.date.today().isoformat()} by `rerank train` ({method}, loss {recipe.loss.name}) from `{recipe.model}`.
Source of the method: {recipe.source}.

| | |
|---|---|
| data | {source} ({data.name or recipe.data.domain}) |
| lists trained on / held out / left out (nothing to learn) | {outcome.n_train} / {outcome.n_held} / {outcome.dropped} |
| steps | {outcome.steps} ({outcome.stopped}) |
| nDCG@10 held out, before | {_interval(outcome.start)} |
| nDCG@10 held out, after | {_interval(outcome.end)} |
| licence of the base weights | {licence} |
{gain}
The licence of the data binds the weights too: check it before you pass them on. `recipe.json` holds every setting,
`metrics.csv` every step.
"""
    (outcome.folder / "README.md").write_text(text, encoding="utf-8")

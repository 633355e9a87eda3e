"""From a recipe to the task that it names."""

from __future__ import annotations

from typing import Any

import torch

from rerank_lm.training.cross_encoder import CrossEncoderTask
from rerank_lm.training.recipe import Recipe
from rerank_lm.training.tasks import Task


def make_task(recipe: Recipe) -> Task:
    """Load the model that a recipe names, as its kind asks."""
    torch.manual_seed(recipe.train.seed)  # new heads and adapters start the same
    if recipe.kind == "cross-encoder":
        return CrossEncoderTask(recipe)
    if recipe.kind == "e2rank":
        from rerank_lm.training.embedding import E2RankTask

        return E2RankTask(recipe)
    if recipe.kind == "mvp":
        from rerank_lm.training.embedding import MvpTask

        return MvpTask(recipe)
    from rerank_lm.training.causal import FirstTask, GrpoTask, ProRankTask, TokensTask, WriteTask

    kinds: dict[str, Any] = {
        "tokens": TokensTask, "write": WriteTask, "first": FirstTask, "grpo": GrpoTask, "prorank": ProRankTask,
    }  # fmt: skip
    return kinds[recipe.kind](recipe)

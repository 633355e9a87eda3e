"""From a recipe to the task that it names."""

from __future__ import annotations

import os
from typing import Any

import torch

from rerank_core.errors import UsageError
from rerank_lm.training.cross_encoder import CrossEncoderTask
from rerank_lm.training.recipe import Recipe
from rerank_lm.training.tasks import Task


def make_task(recipe: Recipe) -> Task:
    """Load the model that a recipe names, as its kind asks, onto the recipe's device.

    Raises
    ------
    UsageError
        When the recipe asks for a GPU that is not there.
    """
    device = training_device(recipe.train.device)
    torch.manual_seed(recipe.train.seed)  # new heads and adapters start the same
    task = _task(recipe)
    task.module.to(device)
    return task


def training_device(wanted: str) -> torch.device:
    """Resolve ``auto`` and ``cuda``: each process that torchrun starts on a machine takes a GPU of its own."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and not count):
        return torch.device("cpu")
    number = int(wanted.partition(":")[2] or int(os.environ.get("LOCAL_RANK", "0")) % max(1, count))
    if number >= count:
        raise UsageError(f"train.device is {wanted!r}, but torch sees {count} GPUs here; use auto or cpu")
    return torch.device("cuda", number)


def _task(recipe: Recipe) -> Task:
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

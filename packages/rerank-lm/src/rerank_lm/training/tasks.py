"""What a recipe trains: a model, its loss on a batch of lists, its scores, and how it is saved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from rerank_core.errors import UsageError
from rerank_core.types import FloatArray
from rerank_lm.training.data import Labelled
from rerank_lm.training.recipe import Recipe


class Task(Protocol):
    """Something trainable. ``step`` counts optimiser steps from 0; ``log`` is filled by ``loss``."""

    log: dict[str, float]

    @property
    def module(self) -> nn.Module: ...

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor: ...

    def score(self, lists: Sequence[Labelled]) -> list[FloatArray]: ...

    def save(self, folder: Path) -> None: ...


def trainable(task: Task) -> Iterator[tuple[str, nn.Parameter]]:
    """Return the parameters that learn, by name."""
    return ((n, p) for n, p in task.module.named_parameters() if p.requires_grad)


def need_loss(recipe: Recipe, *names: str) -> None:
    """Refuse a loss that a kind does not have.

    Raises
    ------
    UsageError
        The text lists those it has.
    """
    if recipe.loss.name not in names:
        raise UsageError(f"kind {recipe.kind!r} has no loss {recipe.loss.name!r}; losses: {', '.join(names)}")


def as_arrays(rows: Sequence[Tensor]) -> list[FloatArray]:
    """Detach rows."""
    return [np.asarray(r.detach().double().cpu().numpy()) for r in rows]

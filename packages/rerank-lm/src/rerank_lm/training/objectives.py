"""Losses by the names that recipes use, over padded batches of lists."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rerank_core.errors import UsageError
from rerank_lm import losses
from rerank_lm.training.data import Labelled
from rerank_lm.training.recipe import Loss

NAMES = (
    "ranknet", "weighted-ranknet", "listnet", "listmle", "lambda", "margin", "contrastive", "yes-no", "distil",
    "margin-mse", "dear",
)  # fmt: skip


def padded(rows: Sequence[Tensor], lists: Sequence[Labelled]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return scores, gains, teacher scores and mask, each (n_lists, n_items)."""
    most = max(len(x.gains) for x in lists)
    scores = torch.stack([torch.nn.functional.pad(r, (0, most - len(r))) for r in rows])
    gains, teacher = torch.zeros_like(scores), torch.zeros_like(scores)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for i, x in enumerate(lists):
        n = len(x.gains)
        gains[i, :n] = torch.tensor(x.gains, dtype=scores.dtype)
        if x.teacher:
            teacher[i, :n] = torch.tensor(x.teacher, dtype=scores.dtype)
        mask[i, :n] = True
    return scores, gains, teacher, mask


def list_loss(spec: Loss, rows: Sequence[Tensor], lists: Sequence[Labelled]) -> Tensor:
    """Return a ranking loss of scores, one tensor (n_items,) a list.

    Raises
    ------
    UsageError
        For an unknown loss, or one that needs a teacher where there is none.
    """
    scores, gains, teacher, mask = padded(rows, lists)
    name = spec.name
    if name in ("distil", "margin-mse", "dear") and not all(x.teacher for x in lists):
        raise UsageError(f"loss {name!r} learns from a teacher; set data.teacher")
    if name == "ranknet":
        return losses.ranknet(scores, gains, mask)
    if name == "weighted-ranknet":
        return losses.ranknet(scores, gains, mask, weight="reciprocal-rank")
    if name == "listnet":
        return losses.listnet(scores, gains, mask)
    if name == "listmle":
        return losses.listmle(scores, gains, mask)
    if name == "lambda":
        return losses.lambdaloss(scores, gains, mask)
    if name == "margin":
        return losses.margin_ranking(scores, gains, mask)
    if name == "contrastive":
        return losses.infonce(scores, gains, mask, temperature=spec.temperature)
    if name == "yes-no":
        return losses.yes_no_sft(scores, torch.zeros_like(scores), gains, mask)
    if name == "distil":
        return losses.kl_distillation(scores, teacher, mask, temperature=spec.temperature)
    if name == "margin-mse":
        return losses.margin_mse(scores, teacher, mask)
    if name == "dear":
        positive = (gains > 0).to(scores.dtype)
        return losses.dear(scores, positive, teacher, mask, alpha=spec.alpha, temperature=spec.temperature)
    raise UsageError(f"no loss {name!r}; losses: {', '.join(NAMES)}")

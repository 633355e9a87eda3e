"""Shapes, masks and means shared by the losses.

Every ranking loss takes ``scores`` and ``labels`` of shape (n_lists, n_items), higher is better in both, and an
optional boolean ``mask`` of the same shape, True where an item is real. ``reduction`` is ``"list"`` (mean over lists
of each list's own loss; a list that teaches nothing counts as 0) or ``"pair"`` (mean over all items or pairs of the
batch, as most official codes do; the two agree for lists of equal length without ties).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["list", "pair"]


def full_mask(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mask, or one that holds every item; shape (n_lists, n_items)."""
    if scores.dim() != 2:
        raise ValueError(f"scores have {scores.dim()} dimensions; a loss takes (n_lists, n_items)")
    if mask is None:
        return torch.ones_like(scores, dtype=torch.bool)
    if mask.shape != scores.shape:
        raise ValueError(f"the mask's shape {tuple(mask.shape)} is not the scores' {tuple(scores.shape)}")
    return mask.bool()


def clean(values: Tensor, mask: Tensor) -> Tensor:
    """Replace padding by 0, so that whatever stands there (NaN, infinity) reaches neither loss nor gradient."""
    return torch.where(mask, values, torch.zeros_like(values))


def ordered_pairs(labels: Tensor, mask: Tensor) -> Tensor:
    """Return where item i is better than item j, shape (n_lists, n_items, n_items)."""
    better = labels.unsqueeze(2) > labels.unsqueeze(1)
    return better & mask.unsqueeze(2) & mask.unsqueeze(1)


def differences(values: Tensor) -> Tensor:
    """Return ``values_i - values_j``, shape (n_lists, n_items, n_items)."""
    return values.unsqueeze(2) - values.unsqueeze(1)


def mean(losses: Tensor, where: Tensor, reduction: Reduction) -> Tensor:
    """Average the chosen entries, list by list or over the whole batch; 0 where nothing is chosen."""
    losses = torch.where(where, losses, torch.zeros_like(losses)).flatten(1)
    counts = where.flatten(1).sum(1)
    if reduction == "pair":
        return losses.sum() / counts.sum().clamp(min=1)
    return (losses.sum(1) / counts.clamp(min=1)).mean()


def log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax over the real items of each list; 0 at padding."""
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return clean(torch.log_softmax(filled, dim=1), mask)


def softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real items of each list; 0 at padding."""
    filled = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return clean(torch.softmax(filled, dim=1), mask)

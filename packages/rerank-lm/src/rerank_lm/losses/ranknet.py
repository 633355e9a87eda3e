"""RankNet: every pair in the right order.

Burges et al., "Learning to Rank using Gradient Descent", ICML 2005. ``weight="reciprocal-rank"`` is the weighted
RankNet of FIRST (Reddy et al., EMNLP 2024): pairs near the top count more.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from rerank_lm.losses._common import Reduction, clean, differences, full_mask, mean, ordered_pairs

Weight = Literal["none", "reciprocal-rank", "difference", "squared-difference"]


def ranknet(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    weight: Weight = "none",
    reduction: Reduction = "list",
) -> Tensor:
    """Mean over pairs with ``labels_i > labels_j`` of ``w_ij * softplus(-(scores_i - scores_j))``.

    Parameters
    ----------
    scores, labels, mask
        Shape (n_lists, n_items).
    weight
        ``reciprocal-rank``: ``1 / (r_i + r_j)`` with 1-based ranks by label; ``difference``: ``|y_i - y_j|``;
        ``squared-difference``: ``|y_i^2 - y_j^2|``. The mean divides by the number of pairs, not by the weights' sum,
        as the official code does.

    Returns
    -------
    Scalar; 0 with gradient 0 where no pair exists (the official FIRST code gives NaN there).
    """
    mask = full_mask(scores, mask)
    scores, labels = clean(scores, mask), clean(labels.to(scores.dtype), mask)
    pairs = ordered_pairs(labels, mask)
    losses = functional.softplus(-differences(scores))
    if weight == "reciprocal-rank":
        ranks = label_ranks(labels, mask) + 1.0
        losses = losses / (ranks.unsqueeze(2) + ranks.unsqueeze(1))
    elif weight == "difference":
        losses = losses * differences(labels.detach()).abs()
    elif weight == "squared-difference":
        losses = losses * differences(labels.detach().square()).abs()
    return mean(losses, pairs, reduction)


def soft_ranknet(
    scores: Tensor, targets: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "list"
) -> Tensor:
    """Cross entropy of ``sigmoid(scores_i - scores_j)`` with ``sigmoid(targets_i - targets_j)``, mean over i < j.

    The targets are a teacher's scores or one-hot labels (DeAR, stage 1). Shape (n_lists, n_items).
    """
    mask = full_mask(scores, mask)
    scores, targets = clean(scores, mask), clean(targets.to(scores.dtype), mask)
    n = scores.shape[1]
    upper = torch.ones(n, n, dtype=torch.bool, device=scores.device).triu(1)
    pairs = upper & mask.unsqueeze(2) & mask.unsqueeze(1)
    goal = torch.sigmoid(differences(targets.detach()))
    losses = functional.binary_cross_entropy_with_logits(differences(scores), goal, reduction="none")
    return mean(losses, pairs, reduction)


def label_ranks(labels: Tensor, mask: Tensor) -> Tensor:
    """Return 0-based ranks by label, best 0, ties in the given order, padding last; shape (n_lists, n_items)."""
    filled = labels.masked_fill(~mask, -torch.inf)
    order = torch.argsort(filled, dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order)
    ranks.scatter_(1, order, torch.arange(labels.shape[1], device=labels.device).expand_as(order))
    return ranks.to(labels.dtype)

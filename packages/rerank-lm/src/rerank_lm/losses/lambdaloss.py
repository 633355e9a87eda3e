"""LambdaLoss: bounds on nDCG as weighted pair losses.

Wang et al., "The LambdaLoss Framework for Ranking Metric Optimization", CIKM 2018. The form, base-2 logarithm and
mean over valid pairs follow allRank's implementation, which RankGPT and FIRST took over.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from rerank_lm.losses._common import Reduction, clean, differences, full_mask, mean

Scheme = Literal["ndcgLoss1", "ndcgLoss2", "lambdaRank", "ndcgLoss2PP", "rankNet"]


def lambdaloss(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    scheme: Scheme = "ndcgLoss2",
    k: int | None = None,
    sigma: float = 1.0,
    mu: float = 10.0,
    reduction: Reduction = "list",
) -> Tensor:
    """``-w_ij log2 sigmoid(sigma (s_i - s_j))``, mean over pairs with ``y_i > y_j`` among the first ``k`` by score.

    Parameters
    ----------
    scores, labels, mask
        Shape (n_lists, n_items); labels are grades >= 0, gains ``2^y - 1``.
    scheme
        Weights ``w_ij``. ``ndcgLoss2PP`` is ``mu * ndcgLoss2 + lambdaRank``.

    Notes
    -----
    The official code raises probabilities to the weight and clips at 1e-10; we multiply the log-sigmoid instead,
    which is the same where nothing is clipped and keeps a gradient where something would be.
    """
    mask = full_mask(scores, mask)
    grades = clean(labels.to(scores.dtype), mask).clamp(min=0).detach()
    order = torch.argsort(scores.detach().masked_fill(~mask, -torch.inf), dim=1, descending=True, stable=True)
    ordered, grades, real = clean(scores, mask).gather(1, order), grades.gather(1, order), mask.gather(1, order)
    n = scores.shape[1]
    cut = n if k is None else min(k, n)

    pairs = real.unsqueeze(2) & real.unsqueeze(1)
    if scheme != "ndcgLoss1":
        pairs = pairs & (grades.unsqueeze(2) > grades.unsqueeze(1))
    top = torch.arange(n, device=scores.device) < cut
    pairs = pairs & top.unsqueeze(0).unsqueeze(2) & top.unsqueeze(0).unsqueeze(1)

    losses = -functional.logsigmoid(sigma * differences(ordered)) / math.log(2.0)
    return mean(losses * _weights(grades, scheme, cut, mu), pairs, reduction)


def _weights(grades: Tensor, scheme: Scheme, cut: int, mu: float) -> Tensor:
    """Pair weights for grades sorted by score, shape (n_lists, n, n)."""
    n_lists, n = grades.shape
    if scheme == "rankNet":
        return torch.ones(n_lists, n, n, dtype=grades.dtype, device=grades.device)
    positions = torch.arange(1, n + 1, dtype=grades.dtype, device=grades.device)
    discounts = torch.log2(1.0 + positions)
    ideal = grades.sort(dim=1, descending=True).values
    best = ((2.0**ideal - 1.0) / discounts)[:, :cut].sum(1, keepdim=True).clamp(min=1e-10)
    gains = (2.0**grades - 1.0) / best
    if scheme == "ndcgLoss1":
        return (gains / discounts).unsqueeze(2).expand(n_lists, n, n)
    gain_gaps = differences(gains).abs()
    lambda_rank = (1.0 / discounts.unsqueeze(1) - 1.0 / discounts.unsqueeze(0)).abs() * gain_gaps
    if scheme == "lambdaRank":
        return lambda_rank
    gap = (positions.unsqueeze(1) - positions.unsqueeze(0)).abs()
    # log2(1 + gap) and log2(2 + gap); the diagonal (gap 0) carries no pair.
    rho = (1.0 / torch.log2(1.0 + gap.clamp(min=1.0)) - 1.0 / torch.log2(2.0 + gap.clamp(min=1.0))).abs()
    rho = rho.masked_fill(gap == 0, 0.0)
    ndcg2 = rho * gain_gaps
    return ndcg2 if scheme == "ndcgLoss2" else mu * ndcg2 + lambda_rank

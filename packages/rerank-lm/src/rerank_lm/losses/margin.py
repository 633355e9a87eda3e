"""Hinge on pairs: the better item should win by a margin. Herbrich et al., "Large Margin Rank Boundaries", 2000."""

from __future__ import annotations

from torch import Tensor

from rerank_lm.losses._common import Reduction, clean, differences, full_mask, mean, ordered_pairs


def margin_ranking(
    scores: Tensor, labels: Tensor, mask: Tensor | None = None, *, margin: float = 1.0, reduction: Reduction = "list"
) -> Tensor:
    """``max(0, margin - (s_i - s_j))``, mean over pairs with ``y_i > y_j``; inputs (n_lists, n_items)."""
    mask = full_mask(scores, mask)
    pairs = ordered_pairs(clean(labels.to(scores.dtype), mask), mask)
    return mean((margin - differences(clean(scores, mask))).clamp(min=0), pairs, reduction)

"""InfoNCE: a positive against its negatives. van den Oord et al., "Contrastive Predictive Coding", 2018."""

from __future__ import annotations

from torch import Tensor

from rerank_lm.losses._common import Reduction, clean, full_mask, log_softmax, mean


def infonce(
    scores: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    temperature: float = 1.0,
    reduction: Reduction = "list",
) -> Tensor:
    """``-log e^(s+/t) / sum_j e^(s_j/t)`` with t the temperature, mean over positives (``labels > 0``).

    Inputs (n_lists, n_items). The softmax is over the whole list; a list without a positive gives 0.
    """
    mask = full_mask(scores, mask)
    positives = (clean(labels.to(scores.dtype), mask) > 0) & mask
    return mean(-log_softmax(scores / temperature, mask), positives, reduction)

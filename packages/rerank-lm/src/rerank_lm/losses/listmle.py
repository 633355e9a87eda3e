"""ListMLE: the likelihood of the gold order under the Plackett-Luce model.

Xia et al., "Listwise Approach to Learning to Rank: Theory and Algorithm", ICML 2008.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rerank_lm.losses._common import clean, full_mask


def listmle(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """``-sum_k (s_(k) - logsumexp_(l >= k) s_(l))`` over the gold order, mean over lists; inputs (n_lists, n_items).

    Items with equal labels are taken in the given order (shuffle before the call for an unbiased gradient).
    """
    mask = full_mask(scores, mask)
    labels = clean(labels.to(scores.dtype), mask).masked_fill(~mask, -torch.inf)
    order = torch.argsort(labels, dim=1, descending=True, stable=True)
    sorted_mask = mask.gather(1, order)
    lowest = torch.finfo(scores.dtype).min / 4
    ordered = clean(scores, mask).gather(1, order).masked_fill(~sorted_mask, lowest)
    tails = torch.logcumsumexp(ordered.flip(1), dim=1).flip(1)
    return clean(tails - ordered, sorted_mask).sum(1).mean()

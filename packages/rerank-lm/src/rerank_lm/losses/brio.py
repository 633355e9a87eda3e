"""BRIO: candidates in the order of their quality, with a margin that grows with the gap between ranks.

Liu et al., "BRIO: Bringing Order to Abstractive Summarization", ACL 2022. As in the released code, each rank gap is
averaged apart and the averages are summed, so a gap with few pairs weighs as much as one with many; the paper's
equation sums over pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rerank_lm.losses._common import clean, full_mask


def brio_rank_gap(
    scores: Tensor,
    gold: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    margin: float = 0.001,
    gold_margin: float = 0.0,
    gold_weight: float = 0.0,
    candidates: bool = True,
) -> Tensor:
    """``sum_g mean_j max(0, s_(j+g) - s_j + g * margin)``, plus the gold term.

    Parameters
    ----------
    scores
        Shape (n_lists, n_items), **ordered best to worst by quality** along the second axis; padding last.
    gold
        Score of the reference, shape (n_lists,); adds ``gold_weight * mean max(0, s_j - s_gold + gold_margin)``.
    candidates
        False leaves the term between candidates out.
    """
    mask = full_mask(scores, mask)
    scores = clean(scores, mask)
    loss = scores.sum() * 0.0
    n = scores.shape[1]
    for gap in range(1, n if candidates else 1):
        real = mask[:, gap:] & mask[:, :-gap]
        losses = (scores[:, gap:] - scores[:, :-gap] + gap * margin).clamp(min=0)
        loss = loss + torch.where(real, losses, torch.zeros_like(losses)).sum() / real.sum().clamp(min=1)
    if gold is not None and gold_weight > 0:
        above = (scores - gold.unsqueeze(1) + gold_margin).clamp(min=0)
        loss = loss + gold_weight * clean(above, mask).sum() / mask.sum().clamp(min=1)
    return loss

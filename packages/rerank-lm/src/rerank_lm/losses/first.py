"""FIRST's joint loss: write the ranking, and rank with the first token.

Reddy et al., "FIRST: Faster Improved Listwise Reranking with Single Token Decoding", EMNLP 2024.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from rerank_lm.losses._common import full_mask
from rerank_lm.losses.lambdaloss import lambdaloss
from rerank_lm.losses.listnet import listnet
from rerank_lm.losses.ranknet import ranknet

Ranking = Literal["weighted-ranknet", "ranknet", "listnet", "lambda"]

WEIGHTS: dict[str, float] = {"weighted-ranknet": 10.0, "ranknet": 1.0, "listnet": 0.1, "lambda": 1.0}
"""The paper's factor of the ranking loss. The released training script runs ``lambda`` although the paper's main
model is weighted RankNet with 10; the default here is the paper's."""


def first_joint(
    letter_logits: Tensor,
    gold_ranks: Tensor,
    language_model_loss: Tensor,
    mask: Tensor | None = None,
    *,
    ranking: Ranking = "weighted-ranknet",
    factor: float | None = None,
) -> Tensor:
    """``L_LM + factor * L_rank`` over windows.

    Parameters
    ----------
    letter_logits
        Logits of the candidates' letters where the first identifier is predicted, (n_windows, n_items).
    gold_ranks
        0-based rank of each candidate in the gold order, (n_windows, n_items).
    language_model_loss
        Token loss of the whole written permutation, scalar.
    """
    mask = full_mask(letter_logits, mask)
    labels = -gold_ranks.to(letter_logits.dtype)
    if ranking in ("weighted-ranknet", "ranknet"):
        weight: Literal["reciprocal-rank", "none"] = "reciprocal-rank" if ranking == "weighted-ranknet" else "none"
        loss = ranknet(letter_logits, labels, mask, weight=weight, reduction="pair")
    elif ranking == "listnet":
        loss = listnet(letter_logits, gathered_targets(letter_logits, gold_ranks, mask), mask)
    else:
        loss = lambdaloss(letter_logits, gold_grades(gold_ranks, mask), mask, reduction="pair")
    return language_model_loss + (WEIGHTS[ranking] if factor is None else factor) * loss


def gathered_targets(scores: Tensor, gold_ranks: Tensor, mask: Tensor) -> Tensor:
    """Return the targets of the official code: the model's own scores, sorted, at each candidate's gold rank."""
    ordered = scores.detach().masked_fill(~mask, -torch.inf).sort(dim=1, descending=True).values
    picked = ordered.gather(1, gold_ranks.long().clamp(0, scores.shape[1] - 1))
    return torch.where(mask, picked, torch.zeros_like(picked))


def gold_grades(gold_ranks: Tensor, mask: Tensor) -> Tensor:
    """Turn gold ranks into grades 3 to 0 by quarter of the list (ours: LambdaLoss needs bounded gains)."""
    sizes = mask.sum(1, keepdim=True).clamp(min=1)
    return (3 - (4 * gold_ranks.to(sizes.dtype)) // sizes).clamp(min=0).to(torch.get_default_dtype())

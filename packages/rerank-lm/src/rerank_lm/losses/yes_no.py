"""Yes/no fine-tuning against contrastive learning, and what their gradients are made of.

GMR, "Supervised Fine-Tuning or Contrastive Learning? Towards Better Multimodal LLM Reranking" (arXiv 2510.14824).
With ``z_yes``, ``z_no`` the logits of the two answers, both losses' gradients with respect to the hidden state are
weight x direction: contrastive weights come from the softmax over the list and push along ``z_yes``; SFT weights are
each pair's own error and push along ``z_yes - z_no``. [`unified`][] takes any weight with any direction. The
negatives' weights are derived here, the paper states the positive's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from rerank_lm.losses._common import Reduction, clean, full_mask, mean, softmax

Kind = Literal["sft", "contrastive", "none"]


def yes_no_sft(
    z_yes: Tensor, z_no: Tensor, labels: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "list"
) -> Tensor:
    """``-log softmax over {yes, no}`` of the right answer, mean over items; inputs (n_lists, n_items)."""
    mask = full_mask(z_yes, mask)
    return mean(_item_losses(z_yes, z_no, labels, mask), mask, reduction)


def _item_losses(z_yes: Tensor, z_no: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    margin = clean(z_yes - z_no, mask)
    relevant = clean(labels.to(margin.dtype), mask) > 0
    return functional.softplus(torch.where(relevant, -margin, margin))


@dataclass(frozen=True)
class Weights:
    """Sizes of the gradient, item by item, shape (n_lists, n_items); they carry no gradient themselves."""

    values: Tensor
    positive: Tensor

    def statistics(self, mask: Tensor) -> dict[str, float]:
        """Mean weight of positives and negatives and the share of negatives that still push (> 0.01)."""
        positives, negatives = self.values[self.positive & mask], self.values[~self.positive & mask]
        return {
            "weight_positive": float(positives.mean()) if positives.numel() else 0.0,
            "weight_negative": float(negatives.mean()) if negatives.numel() else 0.0,
            "active_negatives": float((negatives > 0.01).double().mean()) if negatives.numel() else 0.0,
        }


def gradient_weights(
    z_yes: Tensor,
    z_no: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    kind: Kind = "sft",
    temperature: float = 1.0,
    solved: float | None = None,
) -> Weights:
    """Return the weights of a loss's gradient.

    Parameters
    ----------
    kind
        ``contrastive``: positive ``1 - p``, negative ``p`` with ``p`` the softmax over the list (one positive a
        list); ``sft``: ``1 - s`` and ``s`` with ``s = sigmoid(z_yes - z_no)``; ``none``: 1.
    solved
        Set weights to 0 where a pair is solved already (positive above ``1 - solved``, negative below ``solved``);
        the paper does not state its threshold.
    """
    mask = full_mask(z_yes, mask)
    positive = (clean(labels.to(z_yes.dtype), mask) > 0) & mask
    with torch.no_grad():
        s = torch.sigmoid(clean(z_yes - z_no, mask))
        if kind == "contrastive":
            p = softmax(clean(z_yes, mask) / temperature, mask)
            values = torch.where(positive, 1 - p, p) / temperature
        elif kind == "sft":
            values = torch.where(positive, 1 - s, s)
        else:
            values = torch.ones_like(s)
        if solved is not None:
            done = torch.where(positive, s > 1 - solved, s < solved)
            values = values.masked_fill(done, 0.0)
        return Weights(clean(values, mask), positive)


def unified(
    z_yes: Tensor,
    z_no: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    *,
    weight: Kind = "sft",
    direction: Literal["sft", "contrastive"] = "sft",
    temperature: float = 1.0,
    solved: float | None = None,
) -> Tensor:
    """Surrogate whose gradient is weight x direction: ``-sum_+ W d + sum_- W d``, mean over lists.

    ``d`` is ``z_yes`` (contrastive) or ``z_yes - z_no`` (sft). With both ``contrastive`` the gradient is that of
    InfoNCE, with both ``sft`` that of the sum over items of the yes/no loss. The value itself means nothing.
    """
    mask = full_mask(z_yes, mask)
    weights = gradient_weights(z_yes, z_no, labels, mask, kind=weight, temperature=temperature, solved=solved)
    d = clean(z_yes if direction == "contrastive" else z_yes - z_no, mask)
    signed = torch.where(weights.positive, -weights.values, weights.values) * d
    return clean(signed, mask).sum(1).mean()

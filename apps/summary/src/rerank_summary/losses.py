"""Losses of summary reranking and plan-guided generation that rerank-lm does not have.

The rank-gap margin loss is [`rerank_lm.losses.brio_rank_gap`][] (the released code's sum); ``pair_margin`` is the
equation as printed in the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pair_margin(scores: Tensor, margin: float = 0.001) -> Tensor:
    """BRIO's contrastive loss as the paper prints it: the *sum over all pairs*, mean over lists.

    ``sum_{i < j} max(0, s_j - s_i + (j - i) margin)``. The released code takes the mean over the pairs of each rank
    gap first, which gives a gap with few pairs as much weight as one with many.

    Parameters
    ----------
    scores
        Shape (n_lists, n_items), best first by quality.
    """
    n = scores.shape[1]
    i, j = torch.triu_indices(n, n, 1, device=scores.device)
    if not len(i):
        return scores.sum() * 0.0
    gaps = (j - i).to(scores.dtype) * margin
    return (scores[:, j] - scores[:, i] + gaps).clamp(min=0).sum(1).mean()


def smoothed_nll(logits: Tensor, targets: Tensor, *, ignore: int, epsilon: float = 0.1) -> Tensor:
    """Label-smoothed cross-entropy with ``eps / V`` on every class (BRIO's L_mle), mean over real tokens.

    Parameters
    ----------
    logits
        Shape (batch, n_tokens, vocabulary).
    targets
        Shape (batch, n_tokens).
    ignore
        Target id that does not count.

    Returns
    -------
    A scalar; 0 where no token counts.
    """
    logs = logits.log_softmax(-1)
    return _smoothed(logs, targets, ignore, epsilon)


def _smoothed(logs: Tensor, targets: Tensor, ignore: int, epsilon: float) -> Tensor:
    real = targets != ignore
    gold = logs.gather(-1, targets.masked_fill(~real, 0).unsqueeze(-1)).squeeze(-1)
    losses = -((1 - epsilon) * gold + epsilon * logs.mean(-1))
    return torch.where(real, losses, torch.zeros_like(losses)).sum() / real.sum().clamp(min=1)


def unlikelihood(logits: Tensor, targets: Tensor, *, ignore: int = -100, epsilon: float = 0.1) -> Tensor:
    """Unlikelihood of a target under a corrupted plan, with the same smoothing (edu-sum).

    ``-log(max(1 - p, 1e-20))`` takes the place of ``-log p``, for the target with weight ``1 - eps`` and for every
    class with ``eps / V``; mean over real tokens.

    Parameters
    ----------
    logits, targets
        Shapes (batch, n_tokens, vocabulary) and (batch, n_tokens).
    """
    return _smoothed((1 - logits.softmax(-1)).clamp(min=1e-20).log(), targets, ignore, epsilon)


def salience_kl(logits: Tensor, soft_labels: Tensor, mask: Tensor, temperature: float = 10.0) -> Tensor:
    """KL of the salience head against soft labels: KL(softmax(10 y) || softmax(logits)), mean over documents.

    Parameters
    ----------
    logits, soft_labels, mask
        Shape (batch, n_units); False in ``mask`` is padding.
    """
    low = torch.finfo(logits.dtype).min
    goal = (temperature * soft_labels).masked_fill(~mask, low).softmax(-1)
    logs = logits.masked_fill(~mask, low).log_softmax(-1)
    terms = torch.where(mask & (goal > 0), goal * (goal.clamp(min=1e-30).log() - logs), torch.zeros_like(logs))
    return terms.sum(-1).mean()

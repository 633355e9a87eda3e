"""ListNet: the top-one distribution of the scores should be the labels'.

Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007.
"""

from __future__ import annotations

from torch import Tensor

from rerank_lm.losses._common import clean, full_mask, log_softmax, softmax


def listnet(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Cross entropy ``-sum_i softmax(labels)_i log softmax(scores)_i``, mean over lists; inputs (n_lists, n_items)."""
    mask = full_mask(scores, mask)
    labels = clean(labels.to(scores.dtype), mask).detach()
    return -(softmax(labels, mask) * log_softmax(scores, mask)).sum(1).mean()


def listnet_kl(scores: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """ListNet as a KL divergence (cross entropy minus the labels' entropy), mean over lists, as DeAR states it."""
    mask = full_mask(scores, mask)
    labels = clean(labels.to(scores.dtype), mask).detach()
    goal = softmax(labels, mask)
    return (goal * (log_softmax(labels, mask) - log_softmax(scores, mask))).sum(1).mean()

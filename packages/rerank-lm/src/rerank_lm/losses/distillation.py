"""Learning from a teacher's scores: KL divergence of softened distributions (Hinton et al. 2015) and of margins."""

from __future__ import annotations

from torch import Tensor

from rerank_lm.losses._common import Reduction, clean, differences, full_mask, log_softmax, mean, ordered_pairs, softmax


def kl_distillation(scores: Tensor, teacher: Tensor, mask: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(scores / T))``, mean over lists; inputs (n_lists, n_items)."""
    mask = full_mask(scores, mask)
    teacher = clean(teacher.to(scores.dtype), mask).detach() / temperature
    student = clean(scores, mask) / temperature
    gaps = log_softmax(teacher, mask) - log_softmax(student, mask)
    return temperature**2 * (softmax(teacher, mask) * gaps).sum(1).mean()


def margin_mse(scores: Tensor, teacher: Tensor, mask: Tensor | None = None, *, reduction: Reduction = "list") -> Tensor:
    """Squared error of score differences over pairs that the teacher tells apart (Hofstätter et al. 2020)."""
    mask = full_mask(scores, mask)
    teacher = clean(teacher.to(scores.dtype), mask).detach()
    pairs = ordered_pairs(teacher, mask)
    return mean((differences(clean(scores, mask)) - differences(teacher)).square(), pairs, reduction)

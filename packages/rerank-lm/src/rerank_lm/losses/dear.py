"""DeAR's stage-1 mixtures: supervised loss and a teacher together.

Abdallah et al., "DeAR: Dual-Stage Document Reranking with Reasoning Agents via LLM Distillation", 2025. The paper's
"CE + RankNet + KL" is ``main="mix"``; the released ``lambda_loss`` cannot run, so it is not here.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from rerank_lm.losses._common import full_mask
from rerank_lm.losses.distillation import kl_distillation
from rerank_lm.losses.infonce import infonce
from rerank_lm.losses.listnet import listnet_kl
from rerank_lm.losses.ranknet import soft_ranknet

Main = Literal["cross-entropy", "ranknet-teacher", "ranknet", "listnet", "mix"]


def dear(
    scores: Tensor,
    labels: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    main: Main = "mix",
    alpha: float = 0.1,
    temperature: float = 2.0,
    beta: float = 0.5,
) -> Tensor:
    """``(1 - alpha) L_main + alpha T^2 KL(teacher || scores)``; inputs (n_lists, n_items).

    Parameters
    ----------
    labels
        1 for the positive, 0 for the rest.
    main
        ``cross-entropy``: softmax cross entropy of the positive; ``ranknet-teacher``, ``ranknet``: soft RankNet on
        the teacher's scores or the labels; ``listnet``: KL to the teacher; ``mix``: ``beta`` RankNet on the labels
        and ``1 - beta`` cross entropy.
    """
    mask = full_mask(scores, mask)
    if main == "cross-entropy":
        loss = infonce(scores, labels, mask)
    elif main == "ranknet-teacher":
        loss = soft_ranknet(scores, teacher, mask)
    elif main == "ranknet":
        loss = soft_ranknet(scores, labels, mask)
    elif main == "listnet":
        loss = listnet_kl(scores, teacher, mask)
    else:
        loss = beta * soft_ranknet(scores, labels, mask) + (1 - beta) * infonce(scores, labels, mask)
    return (1 - alpha) * loss + alpha * kl_distillation(scores, teacher, mask, temperature=temperature)

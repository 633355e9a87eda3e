"""Ranking losses, one a module; all take (n_lists, n_items) tensors with a mask and give finite gradients."""

from rerank_lm.losses.brio import brio_rank_gap
from rerank_lm.losses.dear import dear
from rerank_lm.losses.distillation import kl_distillation, margin_mse
from rerank_lm.losses.first import first_joint
from rerank_lm.losses.infonce import infonce
from rerank_lm.losses.lambdaloss import lambdaloss
from rerank_lm.losses.listmle import listmle
from rerank_lm.losses.listnet import listnet, listnet_kl
from rerank_lm.losses.margin import margin_ranking
from rerank_lm.losses.orthogonal import orthogonal
from rerank_lm.losses.ranknet import ranknet, soft_ranknet
from rerank_lm.losses.yes_no import gradient_weights, unified, yes_no_sft

__all__ = [
    "brio_rank_gap",
    "dear",
    "first_joint",
    "gradient_weights",
    "infonce",
    "kl_distillation",
    "lambdaloss",
    "listmle",
    "listnet",
    "listnet_kl",
    "margin_mse",
    "margin_ranking",
    "orthogonal",
    "ranknet",
    "soft_ranknet",
    "unified",
    "yes_no_sft",
]

"""MVP's orthogonality: the anchors of different views should point different ways."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def orthogonal(anchors: Tensor) -> Tensor:
    """``sum_(k != l) cos(a_k, a_l)^2``, mean over lists; anchors (n_lists, n_views, n_dimensions).

    0 for orthogonal anchors and for a single view. The public sources name the loss without its exact form; this is
    the squared-cosine reading.
    """
    unit = functional.normalize(anchors, dim=-1, eps=1e-12)
    cosines = unit @ unit.transpose(1, 2)
    off = cosines - torch.diag_embed(torch.diagonal(cosines, dim1=1, dim2=2))
    return off.square().sum((1, 2)).mean()

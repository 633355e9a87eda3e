"""From a feature map to a global descriptor: GeM, Regional-GeM, Scale-GeM and ReLUP.

Source: Shao et al., "Global Features are All You Need for Image Retrieval and Reranking" (ICCV 2023), sections on
pooling; where the released code differs from the text, the code is followed: Regional-GeM averages over its window
(the code divides the Lp-pool's sum by the window's size), and Scale-GeM with p = infinity normalises every scale
before it takes the maximum, while the finite form does not.

All functions take NumPy arrays or torch tensors and return the same kind. Feature maps have the shape (..., C, H, W)
and are expected to be non-negative (after a ReLU).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

A = TypeVar("A", bound=Any)

GEM_P = 4.6  # tuned by the authors on landmarks; training used 3
RGEM_P = 2.5
RELUP = 0.014


def relup(x: A, alpha: float = RELUP) -> A:
    """ReLUP: ``max(x, alpha)``; keeps small activations away from zero, where powers are flat."""
    return x.clip(alpha, None)


def gem(x: A, p: float = GEM_P, eps: float = 1e-8) -> A:
    """Generalised-mean pooling over space.

    Parameters
    ----------
    x
        Feature map, shape (..., C, H, W).
    p
        1 is average pooling, infinity is max pooling; GeM+ of the paper is 4.6, training used 3 (with eps 1e-6).
    eps
        Lower clamp before the power.

    Returns
    -------
    array
        Shape (..., C).
    """
    clamped = x.clip(eps, None)
    if math.isinf(p):
        return clamped.reshape(*clamped.shape[:-2], -1).max(-1) if _numpy(x) else clamped.amax((-2, -1))
    return (clamped**p).mean((-2, -1)) ** (1.0 / p)


def regional_gem(x: A, p: float = RGEM_P, size: int = 5, weight: float = 0.5) -> A:
    """Regional-GeM: each cell is mixed with the generalised mean of its neighbourhood.

    ``weight * (mean over a size x size window of x^p)^(1/p) + (1 - weight) * x``, stride 1, reflection padding.

    Parameters
    ----------
    x
        Feature map, shape (..., C, H, W). Reflection by ``size // 2`` needs more cells than that on each side: a
        smaller map is first enlarged by repeating its cells (nearest), with a warning; the released code raises.

    Returns
    -------
    array
        Shape (..., C, H', W'), with H' = H and W' = W unless the map had to be enlarged.
    """
    pad = size // 2
    if min(x.shape[-2:]) <= pad:
        warnings.warn(
            f"feature map of {x.shape[-2]} x {x.shape[-1]} cells is too small for Regional-GeM; enlarged to "
            f"{pad + 1} cells a side: give larger pictures",
            stacklevel=2,
        )
        x = upsample(x, pad + 1)
    padded = x**p
    for axis, n in ((-2, x.shape[-2]), (-1, x.shape[-1])):
        padded = _take(padded, _reflect(n, pad), axis)
    h, w = x.shape[-2:]
    rows = sum(padded[..., i : i + h, :] for i in range(size))
    total = sum(rows[..., :, j : j + w] for j in range(size))
    return weight * (total / size**2) ** (1.0 / p) + (1 - weight) * x


def upsample(x: A, least: int) -> A:
    """Enlarge a map's short sides to ``least`` cells by nearest neighbour; larger sides stay."""
    for axis in (-2, -1):
        n = x.shape[axis]
        if n < least:
            x = _take(x, np.arange(least) * n // least, axis)
    return x


def unit(x: A, eps: float = 1e-12) -> A:
    """Divide by the Euclidean norm along the last axis; zero vectors stay zero."""
    norm = (x**2).sum(-1) ** 0.5
    return x / norm.clip(eps, None)[..., None]


def scale_gem(descriptors: Sequence[A], p: float | None = math.inf) -> A:
    """Pool one picture's descriptors over scales.

    Parameters
    ----------
    descriptors
        One array of shape (..., D) a scale.
    p
        Infinity: maximum of the L2-normalised descriptors (the default of the released code). Finite: generalised
        mean after a shift by the smallest entry of the whole stack. None: plain mean.

    Returns
    -------
    array
        Shape (..., D); not normalised.
    """
    if p is None:
        return sum(descriptors[1:], start=descriptors[0]) / len(descriptors)
    if math.isinf(p):
        stack = [unit(d) for d in descriptors]
        return _fold(stack)
    low = min(float(d.min()) for d in descriptors)
    powers = [(d - low) ** p for d in descriptors]
    return (sum(powers[1:], start=powers[0]) / len(powers)) ** (1.0 / p) + low


def _fold(stack: Sequence[A]) -> A:
    best = stack[0]
    for d in stack[1:]:
        best = np.maximum(best, d) if _numpy(best) else best.maximum(d)
    return best


def _numpy(x: object) -> bool:
    return isinstance(x, np.ndarray)


def _reflect(n: int, pad: int) -> np.ndarray:
    return np.pad(np.arange(n), pad, mode="reflect")


def _take(x: Any, index: np.ndarray, axis: int) -> Any:
    if _numpy(x):
        return np.take(x, index, axis=axis)
    return x.index_select(axis, x.new_tensor(index, dtype=_long()))


def _long() -> Any:
    import torch  # only reached with a tensor in hand

    return torch.long

"""PCA whitening learned on the database."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rerank_core.errors import UsageError
from rerank_image.arrays import Matrix, l2


@dataclass(frozen=True)
class Whitening:
    """``l2((x - mean) @ projection)``.

    Parameters
    ----------
    mean
        Shape (d,).
    projection
        Shape (d, k): principal directions divided by their standard deviation to some power.
    """

    mean: Matrix
    projection: Matrix

    def apply(self, x: Matrix) -> Matrix:
        """Project and normalise, shape (n, d) -> (n, k)."""
        return l2((x - self.mean) @ self.projection)


def fit_whitening(x: Matrix, dims: int, power: float = 0.5) -> Whitening:
    """Learn a PCA whitening.

    Parameters
    ----------
    x
        Shape (n, d). Estimates of small directions need several times d vectors; with fewer, keep ``dims`` low.
    dims
        Directions to keep; at most min(n - 1, d).
    power
        1 divides by the standard deviation (full whitening), 0.5 by its root (half whitening), 0 only rotates.
    """
    if dims < 1 or power < 0:
        raise UsageError("whitening needs dims >= 1 and power >= 0")
    mean = x.mean(axis=0)
    centred = (x - mean).astype(np.float64)
    n, d = x.shape
    wide = n < d  # the smaller of the two Gram matrices has the same nonzero spectrum
    values, vectors = np.linalg.eigh((centred @ centred.T if wide else centred.T @ centred) / n)
    keep = np.argsort(-values)[: max(min(dims, n - 1, d), 1)]
    deviation = np.sqrt(np.maximum(values[keep], 1e-12))
    vectors = vectors[:, keep]
    if wide:
        vectors = centred.T @ vectors / (deviation * np.sqrt(n))
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(keep))])
    return Whitening(mean, (vectors / deviation**power).astype(np.float32))

"""Scores into probabilities, and what they are worth: reliability, coverage against accuracy, when to abstain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rerank_core.types import FloatArray


def _clean(scores: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, FloatArray]:
    s = np.asarray(scores, dtype=np.float64).reshape(-1)
    y = np.asarray(correct, dtype=np.float64).reshape(-1)
    if s.shape != y.shape or not len(s):
        raise ValueError(f"{s.size} scores for {y.size} outcomes; at least one of each is needed")
    if not np.isfinite(s).all() or not ((y >= 0) & (y <= 1)).all():
        raise ValueError("scores must be finite and outcomes lie in [0, 1]")
    return s, y


@dataclass(frozen=True)
class Isotonic:
    """Isotonic regression (Zadrozny and Elkan, KDD 2002): a rising step function, linear between its steps.

    ``knots`` and ``values`` have shape (n_knots,), both rising.
    """

    knots: tuple[float, ...]
    values: tuple[float, ...]

    @classmethod
    def fit(cls, scores: ArrayLike, correct: ArrayLike) -> Isotonic:
        """Fit on scores and outcomes in [0, 1], each of shape (n,)."""
        from scipy.optimize import isotonic_regression

        s, y = _clean(scores, correct)
        knots, inverse, counts = np.unique(s, return_inverse=True, return_counts=True)
        means = np.bincount(inverse, y) / counts
        fitted = isotonic_regression(means, weights=counts).x
        # Only the ends of each flat piece are needed.
        keep = np.ones(len(knots), dtype=bool)
        keep[1:-1] = (np.diff(fitted)[:-1] != 0) | (np.diff(fitted)[1:] != 0)
        return cls(tuple(knots[keep].tolist()), tuple(fitted[keep].tolist()))

    def predict(self, scores: ArrayLike) -> FloatArray:
        """Return probabilities, shape (n,); constant beyond the fitted range."""
        return np.interp(np.asarray(scores, dtype=np.float64), self.knots, self.values)


@dataclass(frozen=True)
class Platt:
    """Platt scaling: 1 / (1 + exp(-(slope * score + intercept))), with Platt's smoothed targets."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, scores: ArrayLike, correct: ArrayLike) -> Platt:
        """Fit on scores and outcomes in [0, 1], each of shape (n,)."""
        from scipy.optimize import minimize

        s, y = _clean(scores, correct)
        positive = y.sum()
        high, low = (positive + 1) / (positive + 2), 1 / (len(y) - positive + 2)
        target = low + (high - low) * y
        center, scale = s.mean(), s.std() or 1.0
        z = (s - center) / scale

        def loss(w: FloatArray) -> tuple[float, FloatArray]:
            logit = w[0] * z + w[1]
            value = np.logaddexp(0, logit) - target * logit
            gradient = 1 / (1 + np.exp(-np.clip(logit, -500, 500))) - target
            return float(value.sum()), np.array([(gradient * z).sum(), gradient.sum()])

        w = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x
        return cls(float(w[0] / scale), float(w[1] - w[0] * center / scale))

    def predict(self, scores: ArrayLike) -> FloatArray:
        """Return probabilities, shape (n,)."""
        logit = self.slope * np.asarray(scores, dtype=np.float64) + self.intercept
        return 1 / (1 + np.exp(-np.clip(logit, -500, 500)))


def ece(probability: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over equal-width bins of [0, 1] (Guo et al., ICML 2017).

    Sum over bins of the bin's share times |mean outcome - mean probability|.
    """
    p, y = _clean(probability, correct)
    where = np.minimum((p * bins).astype(int), bins - 1)
    gap = np.bincount(where, y - p, minlength=bins)
    return float(np.abs(gap).sum() / len(p))


def coverage_accuracy(probability: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Answer the surest first: coverage (k / n) and the accuracy of the k surest, each of shape (n,).

    Ties are answered together: every point inside a tie shows the accuracy at the tie's end, so that the curve does
    not depend on the order of the input.
    """
    p, y = _clean(probability, correct)
    order = np.argsort(-p, kind="stable")
    p, y = p[order], y[order]
    k = np.arange(1, len(p) + 1)
    accuracy = np.cumsum(y) / k
    end = np.searchsorted(-p, -p, side="right") - 1
    return k / len(p), accuracy[end]


def abstention_threshold(probability: ArrayLike, correct: ArrayLike, accuracy: float) -> float:
    """Lowest probability at which answering keeps the wanted accuracy; infinity where none does.

    Answer when ``probability >= threshold``. Choose it on data that is not the data at hand.
    """
    p, y = _clean(probability, correct)
    _, reached = coverage_accuracy(p, y)
    good = np.flatnonzero(reached >= accuracy)
    return float(np.sort(p)[::-1][good[-1]]) if len(good) else float("inf")

"""Learning from clicks: a tree turns click statistics into grades, and two losses train a ranker on them.

Zou et al., "Pre-trained Language Model based Ranking in Baidu Search", KDD 2021, section 4: raw clicks are biased by
position, appearance and chance, so a regression tree, fitted on the few results that people graded, maps a result's click
statistics to a calibrated grade. Pre-training takes pairs of calibrated grades with a hinge; fine-tuning on human grades adds
a term that ties the score to the grade, so that scores mean the same for every query. The anchor's form here (target
``grade / 5 + 0.1``, squared distance beyond a tolerance) is ours after the paper's description.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import require

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.floating]

FEATURES = ("clicked", "clicked_smoothed", "last", "only", "above_clicked", "below_skipped")


@dataclass(frozen=True)
class Session:
    """One result page as it was seen: ids from the top, and whether each was clicked."""

    ids: tuple[str, ...]
    clicks: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.clicks):
            raise ValueError(f"{len(self.clicks)} clicks for {len(self.ids)} results")


def click_features(sessions: Sequence[Session], *, prior: float = 5.0) -> dict[str, NDArray[np.float64]]:
    """Describe every result of one query by how it was clicked.

    Parameters
    ----------
    prior
        Impressions' worth of the query's mean click rate that the smoothed rate starts from.

    Returns
    -------
    dict
        Result id -> shape (6,), in the order of `FEATURES`: click rate, the same smoothed, share of impressions in which
        it was the last click, or the only one, in which a result below it was clicked and it was not (a skip), and
        in which it was clicked while the one above was not.
    """
    seen: dict[str, int] = {}
    counts: dict[str, NDArray[np.float64]] = {}
    for s in sessions:
        clicked = np.flatnonzero(s.clicks)
        last = int(clicked[-1]) if len(clicked) else -1
        for rank, (i, click) in enumerate(zip(s.ids, s.clicks, strict=True)):
            seen[i] = seen.get(i, 0) + 1
            above_skipped = click and rank > 0 and not s.clicks[rank - 1]
            row = (click, click and rank == last, click and len(clicked) == 1, not click and rank < last, above_skipped)
            counts[i] = counts.get(i, np.zeros(5)) + np.array(row, dtype=np.float64)
    total = sum(seen.values())
    mean = sum(c[0] for c in counts.values()) / total if total else 0.0
    return {
        i: np.array([c[0] / seen[i], (c[0] + prior * mean) / (seen[i] + prior), *(c[1:] / seen[i])])
        for i, c in counts.items()
    }


@dataclass(frozen=True)
class ClickTree:
    """A regression tree from click features to grades; `fit` returns a fitted one."""

    model: str
    levels: int

    @classmethod
    def fit(cls, features: Array, grades: Array, *, leaves: int = 16, smallest: int = 10) -> ClickTree:
        """Fit on human grades.

        Parameters
        ----------
        features
            Shape (n, n_features).
        grades
            Whole numbers from 0, shape (n,).
        """
        lightgbm = require("lightgbm", "rerank-core[ltr]", "click calibration")
        settings = {
            "objective": "regression",
            "learning_rate": 1.0,
            "num_leaves": leaves,
            "min_data_in_leaf": smallest,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(np.asarray(features, dtype=np.float64), np.asarray(grades, dtype=np.float64))
        booster = lightgbm.train(settings, data, num_boost_round=1)  # one tree at full rate: a plain regression tree
        return cls(booster.model_to_string(), int(np.max(grades)) + 1)

    def grades(self, features: Array) -> NDArray[np.float64]:
        """Return calibrated grades, real numbers from 0 to the largest grade; shape (n,)."""
        lightgbm = require("lightgbm", "rerank-core[ltr]", "click calibration")
        if not len(features):
            return np.empty(0)
        found = lightgbm.Booster(model_str=self.model).predict(np.asarray(features, dtype=np.float64), num_threads=1)
        return np.clip(np.asarray(found, dtype=np.float64), 0, self.levels - 1)


def pretraining_loss(scores: Tensor, grades: Tensor, mask: Tensor | None = None, *, margin: float = 1.0) -> Any:
    """Pairwise hinge over calibrated grades; inputs (n_lists, n_items)."""
    from rerank_lm.losses import margin_ranking

    return margin_ranking(scores, grades, mask, margin=margin)


def anchored_loss(
    scores: Tensor,
    grades: Tensor,
    mask: Tensor | None = None,
    *,
    margin: float = 0.1,
    weight: float = 1.0,
    tolerance: float = 0.01,
    levels: int = 5,
) -> Any:
    """Pairwise hinge plus ``weight`` times the anchor ``max(0, (score - (grade / levels + 0.1))^2 - tolerance)``.

    Parameters
    ----------
    scores
        Between 0 and 1 (a sigmoid's), shape (n_lists, n_items).
    grades
        Human grades from 0 to ``levels - 1``, same shape.
    """
    from rerank_lm.losses import margin_ranking

    real = scores == scores if mask is None else mask
    gap = (scores - (grades.to(scores.dtype) / levels + 0.1)) ** 2 - tolerance
    anchor = (gap.clamp(min=0) * real).sum() / real.sum().clamp(min=1)
    return margin_ranking(scores, grades, mask, margin=margin) + weight * anchor

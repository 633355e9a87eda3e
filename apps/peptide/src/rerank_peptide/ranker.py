"""Fitted models over features: a weighted sum, LambdaRank, and those that ship with the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.calibration import Isotonic
from rerank_core.errors import InputError, ModelNotFound, require
from rerank_core.files import read_json
from rerank_core.learning import LambdaRank
from rerank_core.types import FloatArray


@dataclass(frozen=True)
class Linear:
    """A weighted sum of features, fitted by conditional logit (McFadden 1974) and shrunk towards the hand-made rule.

    Some hundred real lists teach a dozen weights; they do not teach trees.

    Parameters
    ----------
    features, weights
        Names and weights; ppm is capped at 30 and divided by 30, the error spread capped at 30 and divided by 10.
    ranker
        Weight of the trees' score where the sum is blended with them.
    calibration
        Probabilities of the sum's confidence.
    """

    features: tuple[str, ...]
    weights: tuple[float, ...]
    ranker: float = 0.0
    calibration: Isotonic | None = None

    @classmethod
    def load(cls, path: Path) -> Linear:
        """Read a JSON file of features and weights."""
        value = read_json(path)
        try:
            c = value.get("calibration")
            calibration = None if c is None else Isotonic(tuple(c["knots"]), tuple(c["values"]))
            return cls(tuple(value["features"]), tuple(value["weights"]), float(value.get("ranker", 0)), calibration)
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"is no linear model: {error}", path) from error

    def score(self, table: FloatArray, names: Sequence[str]) -> FloatArray:
        """Score rows, shape (n_rows,); ``names`` are the table's columns."""
        columns = table[:, [list(names).index(n) for n in self.features]].copy()
        for name, divisor in (("ppm", 30.0), ("error_spread", 10.0)):
            if name in self.features:
                j = self.features.index(name)
                columns[:, j] = np.minimum(columns[:, j], 30.0) / divisor
        return columns @ np.array(self.weights)


@dataclass(frozen=True, eq=False)
class Ranker:
    """A fitted LambdaRank with its booster held open, and what turns its scores into probabilities."""

    model: LambdaRank
    booster: Any
    calibration: Isotonic | None = None
    blend: Linear | None = None

    @classmethod
    def load(cls, folder: str | Path) -> Ranker:
        """Read a folder of ``rerank-peptide fit``.

        Raises
        ------
        InputError
            When it holds no such model.
        MissingExtra
            Without LightGBM.
        """
        folder = Path(folder)
        model = LambdaRank.load(folder)
        lightgbm = require("lightgbm", "rerank-core[ltr]", "learning to rank")
        try:
            booster = lightgbm.Booster(model_str=model.model)
        except lightgbm.basic.LightGBMError as error:
            raise InputError(f"is no LightGBM model: {error}", folder / "model.txt") from error
        calibration = None
        if (folder / "calibration.json").is_file():
            value = read_json(folder / "calibration.json")
            calibration = Isotonic(tuple(value["knots"]), tuple(value["values"]))
        blend = Linear.load(folder / "blend.json") if (folder / "blend.json").is_file() else None
        return cls(model, booster, calibration, blend)

    def score_columns(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """Score one request's candidates from named columns, shape (n_candidates,)."""
        n = len(next(iter(columns.values())))
        table = np.full((n, len(self.model.names)), np.nan)
        for j, name in enumerate(self.model.names):
            if name in columns:
                table[:, j] = columns[name]
        return self.score_table(table)

    def score_table(self, table: FloatArray) -> FloatArray:
        """Score rows with the model's columns: trees, plus the linear part where there is one."""
        trees = np.asarray(self.booster.predict(table, num_threads=1), dtype=np.float64)
        if self.blend is None:
            return trees
        return self.blend.ranker * trees + self.blend.score(table, self.model.names)


@lru_cache(maxsize=4)
def packaged_ranker(name: str) -> Ranker:
    """Load a ranker that ships with the package: ``graph`` or ``features``."""
    with resources.as_file(resources.files("rerank_peptide") / "weights" / name) as folder:
        if not (folder / "model.txt").is_file():
            raise ModelNotFound(f"the package's {name} model is missing; reinstall rerank-peptide")
        return Ranker.load(folder)

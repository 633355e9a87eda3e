"""The named rerankers: naive ones, LambdaRank over features, the axial network, and probabilities for their scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np

from rerank_core.calibration import Isotonic
from rerank_core.errors import InputError, ModelNotFound, require
from rerank_core.files import read_json
from rerank_core.learning import LambdaRank, feature_table
from rerank_core.reranker import Reranker, Scores, digest
from rerank_core.types import FloatArray, Ranking
from rerank_peptide import baselines
from rerank_peptide.data import PeptideRequest
from rerank_peptide.features import IntensitySource, SpectrumFeatures

NAIVE: Final[dict[str, tuple[Callable[[Sequence[PeptideRequest]], list[FloatArray]], str]]] = {
    "score": (baselines.by_score, "the engine's own score (best quantile over engines)"),
    "votes": (baselines.by_votes, "majority vote of the engines, ties by score"),
    "mass": (baselines.by_mass, "closest precursor mass"),
    "mass-score": (baselines.by_mass_filter, "mass filter of 20 ppm, then score"),
    "hand": (baselines.by_hand, "intensity correlation + 2 x site coverage + explained intensity"),
}


def naive(name: str) -> Reranker:
    """Return a naive reranker by name."""
    function, _ = NAIVE[name]
    return Scores(name, function, {"naive": name})


@dataclass(frozen=True, eq=False)
class Ranker:
    """A fitted LambdaRank with its booster held open, and what turns its scores into probabilities."""

    model: LambdaRank
    booster: Any
    calibration: Isotonic | None = None

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
        return cls(model, booster, calibration)

    def score_columns(self, columns: Mapping[str, FloatArray]) -> FloatArray:
        """Score one request's candidates from named columns, shape (n_candidates,)."""
        n = len(next(iter(columns.values())))
        table = np.full((n, len(self.model.names)), np.nan)
        for j, name in enumerate(self.model.names):
            if name in columns:
                table[:, j] = columns[name]
        return self.booster.predict(table, num_threads=1)


@lru_cache(maxsize=4)
def packaged_ranker(name: str) -> Ranker:
    """Load a ranker that ships with the package: ``graph`` or ``features``."""
    with resources.as_file(resources.files("rerank_peptide") / "weights" / name) as folder:
        if not (folder / "model.txt").is_file():
            raise ModelNotFound(f"the package's {name} model is missing; reinstall rerank-peptide")
        return Ranker.load(folder)


def confidence(scores: FloatArray) -> FloatArray:
    """What calibration sees of a list: each candidate's score and its lead over the best other, shape (n,).

    LambdaRank scores mean nothing by themselves but differences do, and a list with a clear winner is surer.
    """
    n = scores.size
    if n == 0:
        return scores
    best = float(scores.max())
    second = float(np.partition(scores, -2)[-2]) if n > 1 else best - 3.0
    rival = np.where(scores == best, second, best)
    return 0.35 * scores + (scores - rival)


class FeatureRanker:
    """LambdaRank over spectrum, peptide and list features.

    Parameters
    ----------
    folder
        A fitted model's folder; None takes the packaged one.
    intensity
        ``packaged`` network or ``ms2pip`` (extra) for the intensity features.
    tolerance
        Fragment tolerance in Da.
    """

    name = "features"

    def __init__(
        self, folder: str | None = None, intensity: IntensitySource = "packaged", tolerance: float = 0.02
    ) -> None:
        self.ranker = packaged_ranker("features") if folder is None else Ranker.load(folder)
        self.extract = SpectrumFeatures(intensity, tolerance)

    def scores(self, requests: Sequence[PeptideRequest]) -> list[FloatArray]:
        """Return one array of scores a request."""
        table = feature_table(
            [_bare(r) for r in requests], self._extractor(requests), names=self.ranker.model.names
        )
        if not len(table.values):
            return [np.empty(0) for _ in requests]
        return table.split(self.ranker.booster.predict(table.values, num_threads=1))

    def _extractor(self, requests: Sequence[PeptideRequest]) -> Callable[[Any], list[dict[str, FloatArray]]]:
        found = self.extract(requests)
        return lambda _: found

    def rerank(self, requests: Sequence[PeptideRequest]) -> list[Ranking]:
        """Extract features, score, sort; the reason names what speaks for the candidate."""
        return [Ranking.from_scores(r, s) for r, s in zip(requests, self.scores(requests), strict=True)]

    def probabilities(self, scores: FloatArray) -> FloatArray | None:
        """Return calibrated probabilities of one request's scores, or None without calibration."""
        if self.ranker.calibration is None or not scores.size:
            return None
        return self.ranker.calibration.predict(confidence(scores))

    def fingerprint(self) -> str:
        """Return the digest of model and settings."""
        return digest("peptide-features", self.ranker.model.fingerprint(), self.extract.__qualname__)


def _bare(request: PeptideRequest) -> PeptideRequest:
    # Engine-named features must not reach a model that shall work with any engine.
    from dataclasses import replace

    return replace(request, candidates=tuple(replace(c, features={}) for c in request.candidates))

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
from rerank_peptide.features import BASE_NAMES, IntensitySource, SpectrumFeatures, spectrum_features

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
        table = feature_table([_bare(r) for r in requests], self._extractor(requests), names=self.ranker.model.names)
        if not len(table.values):
            return [np.empty(0) for _ in requests]
        return table.split(self.ranker.score_table(table.values))

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


class LinearRanker:
    """The default: a linear model of spectrum and peptide features, with calibrated probabilities."""

    name = "default"

    def __init__(self, intensity: IntensitySource = "packaged", tolerance: float = 0.02) -> None:
        with resources.as_file(resources.files("rerank_peptide") / "weights" / "default.json") as path:
            self.model = Linear.load(path)
        self.intensity, self.tolerance = intensity, tolerance

    def rerank(self, requests: Sequence[PeptideRequest]) -> list[Ranking]:
        """Score and sort."""
        from rerank_peptide.features import predict_intensities

        flat = [c.content for r in requests for c in r.candidates]
        charges = [r.query.charge for r in requests for _ in r.candidates]
        predicted = predict_intensities(flat, charges, self.intensity)
        out, start = [], 0
        for r in requests:
            peptides = [c.content for c in r.candidates]
            part = predicted[start : start + len(peptides)]
            start += len(peptides)
            if not peptides:
                out.append(Ranking.from_scores(r, []))
                continue
            table = spectrum_features(r.query, peptides, part, tolerance=self.tolerance)
            out.append(Ranking.from_scores(r, self.model.score(table, BASE_NAMES)))
        return out

    def probabilities(self, scores: FloatArray) -> FloatArray | None:
        """Return calibrated probabilities of one request's scores."""
        if self.model.calibration is None or not scores.size:
            return None
        return self.model.calibration.predict(confidence(scores))

    def fingerprint(self) -> str:
        """Return the digest of weights and settings."""
        return digest("peptide-linear", self.model, self.intensity, self.tolerance)


def _bare(request: PeptideRequest) -> PeptideRequest:
    # Engine-named features must not reach a model that shall work with any engine.
    from dataclasses import replace

    return replace(request, candidates=tuple(replace(c, features={}) for c in request.candidates))

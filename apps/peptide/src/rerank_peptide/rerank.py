"""The named rerankers: naive ones, LambdaRank over features, the axial network, and probabilities for their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any, Final

import numpy as np
from scipy.special import softmax

from rerank_core.learning import feature_table
from rerank_core.reranker import Reranker, Scores, digest
from rerank_core.types import FloatArray, Ranking
from rerank_peptide import baselines
from rerank_peptide.data import PeptideRequest, believed_share, log_prior
from rerank_peptide.features import BASE_NAMES, IntensitySource, SpectrumFeatures, spectrum_features
from rerank_peptide.probabilities import confidence
from rerank_peptide.ranker import Linear, Ranker, packaged_ranker

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

    def probabilities(self, request: PeptideRequest, scores: FloatArray) -> FloatArray | None:
        """Return calibrated probabilities of a request's scores, in its order, or None without calibration."""
        if self.ranker.calibration is None or not scores.size:
            return None
        return self.ranker.calibration.predict(confidence(scores))

    def fingerprint(self) -> str:
        """Return the digest of model and settings."""
        return digest("peptide-features", self.ranker.model.fingerprint(), self.extract.__qualname__)


class LinearRanker:
    """The default: a linear model of spectrum and peptide features and of the axial network's match logit.

    Where an engine's scores are probabilities, their logarithm is added as a prior: the sum is in logits.

    Parameters
    ----------
    intensity
        ``packaged`` network or ``ms2pip`` (extra) for the intensity features.
    tolerance
        Fragment tolerance in Da.
    device
        Where the axial network runs.

    Attributes
    ----------
    residue_deviation
        (request id, candidate id) -> predicted RMD a token, of the last calls.
    """

    name = "default"

    def __init__(self, intensity: IntensitySource = "packaged", tolerance: float = 0.02, device: str = "auto") -> None:
        from rerank_peptide.axial_rerank import AxialRanker

        with resources.as_file(resources.files("rerank_peptide") / "weights" / "default.json") as path:
            self.model = Linear.load(path)
        self.intensity, self.tolerance = intensity, tolerance
        self.axial = AxialRanker(device=device, head="match")
        self.residue_deviation = self.axial.residue_deviation

    def scores(self, requests: Sequence[PeptideRequest]) -> list[FloatArray]:
        """Return one array of scores a request."""
        from rerank_peptide.features import predict_intensities

        flat = [c.content for r in requests for c in r.candidates]
        charges = [r.query.charge for r in requests for _ in r.candidates]
        predicted = predict_intensities(flat, charges, self.intensity)
        out: list[FloatArray] = []
        start = 0
        for r, match in zip(requests, self.axial.scores(requests), strict=True):
            peptides = [c.content for c in r.candidates]
            part = predicted[start : start + len(peptides)]
            start += len(peptides)
            if not peptides:
                out.append(np.empty(0))
                continue
            table = spectrum_features(r.query, peptides, part, tolerance=self.tolerance)
            evidence = self.model.score(np.column_stack([table, match]), (*BASE_NAMES, "match"))
            out.append(evidence + log_prior(r))
        return out

    def rerank(self, requests: Sequence[PeptideRequest]) -> list[Ranking]:
        """Score and sort."""
        return [Ranking.from_scores(r, s) for r, s in zip(requests, self.scores(requests), strict=True)]

    def probabilities(self, request: PeptideRequest, scores: FloatArray) -> FloatArray | None:
        """Return calibrated probabilities of a request's scores, in its order.

        Where an engine says how probable its candidates are, these share what it gives them in all: the calibration set
        knows no such engine.
        """
        if self.model.calibration is None or not scores.size:
            return None
        believed = believed_share(request)
        if believed is None:
            return self.model.calibration.predict(confidence(scores))
        return believed * softmax(scores)

    def fingerprint(self) -> str:
        """Return the digest of weights and settings."""
        return digest("peptide-linear with prior", self.model, self.axial.fingerprint(), self.intensity, self.tolerance)


def _bare(request: PeptideRequest) -> PeptideRequest:
    # Engine-named features must not reach a model that shall work with any engine.
    from dataclasses import replace

    return replace(request, candidates=tuple(replace(c, features={}) for c in request.candidates))

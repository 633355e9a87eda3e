"""The app's registration: methods, measures, codec, rendering, embedded sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rerank_core.domain import Domain, Method
from rerank_core.reranker import Reranker
from rerank_core.types import Dataset
from rerank_peptide.data import PeptideCodec, load
from rerank_peptide.measures import PEPTIDE_RECALL
from rerank_peptide.rendering import PeptideRendering

_SETTINGS: Mapping[str, Any] = {"model": None, "intensity": "packaged", "tolerance": 0.02}


def _features(config: Mapping[str, Any]) -> Reranker:
    from rerank_peptide.rerank import FeatureRanker

    return FeatureRanker(config["model"], config["intensity"], float(config["tolerance"]))


def _linear(config: Mapping[str, Any]) -> Reranker:
    from rerank_peptide.rerank import LinearRanker

    return LinearRanker(config["intensity"], float(config["tolerance"]), str(config["device"]))


def _axial(config: Mapping[str, Any]) -> Reranker:
    from rerank_peptide.axial_rerank import AxialRanker

    return AxialRanker(config["model"], int(config["batch_size"]), str(config["device"]), config["head"])


def _naive(name: str) -> Callable[[Mapping[str, Any]], Reranker]:
    def make(config: Mapping[str, Any]) -> Reranker:
        from rerank_peptide.rerank import naive

        return naive(name)

    return make


def _sample() -> Dataset[Any, Any]:
    from rerank_peptide.sample import sample

    return sample()


methods: dict[str, Method] = {
    "default": Method(
        _linear,
        "conditional logit over spectrum and peptide features and the axial network, plus the engine's log-probability",
        "McFadden 1974; RankNovo (arXiv 2505.17552); features ours",
        ("torch", "depthcharge-ms"),
        {"intensity": "packaged", "tolerance": 0.02, "device": "auto"},
        "1 forward a spectrum, 0.5 ms a candidate",
    ),
    "features": Method(
        _features,
        "LambdaRank over spectrum and peptide features, blended with a linear model",
        "LambdaRank (Burges 2010); features ours",
        ("lightgbm",),
        _SETTINGS,
        "0.5 ms a candidate",
    ),
    "axial": Method(
        _axial,
        "row-tied and column attention over the candidate list, cross-attention to the spectrum, evidence of every bond",
        "RankNovo (arXiv 2505.17552)",
        ("torch", "depthcharge-ms"),
        {"model": None, "batch_size": 32, "device": "auto", "head": None},
        "1 forward a spectrum",
    ),
    "score": Method(_naive("score"), "the engine's own score; best quantile over several engines", "naive"),
    "votes": Method(_naive("votes"), "majority vote of the engines, ties by score", "naive"),
    "mass": Method(_naive("mass"), "closest precursor mass", "naive"),
    "mass-score": Method(_naive("mass-score"), "precursor within 20 ppm, then score", "naive"),
    "hand": Method(_naive("hand"), "intensity correlation + 2 x site coverage + explained intensity", "naive"),
}

domain: Domain[Any, Any] = Domain(
    name="peptide",
    title="De novo peptides of tandem mass spectra",
    methods=methods,
    measures=(PEPTIDE_RECALL,),
    codec=PeptideCodec(),
    rendering=PeptideRendering(),
    sample=_sample,
    load=load,
    demo_methods=("score", "mass", "hand", "default", "features", "axial"),
    notes={
        "sample": "Spectra simulated by this package from textbook proteins, candidates from its own graph engine; "
        "none of their peptides was trained on."
    },
)

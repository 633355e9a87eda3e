"""Weights of the axial network: safetensors with the architecture inside, and the official checkpoint's names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from rerank_core.errors import InputError
from rerank_peptide.axial import AxialModel, AxialParams

_KEYS: Final = (
    ("encoder.zeroPeaks_intensity", "encoder.zero_peak"),
    ("encoder.allPeaks_intensity", "encoder.mass_peak"),
    ("encoder.peak_encoder.int_encoder.", "encoder.peak_encoder.intensity."),
    ("encoder.transformer_encoder.", "encoder.transformer_encoder."),
    ("msa_decoder.embed_tokens.charge_encoder.", "embedding.charge."),
    ("msa_decoder.embed_tokens.aa_encoder.", "embedding.token."),
    ("msa_decoder.embed_positions.", "position."),
    ("msa_decoder.emb_layer_norm_before.", "before."),
    ("msa_decoder.emb_layer_norm_after.", "after."),
    ("global_final.", "pmd."),
    ("local_final.", "rmd."),
)
_LAYER_KEYS: Final = (
    ("row_self_attention.layer_norm.", "row_norm."),
    ("column_self_attention.layer_norm.", "column_norm."),
    ("cross_attention.layer_norm.", "cross_norm."),
    ("feed_forward_layer.layer_norm.", "norm."),
    ("row_self_attention.layer.", "row."),
    ("column_self_attention.layer.", "column."),
    ("cross_attention.layer.", "cross."),
    ("feed_forward_layer.layer.", ""),
)


def from_official(state: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Rename the official checkpoint's weights; its fixed wavelength buffers are dropped (they are recomputed).

    ``*_self_attention.layer.{q,k,v,out}_proj`` become ``row`` or ``column`` ``.{q,k,v,out}``; ``cross_attention.layer``
    becomes ``cross``; ``feed_forward_layer.layer.fc1`` becomes ``fc1``; ``global_final`` and ``local_final`` become
    ``pmd`` and ``rmd``.
    """
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.endswith(("sin_term", "cos_term")):
            continue
        tensor = torch.from_numpy(np.ascontiguousarray(value))
        if key.startswith("msa_decoder.layers."):
            _, _, number, rest = key.split(".", 3)
            old, new = next((o, n) for o, n in _LAYER_KEYS if rest.startswith(o))
            name = f"layers.{number}.{new}{rest[len(old) :]}"
            if new in ("row.", "column."):
                name = name.replace("_proj.", ".")
        else:
            old, new = next((o, n) for o, n in _KEYS if key.startswith(o))
            name = new + key[len(old) :]
            if name in ("encoder.zero_peak", "encoder.mass_peak"):
                tensor = tensor.reshape(1)
        out[name] = tensor
    return out


def load_weights(model: AxialModel, state: Mapping[str, Tensor]) -> None:
    """Load renamed weights; every parameter must be there.

    Raises
    ------
    ValueError
        When weights are missing or left over.
    """
    missing, unexpected = model.load_state_dict(dict(state), strict=False)
    missing = [k for k in missing if not k.endswith(("sin_term", "cos_term"))]
    if missing or unexpected:
        raise ValueError(f"weights do not fit: missing {missing[:3]}, unexpected {list(unexpected)[:3]}")


def save_model(path: Any, model: AxialModel, extra: Mapping[str, str] | None = None) -> None:
    """Write safetensors with the architecture in the metadata; fixed buffers are left out."""
    from safetensors.torch import save_file

    state = {k: v.contiguous().cpu() for k, v in model.state_dict().items() if not k.endswith(("sin_term", "cos_term"))}
    save_file(state, str(path), {"params": json.dumps(asdict(model.params)), **(extra or {})})


def load_model(path: Any) -> tuple[AxialModel, dict[str, str]]:
    """Read a file of `save_model`: the model in evaluation mode, and the metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            meta = dict(file.metadata() or {})
            state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not a dict
        params = AxialParams(**json.loads(meta["params"]))
        model = AxialModel(params)
        load_weights(model, {k: v.float() for k, v in state.items()})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"is no axial checkpoint of this program: {error}", path) from error
    return model.eval(), meta

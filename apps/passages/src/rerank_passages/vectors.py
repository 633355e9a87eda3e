"""Vectors of passages that are computed once: a collection's passages come back query after query."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rerank_core.cache import Store
from rerank_core.reranker import digest
from rerank_lm.encoders import BiEncoder
from rerank_lm.encoders.bi import Embedded


class Kept(BiEncoder):
    """A bi-encoder that keeps vectors in a folder, in half precision; a kept one costs no tokens.

    Entries are keyed by the encoder's digest and the text, so that one folder serves several encoders and processes.
    """

    def __init__(self, inner: BiEncoder, folder: str | Path) -> None:
        super().__init__(
            inner.name,
            inner.transformer,
            pooling=inner.pooling,
            query_prefix=inner.query_prefix,
            fingerprint=inner.fingerprint(),
        )
        self._store = Store(folder)

    def encode_report(self, texts: Sequence[str]) -> Embedded:
        """Encode texts that are not kept yet; the others are read."""
        unique = list(dict.fromkeys(texts))
        keys = {t: digest(self.fingerprint(), t) for t in unique}
        kept = {t: self._store.get(k) for t, k in keys.items()}
        missing = [t for t in unique if kept[t] is None]
        fresh = super().encode_report(missing)
        tokens = dict(zip(missing, fresh.tokens.tolist(), strict=True))
        for text, vector, cut in zip(missing, fresh.vectors, fresh.truncated, strict=True):
            kept[text] = value = bytes([bool(cut)]) + vector.astype(np.float16).tobytes()
            self._store.put(keys[text], value)
        values = [kept[t] or b"" for t in texts]
        vectors = np.frombuffer(b"".join(v[1:] for v in values), dtype=np.float16).astype(np.float32)
        vectors = vectors.reshape(len(texts), self.width)
        unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return Embedded(
            unit,
            np.array([bool(v[0]) for v in values], dtype=bool),
            np.array([tokens.get(t, 0) for t in texts], dtype=np.int64),
        )

"""Static embeddings: a table of token vectors, averaged; thousands of texts a second and no forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rerank_core.reranker import digest
from rerank_lm.encoders.batching import chunks
from rerank_lm.encoders.runtime import CHUNK
from rerank_lm.models import resolve_model


class StaticEncoder:
    """Mean of token vectors, scaled to unit length.

    Parameters
    ----------
    table
        Token vectors, shape (vocabulary, d).
    tokenizer
        A ``tokenizers.Tokenizer`` whose ids index the table.
    """

    def __init__(self, name: str, table: NDArray[np.float32], tokenizer: object, fingerprint: str = "") -> None:
        self.name, self.table, self._tokenizer, self._fingerprint = name, table, tokenizer, fingerprint

    @classmethod
    def load(cls, name: str = "wordllama-l2-256") -> StaticEncoder:
        """Load by alias.

        Raises
        ------
        ModelNotFound
            When the name leads to no weights, or they are no single table.
        """
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        from rerank_core.errors import ModelNotFound

        resolved = resolve_model(name)
        file = resolved.weights if resolved.weights.is_file() else resolved.weights / "model.safetensors"
        tables = [t for t in load_file(file).values() if t.ndim == 2]
        if len(tables) != 1:
            raise ModelNotFound(f"{file}: a static model holds one table of token vectors, this has {len(tables)}")
        tokenizer = Tokenizer.from_file(str(resolved.tokenizer))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(name, tables[0].astype(np.float32), tokenizer, digest("static", resolved.fingerprint()))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (n_texts, d); zeros for a text without tokens."""
        out = np.zeros((len(texts), self.table.shape[1]), dtype=np.float32)
        for part in chunks(len(texts), CHUNK):
            encoded = self._tokenizer.encode_batch([texts[i] for i in part], add_special_tokens=False)  # type: ignore[attr-defined]
            for i, e in zip(part, encoded, strict=True):
                if e.ids:
                    out[i] = self.table[e.ids].mean(axis=0)
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)

    def encode_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return unit token vectors, one array of shape (n_tokens, d) a text."""
        out: list[NDArray[np.float32]] = []
        for part in chunks(len(texts), CHUNK):
            encoded = self._tokenizer.encode_batch([texts[i] for i in part], add_special_tokens=False)  # type: ignore[attr-defined]
            out += [self._unit[e.ids] for e in encoded]
        return out

    @cached_property
    def _unit(self) -> NDArray[np.float32]:
        """The table with rows of unit length."""
        return self.table / np.maximum(np.linalg.norm(self.table, axis=1, keepdims=True), 1e-12)

    def fingerprint(self) -> str:
        """Return a digest of the weights."""
        return self._fingerprint

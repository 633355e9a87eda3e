"""Bi-encoder: one forward pass a text gives one vector (pooled) or one vector a token (late interaction)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import UsageError
from rerank_core.reranker import digest
from rerank_lm.encoders.batching import chunks, distinct, token_batches
from rerank_lm.encoders.runtime import (
    CHUNK,
    Precision,
    Tokenised,
    Transformer,
    choose_device,
    choose_precision,
    load_transformer,
    read_settings,
)
from rerank_lm.models import resolve_model


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts.

    Parameters
    ----------
    vectors
        Shape (n, d), float32, unit length.
    truncated
        Shape (n,), bool; texts that did not fit and were cut.
    tokens
        Shape (n,), int; tokens the model read for the text.
    """

    vectors: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    tokens: NDArray[np.int64]


class BiEncoder:
    """Encodes texts into unit vectors, so that a dot product is a cosine.

    Parameters
    ----------
    pooling
        ``mean`` over the real tokens or ``cls``.
    query_prefix
        Put before queries by [`encode_queries`][rerank_lm.encoders.bi.BiEncoder.encode_queries].
    """

    def __init__(
        self, name: str, transformer: Transformer, *, pooling: str, query_prefix: str = "", fingerprint: str = ""
    ) -> None:
        if pooling not in ("mean", "cls"):
            raise UsageError(f"unknown pooling {pooling!r}; known: mean, cls")
        self.name, self.transformer, self.pooling, self.query_prefix = name, transformer, pooling, query_prefix
        self._fingerprint = fingerprint

    @classmethod
    def load(
        cls,
        name: str = "all-minilm-l6-v2",
        *,
        device: str = "auto",
        precision: Precision = "auto",
        max_length: int | None = None,
        batch_tokens: int | None = None,
    ) -> BiEncoder:
        """Load by alias, folder or hub name.

        Raises
        ------
        ModelNotFound
            When the name leads to no weights.
        """
        resolved = resolve_model(name)
        settings = read_settings(resolved)
        device = choose_device(device)
        precision = choose_precision(precision, device)
        if precision == "int8":
            raise UsageError("precision int8 is for cross-encoders; use bf16 for a bi-encoder")
        length = max_length or settings.get("max_length")
        transformer = load_transformer(
            resolved, "AutoModel", device=device, precision=precision, max_length=length, batch_tokens=batch_tokens
        )
        pooling = str(settings.get("pooling", "mean"))
        fingerprint = digest("bi-encoder", resolved.fingerprint(), precision, transformer.max_length, pooling)
        prefix = str(settings.get("query_prefix", ""))
        return cls(name, transformer, pooling=pooling, query_prefix=prefix, fingerprint=fingerprint)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (n_texts, d)."""
        return self.encode_report(texts).vectors

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors of queries, shape (n_texts, d), with the model's query prefix."""
        return self.encode([self.query_prefix + t for t in texts])

    def encode_report(self, texts: Sequence[str]) -> Embedded:
        """Encode texts and say which were cut and what they cost."""
        unique, index = distinct(list(texts))
        vectors = np.zeros((len(unique), self.width), dtype=np.float32)
        truncated, tokens = np.zeros(len(unique), dtype=bool), np.zeros(len(unique), dtype=np.int64)

        def keep(i: int, vector: NDArray[np.float32], t: Tokenised) -> None:
            vectors[i], truncated[i], tokens[i] = vector, t.truncated, len(t.ids)

        self._run(unique, self._pool, keep)
        return Embedded(vectors[index], truncated[index], tokens[index])

    def encode_tokens(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        """Return unit token vectors, one array of shape (n_tokens, d) a text, special tokens included."""
        unique, index = distinct(list(texts))
        states: list[NDArray[np.float32]] = [np.zeros((0, self.width), dtype=np.float32)] * len(unique)

        def keep(i: int, vectors: NDArray[np.float32], t: Tokenised) -> None:
            states[i] = vectors[: len(t.ids)].copy()

        self._run(unique, _all_states, keep)
        return [states[i] for i in index]

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return int(self.transformer.model.config.hidden_size)

    def fingerprint(self) -> str:
        """Return a digest of weights, number format, length and pooling."""
        return self._fingerprint

    def _run(self, texts: Sequence[str], pool: Callable[[Any, Any], Any], keep: Callable[..., None]) -> None:
        import torch

        for part in chunks(len(texts), CHUNK):
            tokenised = self.transformer.tokenise([texts[i] for i in part])
            lengths = [len(t.ids) for t in tokenised]
            with torch.inference_mode():
                for rows in token_batches(lengths, self.transformer.batch_tokens):
                    inputs = self.transformer.inputs([tokenised[i] for i in rows])
                    states = self.transformer.model(**inputs).last_hidden_state.float()
                    pooled = torch.nn.functional.normalize(pool(states, inputs["attention_mask"]), dim=-1)
                    for row, vector in zip(rows, pooled.cpu().numpy(), strict=True):
                        keep(part.start + int(row), vector, tokenised[row])

    def _pool(self, states: Any, mask: Any) -> Any:
        if self.pooling == "cls":
            return states[:, 0]
        weights = mask.unsqueeze(-1).to(states.dtype)
        return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def _all_states(states: Any, mask: Any) -> Any:
    return states


def max_sim(query: NDArray[np.float32], texts: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Late interaction: for every query token its best match in the text, averaged over the query's tokens.

    Parameters
    ----------
    query
        Unit token vectors, shape (n_query_tokens, d).
    texts
        Unit token vectors, one array of shape (n_tokens, d) a text.

    Returns
    -------
    ndarray
        Shape (n_texts,); -1 (the least a cosine can be) for a text without tokens.

    Notes
    -----
    Khattab and Zaharia, "ColBERT", SIGIR 2020, section 3.3, with the mean in place of the sum: the order within a
    query is the same, and scores of long and short queries become comparable.
    """
    scores = np.full(len(texts), -1.0)
    filled = [i for i, t in enumerate(texts) if len(t)]
    if not filled or not len(query):
        return scores
    similarity = np.concatenate([texts[i] for i in filled]) @ query.T
    starts = np.cumsum([0, *(len(texts[i]) for i in filled[:-1])])
    scores[filled] = np.maximum.reduceat(similarity, starts, axis=0).mean(axis=1)
    return scores

"""Cross-encoder: one forward pass a (query, text) pair gives one score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import UsageError, require
from rerank_core.reranker import digest
from rerank_lm.encoders.batching import chunks, distinct, token_batches
from rerank_lm.encoders.runtime import (
    CHUNK,
    CPU_BATCH_TOKENS,
    Precision,
    Transformer,
    choose_device,
    choose_precision,
    load_tokenizer,
    load_transformer,
)
from rerank_lm.models import ResolvedModel, resolve_model


@dataclass(frozen=True)
class Scored:
    """Scores of pairs.

    Parameters
    ----------
    scores
        Shape (n,), float32; the model's raw logit, higher is more relevant.
    truncated
        Shape (n,), bool; pairs that did not fit and were cut.
    tokens
        Shape (n,), int; tokens the model read for the pair (equal pairs are read once and counted once each).
    """

    scores: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    tokens: NDArray[np.int64]


class CrossEncoder:
    """Scores (query, text) pairs with a sequence classifier that has one output.

    Pairs are deduplicated, sorted by length and read in batches of bounded padded size; the answer is in input order.
    In fp32 a pair's score does not depend on what else is in the batch (to 1e-4). The int8 path quantises activations
    per batch, so there it does; it is used on request only and reads equally long pairs together.
    """

    def __init__(self, name: str, backend: Any, fingerprint: str) -> None:
        self.name, self._backend, self._fingerprint = name, backend, fingerprint

    @classmethod
    def load(
        cls,
        name: str = "ms-marco-minilm-l12",
        *,
        device: str = "auto",
        precision: Precision = "auto",
        max_length: int = 512,
        batch_tokens: int | None = None,
    ) -> CrossEncoder:
        """Load by alias, folder or hub name.

        Raises
        ------
        ModelNotFound
            When the name leads to no weights.
        UsageError
            When ``int8`` is asked of a model that has no packaged int8 file, or the model has several outputs.
        """
        resolved = resolve_model(name)
        device = choose_device(device)
        precision = choose_precision(precision, device)
        backend: Any
        if precision == "int8":
            backend = _OnnxPairs(resolved, max_length, batch_tokens or CPU_BATCH_TOKENS)
        else:
            transformer = load_transformer(
                resolved,
                "AutoModelForSequenceClassification",
                device=device,
                precision=precision,
                max_length=max_length,
                batch_tokens=batch_tokens,
            )
            if transformer.model.config.num_labels != 1:
                raise UsageError(
                    f"model {name!r} has {transformer.model.config.num_labels} outputs; a reranker has one"
                )
            backend = _TorchPairs(transformer)
        return cls(name, backend, digest("cross-encoder", resolved.fingerprint(), precision, max_length))

    @property
    def transformer(self) -> Transformer:
        """The torch model and its tokenizer (not in int8)."""
        if not isinstance(self._backend, _TorchPairs):
            raise UsageError("the int8 path has no torch model")
        return self._backend.transformer

    def score(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return shape (n_pairs,), higher is more relevant."""
        return self.score_report(pairs).scores

    def score_report(self, pairs: Sequence[tuple[str, str]]) -> Scored:
        """Score pairs and say which were cut and what they cost."""
        unique, index = distinct([(q, t) for q, t in pairs])
        scores = np.zeros(len(unique), dtype=np.float32)
        truncated, tokens = np.zeros(len(unique), dtype=bool), np.zeros(len(unique), dtype=np.int64)
        for part in chunks(len(unique), CHUNK):
            at = slice(part.start, part.stop)
            scores[at], truncated[at], tokens[at] = self._backend.score([unique[i] for i in part])
        return Scored(scores[index], truncated[index], tokens[index])

    def fingerprint(self) -> str:
        """Return a digest of weights, number format and length."""
        return self._fingerprint


class _TorchPairs:
    def __init__(self, transformer: Transformer) -> None:
        self.transformer = transformer

    def score(self, pairs: Sequence[tuple[str, str]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        import torch

        tokenised = self.transformer.tokenise(pairs)
        lengths = np.array([len(t.ids) for t in tokenised], dtype=np.int64)
        scores = np.zeros(len(pairs), dtype=np.float32)
        with torch.inference_mode():
            for rows in token_batches(lengths, self.transformer.batch_tokens):
                logits = self.transformer.model(**self.transformer.inputs([tokenised[i] for i in rows])).logits
                scores[rows] = logits[:, 0].float().cpu().numpy()
        return scores, np.array([t.truncated for t in tokenised], dtype=bool), lengths


class _OnnxPairs:
    """The packaged int8 file through onnxruntime."""

    def __init__(self, resolved: ResolvedModel, max_length: int, batch_tokens: int) -> None:
        if resolved.weights.suffix != ".onnx":
            raise UsageError(f"precision int8: model {resolved.name!r} has no packaged int8 file; use fp32 or bf16")
        ort = require("onnxruntime", "rerank-lm[onnx]", "precision int8")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self.session = ort.InferenceSession(str(resolved.weights), options, providers=["CPUExecutionProvider"])
        self.tokenizer = load_tokenizer(resolved.tokenizer, max_length)
        self.batch_tokens = batch_tokens

    def score(self, pairs: Sequence[tuple[str, str]]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        encodings = self.tokenizer.encode_batch(list(pairs))
        lengths = np.array([len(e.ids) for e in encodings], dtype=np.int64)
        scores = np.zeros(len(pairs), dtype=np.float32)
        for length in np.unique(lengths):  # equal lengths only: padding would widen the activations' range
            same = np.flatnonzero(lengths == length)
            step = max(1, self.batch_tokens // int(length))
            for start in range(0, len(same), step):
                rows = same[start : start + step]
                batch = [encodings[i] for i in rows]
                feed = {
                    "input_ids": np.array([e.ids for e in batch], dtype=np.int64),
                    "attention_mask": np.ones((len(batch), int(length)), dtype=np.int64),
                    "token_type_ids": np.array([e.type_ids for e in batch], dtype=np.int64),
                }
                scores[rows] = self.session.run(None, feed)[0][:, 0]
        return scores, np.array([bool(e.overflowing) for e in encodings], dtype=bool), lengths

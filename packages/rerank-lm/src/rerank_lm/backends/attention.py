"""Attention of a suffix over a context, at the memory of the suffix's rows only (for in-context reranking)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rerank_core.types import Cost
from rerank_lm.backends.base import SpanAttention
from rerank_lm.backends.batching import common_prefix


class Prefilled(Protocol):
    """What is needed of a local model: its tokens, and going on from a cached beginning."""

    forwards: int

    @property
    def model(self) -> Any: ...

    @property
    def tokenizer(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def _lock(self) -> Any: ...

    @property
    def _cache_word(self) -> str: ...

    def _encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def _prefill(self, ids: list[int]) -> list[tuple[Tensor, Tensor]]: ...

    def _cache(self, past: list[tuple[Tensor, Tensor]], n: int) -> Any: ...


def suffix_attention(
    backend: Prefilled, context: str, spans: Sequence[tuple[int, int]], suffixes: Sequence[str]
) -> list[SpanAttention]:
    """Run each suffix after the context and sum what it attends to.

    The beginning that all final texts share, token by token, is computed once with the fast attention; each suffix
    then runs with eager attention from that cache. Token spans come from the offsets of the final text, because
    pieces need not tokenise as the whole does.
    """
    encoded = [backend.tokenizer(context + s, add_special_tokens=False, return_offsets_mapping=True) for s in suffixes]
    backend._encode([context + s for s in suffixes])  # refuses what does not fit
    ids = [list(e["input_ids"]) for e in encoded]
    offsets = encoded[0]["offset_mapping"]
    query_start = [next((i for i, (a, _) in enumerate(e["offset_mapping"]) if a >= len(context)), 0) for e in encoded]
    shared = min([*query_start, *(common_prefix(ids[0], row) for row in ids[1:])])
    places = [[i for i, (a, b) in enumerate(offsets) if a >= start and b <= end and b > a] for start, end in spans]
    past = backend._prefill(ids[0][:shared])
    out = []
    for n, (row, start) in enumerate(zip(ids, query_start, strict=True)):
        weights = _attend(backend, past, row, shared, start)
        # The shared beginning is paid once, by the first suffix.
        cost = Cost(1, len(row) if n == 0 else len(row) - shared, 0)
        out.append(SpanAttention(tuple(weights[p] for p in places), cost))
    return out


def _attend(
    backend: Prefilled, past: list[tuple[Tensor, Tensor]], row: list[int], shared: int, start: int
) -> np.ndarray:
    """Attention to every token, shape (n_tokens,): mean over rows from ``start``, sum over layers and heads."""
    model = backend.model
    total = torch.zeros(len(row), dtype=torch.float32, device=backend.device)

    def keep(_module: Any, _inputs: Any, output: Any) -> Any:
        weights = output[1]  # (1, n_heads, n_rows, n_tokens)
        total.add_(weights[0, :, start - shared :, :].float().mean(1).sum(0))
        return (output[0], None, *output[2:])  # one layer's weights at a time

    modules = [m for n, m in model.named_modules() if n.endswith("self_attn")]
    with torch.inference_mode(), backend._lock, _eager(model):
        hooks = [m.register_forward_hook(keep) for m in modules]
        try:
            backend.forwards += 1
            model(
                torch.tensor([row[shared:]], device=backend.device),
                use_cache=True,
                logits_to_keep=1,
                **{backend._cache_word: backend._cache(past, 1)},
            )
        finally:
            for hook in hooks:
                hook.remove()
    return total.cpu().numpy().astype(np.float64)


@contextmanager
def _eager(model: Any) -> Any:
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)

"""An embedding model as a back end: it embeds, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from rerank_core.types import Cost
from rerank_lm.backends.base import Capability, Partial, Prompt, Vector


class EncoderBackEnd(Partial):
    """A bi-encoder of [`rerank_lm.encoders`][]; roles are left out of the text."""

    capabilities = frozenset({Capability.EMBED})

    def __init__(self, model: str, *, threads: int | None = None, encoder: Any = None) -> None:
        self.name, self._threads, self._encoder = model, threads, encoder

    @cached_property
    def encoder(self) -> Any:
        """The bi-encoder."""
        if self._encoder is not None:
            return self._encoder
        if self._threads:
            import torch

            torch.set_num_threads(self._threads)
        from rerank_lm.encoders import BiEncoder

        return BiEncoder.load(self.name)

    @property
    def context(self) -> int | None:
        """None: the encoder cuts what is too long itself."""
        return None

    def fingerprint(self) -> str:
        """Return the weights' digest."""
        if self._encoder is not None:
            return f"encoder:{self._encoder.fingerprint()}"
        from rerank_lm.models import resolve_model

        return f"encoder:{resolve_model(self.name).fingerprint()}"

    def count(self, text: str) -> int:
        """Return an estimate from above."""
        return len(text.encode("utf-8", "replace"))

    def embed(self, prompts: Sequence[Prompt]) -> list[Vector]:
        """Return one unit vector a prompt."""
        texts = [p.text for p in prompts]
        vectors = self.encoder.encode(texts)
        return [Vector(v, Cost(1, len(t.split()), 0)) for v, t in zip(vectors, texts, strict=True)]

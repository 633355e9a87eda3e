"""SimCLS: document and candidates are encoded apart, the score is the cosine of their first states.

Source: Y. Liu and P. Liu, "SimCLS: A Simple Framework for Contrastive Learning of Abstractive Summarization", ACL 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank_core.errors import UsageError
from rerank_core.reranker import digest
from rerank_core.types import Cost, Ranking, Request


@dataclass
class SimCls:
    """An encoder with its tokenizer; the first token's state stands for a text."""

    model: Any
    tokenizer: Any
    max_length: int = 512
    fingerprint: str = ""

    @classmethod
    def load(cls, name: str, max_length: int = 512) -> SimCls:
        """Load by alias, folder or hub name; safetensors only, no remote code."""
        from transformers import AutoModel, AutoTokenizer

        from rerank_lm.models import resolve_model

        resolved = resolve_model(name)
        folder = str(resolved.folder())
        model = AutoModel.from_pretrained(folder, trust_remote_code=False, use_safetensors=True, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        limit = getattr(model.config, "max_position_embeddings", max_length)
        return cls(model.eval(), tokenizer, min(max_length, int(limit)), resolved.fingerprint())

    def encode(self, texts: Sequence[str]) -> Tensor:
        """First states, shape (n_texts, d)."""
        batch = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
        )
        return self.model(**batch.to(self.model.device)).last_hidden_state[:, 0]

    def cosines(self, source: str, texts: Sequence[str]) -> Tensor:
        """Cosines of texts to the source, shape (n_texts,)."""
        states = torch.nn.functional.normalize(self.encode([source, *texts]), dim=-1)
        return states[1:] @ states[0]

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors) and tokenizer."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


@dataclass(frozen=True)
class SimClsReranker:
    """Ranks candidates by their cosine to the document."""

    name: str
    scorer: SimCls
    explain: bool = False

    @torch.inference_mode()
    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Score each list in one batch."""
        out = []
        for request in requests:
            cosines = self.scorer.cosines(str(request.query), [str(c.content) for c in request.candidates])
            values = np.round(cosines.double().cpu().numpy(), 7)
            reasons = None
            if self.explain:
                reasons = {i: f"cosine {v:.4f} to the document" for i, v in zip(request.ids, values, strict=True)}
            out.append(Ranking.from_scores(request, values, cost=Cost(1), reasons=reasons))
        return out

    def fingerprint(self) -> str:
        """Return the digest of weights and settings."""
        return digest("simcls", self.scorer.fingerprint, self.scorer.max_length, self.explain)


def simcls_reranker(config: Mapping[str, Any]) -> SimClsReranker:
    """Build the reranker of method ``simcls``."""
    if not config["model"]:
        raise UsageError("method 'simcls' needs an encoder: --set model=FOLDER_OR_HUB_NAME")
    return SimClsReranker("simcls", SimCls.load(config["model"], config["max_length"]), config["explain"])

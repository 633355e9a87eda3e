"""A cross-encoder as a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from rerank_core.types import FloatArray
from rerank_lm.models import resolve_model
from rerank_lm.training.data import Labelled
from rerank_lm.training.objectives import list_loss
from rerank_lm.training.recipe import Recipe


class CrossEncoderTask:
    """A sequence classifier with one output over (query, text) pairs.

    The pairs of all lists of a batch are sorted by length and cut into small forwards of similar length; the lists'
    scores are put together again for the loss, so padding costs little and a list may spread over forwards.
    """

    def __init__(self, recipe: Recipe) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = str(resolve_model(recipe.model).folder())
        self.recipe = recipe
        self.log: dict[str, float] = {}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        dtype = getattr(torch, recipe.train.dtype)
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=dtype, num_labels=1, trust_remote_code=False
        )
        limit = int(getattr(self._model.config, "max_position_embeddings", 512))
        self.max_length = min(512, limit)

    @property
    def module(self) -> nn.Module:
        """The classifier."""
        return self._model

    def _rows(self, lists: Sequence[Labelled], pairs_a_forward: int = 8) -> list[Tensor]:
        if self._model.device.type == "cuda":
            pairs_a_forward *= 16  # small forwards save padding on a CPU and leave a GPU idle
        pairs = [(str(x.question.query), str(i.content)) for x in lists for i in x.question.items]
        encoded = self.tokenizer(
            [q for q, _ in pairs], [t for _, t in pairs], truncation="only_second", max_length=self.max_length
        )
        lengths = [len(ids) for ids in encoded["input_ids"]]
        order = sorted(range(len(pairs)), key=lambda i: (lengths[i], i))
        parts: list[Tensor] = []
        for start in range(0, len(order), pairs_a_forward):
            chosen = order[start : start + pairs_a_forward]
            batch = self.tokenizer.pad({k: [v[i] for i in chosen] for k, v in encoded.items()}, return_tensors="pt")
            parts.append(self._model(**{k: v.to(self._model.device) for k, v in batch.items()}).logits[:, 0].float())
        flat = torch.cat(parts)
        place = torch.empty(len(order), dtype=torch.long)
        place[torch.tensor(order)] = torch.arange(len(order))
        return list(torch.split(flat[place.to(flat.device)], [len(x.gains) for x in lists]))

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor:
        """Return the recipe's ranking loss."""
        return list_loss(self.recipe.loss, self._rows(lists), lists)

    def score(self, lists: Sequence[Labelled]) -> list[FloatArray]:
        """Return one array a list."""
        with torch.inference_mode():
            return [r.double().cpu().numpy() for x in lists for r in self._rows([x], 16)]

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and tokenizer; the folder loads as a cross-encoder."""
        self._model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

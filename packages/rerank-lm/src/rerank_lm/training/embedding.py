"""Training vectors: E2Rank's contrastive and listwise losses over one encoder, and MVP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rerank_core.types import FloatArray
from rerank_lm import losses, prompts
from rerank_lm.judges.building import resolve_alias
from rerank_lm.models import resolve_model
from rerank_lm.training.data import Labelled
from rerank_lm.training.objectives import padded
from rerank_lm.training.recipe import Recipe
from rerank_lm.training.tasks import as_arrays


class E2RankTask:
    """InfoNCE of the query against all documents of the batch, and RankNet of the pseudo-query within its list.

    Source: E2Rank (2025), stage 2: temperature 0.03, listwise factor 2, scores 10 x cosine. The encoder is a
    mean-pooled bi-encoder here; the paper's is a causal model with last-token pooling.
    """

    temperature, factor, scale = 0.03, 2.0, 10.0

    def __init__(self, recipe: Recipe) -> None:
        from transformers import AutoModel, AutoTokenizer

        resolved = resolve_model(resolve_alias(recipe.model))
        folder = resolved.folder()
        self.recipe, self._folder = recipe, folder
        self.log: dict[str, float] = {}
        self.settings = dict(resolved.card.settings) if resolved.card is not None else {}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        dtype = getattr(torch, recipe.train.dtype)
        self._model = AutoModel.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
        self.max_length = min(512, int(self._model.config.max_position_embeddings))

    @property
    def module(self) -> nn.Module:
        """The encoder."""
        return self._model

    def _embed(self, texts: Sequence[str]) -> Tensor:
        lengths = [len(t) for t in texts]
        order = sorted(range(len(texts)), key=lambda i: lengths[i])
        parts = []
        for start in range(0, len(order), 16):
            chosen = [texts[i] for i in order[start : start + 16]]
            batch = self.tokenizer(
                chosen, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
            )
            batch = batch.to(self._model.device)
            states = self._model(**batch).last_hidden_state
            weights = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
            parts.append((states * weights).sum(1) / weights.sum(1).clamp(min=1))
        place = torch.empty(len(order), dtype=torch.long)
        place[torch.tensor(order)] = torch.arange(len(order))
        return functional.normalize(torch.cat(parts)[place].float(), dim=-1)

    def _vectors(self, lists: Sequence[Labelled]) -> tuple[Tensor, Tensor, list[Tensor]]:
        queries = [str(x.question.query) for x in lists]
        pseudo = [self._pseudo(x) for x in lists]
        contents = [str(i.content) for x in lists for i in x.question.items]
        vectors = self._embed([*queries, *pseudo, *contents])
        n = len(lists)
        return vectors[:n], vectors[n : 2 * n], list(torch.split(vectors[2 * n :], [len(x.gains) for x in lists]))

    def _pseudo(self, labelled: Labelled) -> str:
        first = sorted(labelled.question.items, key=lambda i: i.rank)[:20]
        # The encoder reads 512 tokens, not the paper's 32k: each document keeps a few words.
        words = max(6, 300 // max(1, len(first)))
        contents = [prompts.shorten(str(i.content), words) for i in first]
        return prompts.pseudo_query(labelled.question.instruction, str(labelled.question.query), contents).text

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor:
        """Return ``InfoNCE + 2 RankNet``."""
        queries, pseudo, documents = self._vectors(lists)
        everything = torch.cat(documents)
        similarity = queries @ everything.T
        labels = torch.zeros_like(similarity)
        at = 0
        for i, x in enumerate(lists):
            labels[i, at : at + len(x.gains)] = torch.tensor(x.gains)
            at += len(x.gains)
        contrastive = losses.infonce(similarity, labels, temperature=self.temperature)
        rows = [self.scale * d @ p for p, d in zip(pseudo, documents, strict=True)]
        scores, gains, _, mask = padded(rows, lists)
        listwise = losses.ranknet(scores, gains, mask)
        self.log.update(contrastive=float(contrastive.detach()), listwise=float(listwise.detach()))
        return contrastive + self.factor * listwise

    def score(self, lists: Sequence[Labelled]) -> list[FloatArray]:
        """Return cosines with the pseudo-query."""
        with torch.inference_mode():
            out: list[FloatArray] = []
            for x in lists:
                _, pseudo, documents = self._vectors([x])
                out += as_arrays([documents[0] @ pseudo[0]])
            return out

    def save(self, folder: Path) -> None:
        """Write encoder, tokenizer and pooling; the folder loads as a bi-encoder."""
        self._model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
            if (self._folder / name).is_file():
                shutil.copy(self._folder / name, folder / name)
        if (self._folder / "1_Pooling").is_dir():
            shutil.copytree(self._folder / "1_Pooling", folder / "1_Pooling", dirs_exist_ok=True)
        else:
            pooling = {
                "word_embedding_dimension": int(self._model.config.hidden_size),
                "pooling_mode_mean_tokens": True,
            }
            (folder / "1_Pooling").mkdir(exist_ok=True)
            (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")


class MvpTask:
    """MVP: ListNet on the module's scores and orthogonality of its anchors.

    ``model: random-t5`` starts from random weights of a small size with the packaged tokenizer: no T5 ships in a
    package. Any T5 folder or hub name starts from its weights.
    """

    orthogonal_factor = 0.01

    def __init__(self, recipe: Recipe) -> None:
        from transformers import AutoTokenizer, T5Config, T5Model

        from rerank_lm.judges.mvp import Mvp, MvpConfig, MvpModel

        self.recipe = recipe
        self.log: dict[str, float] = {}
        if recipe.model == "random-t5":
            folder = str(resolve_model(resolve_alias("smollm2")).folder())
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            t5: Any = T5Model(
                T5Config(
                    vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
                    dropout_rate=0.0, decoder_start_token_id=0, pad_token_id=2, eos_token_id=2,
                )
            )  # fmt: skip
        else:
            folder = str(resolve_model(recipe.model).folder())
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            t5 = T5Model.from_pretrained(folder)
        self.judge = Mvp(MvpModel(t5, MvpConfig(words=recipe.data.words, max_length=160)), tokenizer)

    @property
    def module(self) -> nn.Module:
        """Encoder, decoder and views."""
        return self.judge.model

    def loss(self, lists: Sequence[Labelled], step: int) -> Tensor:
        """Return ListNet plus a little of the orthogonal loss (the factor is ours)."""
        ids, mask, items = self.judge.encode([x.question for x in lists])
        scores, anchors = self.judge.model(ids, mask, items)
        gains = torch.zeros_like(scores)
        for i, x in enumerate(lists):
            gains[i, : len(x.gains)] = torch.tensor(x.gains)
        apart = losses.orthogonal(anchors)
        self.log["orthogonal"] = float(apart.detach())
        return losses.listnet(scores, 2 * gains, items) + self.orthogonal_factor * apart

    def score(self, lists: Sequence[Labelled]) -> list[FloatArray]:
        """Return one array a list."""
        return [self.judge.score_groups([x.question])[0] for x in lists]

    def save(self, folder: Path) -> None:
        """Write the judge."""
        self.judge.save(folder)

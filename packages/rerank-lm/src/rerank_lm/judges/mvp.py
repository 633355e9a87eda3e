"""MVP: several views of every candidate, each against an anchor that has seen all candidates.

Source: "Multi-View Passage reranking" (MVP, 2025); its repository is not public, so the scale of the score and the
form of the orthogonal loss are ours. An encoder reads every candidate apart, behind ``m`` learned view tokens; the
hidden state of view token k is the candidate's relevance vector for that view. One decoder step a view attends over
these vectors of all candidates and gives the view's anchor; the score is the mean over views of anchor times vector.
There are no candidate numbers anywhere, so reordering the candidates reorders the scores and changes nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rerank_core.errors import InputError
from rerank_core.reranker import digest
from rerank_core.strategies.judges import Group
from rerank_core.types import Cost, FloatArray
from rerank_lm.judges.base import texts
from rerank_lm.prompts import shorten


@dataclass(frozen=True)
class MvpConfig:
    """Number of views, longest candidate in words, longest text in tokens."""

    views: int = 4
    words: int = 150
    max_length: int = 256


class MvpModel(nn.Module):
    """The scoring module over any T5-shaped encoder and decoder.

    Parameters
    ----------
    t5
        A ``transformers`` ``T5Model`` (or ``T5ForConditionalGeneration``).
    """

    def __init__(self, t5: Any, config: MvpConfig) -> None:
        super().__init__()
        self.t5, self.config = t5, config
        width = int(t5.config.d_model)
        self.view_tokens = nn.Parameter(torch.randn(config.views, width) * 0.5)
        self.decoder_views = nn.Parameter(torch.randn(config.views, width) * 0.5)

    def forward(self, ids: Tensor, mask: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Score lists of candidates.

        Parameters
        ----------
        ids, mask
            Tokens of each candidate's text, (n_lists, n_items, n_tokens).
        items
            True where a candidate is real, (n_lists, n_items).

        Returns
        -------
        Scores (n_lists, n_items), 0 at padding, and anchors (n_lists, n_views, width).
        """
        n_lists, n_items, n_tokens = ids.shape
        m, width = self.config.views, self.view_tokens.shape[1]
        flat, flat_mask = ids.reshape(-1, n_tokens), mask.reshape(-1, n_tokens)
        embedded = self.t5.get_input_embeddings()(flat)
        views = self.view_tokens.unsqueeze(0).expand(len(flat), -1, -1)
        seen = torch.cat([torch.ones(len(flat), m, dtype=flat_mask.dtype, device=ids.device), flat_mask], dim=1)
        states = self.t5.get_encoder()(
            inputs_embeds=torch.cat([views, embedded], dim=1), attention_mask=seen
        ).last_hidden_state[:, :m]
        vectors = states.reshape(n_lists, n_items, m, width)

        by_view = vectors.transpose(1, 2).reshape(n_lists * m, n_items, width)
        start = self.decoder_views.repeat(n_lists, 1).unsqueeze(1)
        anchors = self.t5.get_decoder()(
            inputs_embeds=start,
            encoder_hidden_states=by_view,
            encoder_attention_mask=items.repeat_interleave(m, dim=0).to(flat_mask.dtype),
            use_cache=False,
        ).last_hidden_state.reshape(n_lists, m, width)
        scores = torch.einsum("lnmd,lmd->ln", vectors, anchors) / (m * width**0.5)
        return torch.where(items, scores, torch.zeros_like(scores)), anchors


class Mvp:
    """The module as a group judge: one forward for any number of candidates."""

    name = "mvp"

    def __init__(self, model: MvpModel, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self._cost = Cost()

    @property
    def cost(self) -> Cost:
        """Calls and tokens since the judge was made."""
        return self._cost

    def fingerprint(self) -> str:
        """Return the digest of configuration and weights."""
        total = [float(p.detach().double().sum()) for p in self.model.parameters()]
        return digest("mvp", self.model.config, total)

    def encode(self, groups: Sequence[Group]) -> tuple[Tensor, Tensor, Tensor]:
        """Return tokens, their mask and the items' mask, padded; see [`MvpModel.forward`][]."""
        config = self.model.config
        most = max(len(g.items) for g in groups)
        written: list[str] = []
        for group in groups:
            contents = [shorten(t, config.words) for t in texts(group, self.name)]
            written += [f"Query: {group.query} Context: {c}" for c in contents] + [""] * (most - len(contents))
        pad = self.tokenizer.pad_token_id or 0
        rows = [r[: config.max_length] or [pad] for r in self.tokenizer(written, add_special_tokens=False)["input_ids"]]
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        items = torch.tensor([[i < len(g.items) for i in range(most)] for g in groups])
        shape = (len(groups), most, width)
        device = self.model.view_tokens.device
        return ids.reshape(shape).to(device), mask.reshape(shape).to(device), items.to(device)

    def score_groups(self, groups: Sequence[Group]) -> list[FloatArray]:
        """Return one array a group."""
        full = [g for g in groups if g.items]
        if not full:
            return [np.empty(0) for _ in groups]
        ids, mask, items = self.encode(full)
        with torch.inference_mode():
            scores, _ = self.model(ids, mask, items)
        self._cost = self._cost + Cost(len(full), int(mask.sum()), 0)
        rows = iter(scores.double().cpu().numpy())
        return [next(rows)[: len(g.items)] if g.items else np.empty(0) for g in groups]

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), configuration and tokenizer."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Tied embeddings share memory, which safetensors refuses: each tensor is written once, as its own copy.
        state = {k: v.detach().clone().contiguous() for k, v in self.model.state_dict().items()}
        save_file(state, str(folder / "model.safetensors"))
        (folder / "mvp.json").write_text(json.dumps(asdict(self.model.config)), encoding="utf-8")
        self.model.t5.config.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Mvp:
        """Read a saved judge.

        Raises
        ------
        InputError
            When the folder holds none.
        """
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoTokenizer, T5Model

        folder = Path(folder)
        if not (folder / "mvp.json").is_file():
            raise InputError("no MVP checkpoint here (mvp.json is missing)", folder)
        config = MvpConfig(**json.loads((folder / "mvp.json").read_text(encoding="utf-8")))
        model = MvpModel(T5Model(AutoConfig.from_pretrained(folder)), config)
        model.load_state_dict(load_file(str(folder / "model.safetensors")))
        return cls(model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False))

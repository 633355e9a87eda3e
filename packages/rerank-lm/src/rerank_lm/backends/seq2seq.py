"""An encoder-decoder model (T5 and its kin) run here by transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank_core.types import Cost
from rerank_lm.backends.base import Capability, Completion, LogProbs, Prompt, Sampling, TokenScores, Unsupported
from rerank_lm.backends.batching import by_length
from rerank_lm.backends.local import LocalBackEnd, _seeded


class Seq2SeqBackEnd(LocalBackEnd):
    """Reads the prompt with the encoder; scores and writes with the decoder. The prefill starts the decoder."""

    capabilities = frozenset({Capability.GENERATE, Capability.NEXT_TOKEN, Capability.LOG_PROBS})

    @cached_property
    def model(self) -> Any:
        """The model, in evaluation mode."""
        if self._threads:
            torch.set_num_threads(self._threads)
        if self._loaded is not None:
            return self._loaded[0].eval()
        from transformers import AutoModelForSeq2SeqLM

        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = getattr(torch, self._dtype or "float32")
        model = AutoModelForSeq2SeqLM.from_pretrained(self._folder, dtype=dtype, trust_remote_code=False)
        return model.to(device).eval()

    @cached_property
    def context(self) -> int | None:
        """What the tokenizer states, where it states anything; T5's positions have no end."""
        length = getattr(self.tokenizer, "model_max_length", None)
        return int(length) if length and length < 1_000_000 else None

    def _read(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        texts = [self.render(Prompt(p.messages, "", p.raw)) for p in prompts]
        return list(self.tokenizer(texts)["input_ids"])

    def _start(self, text: str) -> list[int]:
        begin = self.model.config.decoder_start_token_id
        return [begin if begin is not None else 0, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _logits(self, encoded: Sequence[list[int]], decoded: Sequence[list[int]]) -> list[Tensor]:
        """Decoder logits of each row, (n_decoder_tokens, vocabulary)."""
        out: list[Tensor] = [torch.empty(0)] * len(encoded)
        for batch in by_length([len(a) + len(b) for a, b in zip(encoded, decoded, strict=True)], self.batch_tokens):
            ids, mask = _padded([encoded[i] for i in batch])
            heads, _ = _padded([decoded[i] for i in batch])
            with torch.inference_mode(), self._lock:
                self.forwards += 1
                logits = self.model(
                    input_ids=ids.to(self.device),
                    attention_mask=mask.to(self.device),
                    decoder_input_ids=heads.to(self.device),
                ).logits
            for k, i in enumerate(batch):
                out[i] = logits[k, : len(decoded[i])].float().cpu()
        return out

    def next_token(self, prompts: Sequence[Prompt], tokens: Sequence[str]) -> list[TokenScores]:
        """Return exact logits of the tokens where the decoder starts (after the prefill)."""
        ids = []
        for token in tokens:
            pieces = self.tokenizer(token, add_special_tokens=False)["input_ids"]
            if len(pieces) != 1:
                raise Unsupported(f"{token!r} is not a single token of {self.name!r}")
            ids.append(pieces[0])
        encoded, decoded = self._read(prompts), [self._start(p.prefill) for p in prompts]
        rows = self._logits(encoded, decoded)
        return [
            TokenScores(r[-1, ids].numpy().astype(np.float64), Cost(1, len(e), 0))
            for r, e in zip(rows, encoded, strict=True)
        ]

    def log_probs(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[LogProbs]:
        """Return the log-probability of every token of each continuation."""
        encoded = self._read(prompts)
        decoded = [self._start(c) for c in continuations]
        out = []
        for row, tokens, read in zip(self._logits(encoded, decoded), decoded, encoded, strict=True):
            values = torch.log_softmax(row[:-1], dim=-1)
            picked = values.gather(1, torch.tensor(tokens[1:]).unsqueeze(1)).squeeze(1)
            out.append(LogProbs(picked.numpy().astype(np.float64), Cost(1, len(read) + len(tokens), 0)))
        return out

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """Write answers."""
        encoded, out = self._read(prompts), [Completion("")] * len(prompts)
        for batch in by_length([len(e) + sampling.max_tokens for e in encoded], self.batch_tokens):
            ids, mask = _padded([encoded[i] for i in batch])
            options: dict[str, Any] = {"max_new_tokens": sampling.max_tokens, "do_sample": sampling.temperature > 0}
            if sampling.temperature > 0:
                options["temperature"] = sampling.temperature
            with torch.inference_mode(), self._lock, _seeded(sampling.seed, self.device):
                self.forwards += 1
                written = self.model.generate(
                    input_ids=ids.to(self.device), attention_mask=mask.to(self.device), **options
                ).cpu()
            for k, i in enumerate(batch):
                tokens = written[k, 1:].tolist()
                stop = next((j for j, t in enumerate(tokens) if t in self._end_ids), None)
                kept = tokens if stop is None else tokens[:stop]
                text = self.tokenizer.decode(kept, skip_special_tokens=True)
                out[i] = Completion(text, "length" if stop is None else "stop", Cost(1, len(encoded[i]), len(kept)))
        return out


def _padded(rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask

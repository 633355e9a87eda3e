"""A causal language model run here by transformers.

Scoring pads on the right and needs no mask: a causal model's states never see what comes after, so a prompt's
answer does not depend on what else is in its batch. Prompts that begin alike (instruction and query) are computed
once up to where they differ, and the rest continues from that cache.
"""

from __future__ import annotations

import hashlib
import inspect
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank_core.errors import InputError, UsageError
from rerank_core.types import Cost
from rerank_lm.backends.base import (
    Capability,
    Completion,
    Hidden,
    LogProbs,
    Partial,
    Prompt,
    Sampling,
    SpanAttention,
    TokenScores,
    Unsupported,
    Vector,
)
from rerank_lm.backends.batching import by_length, by_prefix

_CAUSAL = frozenset(
    {
        Capability.GENERATE,
        Capability.NEXT_TOKEN,
        Capability.LOG_PROBS,
        Capability.HIDDEN,
        Capability.ATTENTION,
        Capability.EMBED,
    }
)


class LocalBackEnd(Partial):
    """A decoder-only model from a folder, a packaged file or the hub; loaded at the first question.

    Parameters
    ----------
    model
        A name for [`rerank_lm.models.resolve_model`][], or a loaded ``(model, tokenizer)`` pair.
    dtype
        ``float32`` (default on a CPU), ``bfloat16`` (default on a GPU) or ``float16``.
    batch_tokens
        Padded tokens a batch may hold.
    threads
        CPU threads torch may use; None leaves torch's setting alone.
    share_prefix
        Compute a common beginning once.
    """

    capabilities = _CAUSAL

    def __init__(
        self,
        model: str | Path | tuple[Any, Any],
        *,
        dtype: str | None = None,
        device: str | None = None,
        batch_tokens: int | None = None,
        threads: int | None = None,
        share_prefix: bool = True,
        name: str | None = None,
    ) -> None:
        self._loaded = model if isinstance(model, tuple) else None
        self._spec = None if isinstance(model, tuple) else str(model)
        self.name = name or (self._spec if self._spec is not None else type(model[0]).__name__)  # type: ignore[index]
        self._device, self._dtype, self._threads = device, dtype, threads
        self._batch_tokens = batch_tokens
        self.share_prefix = share_prefix
        self.forwards = 0
        self.prefix_tokens_saved = 0
        self.scored_tokens = 0
        self._lock = threading.Lock()

    # ---- loading

    @cached_property
    def model(self) -> Any:
        """The model, in evaluation mode."""
        if self._threads:
            torch.set_num_threads(self._threads)
        if self._loaded is not None:
            return self._loaded[0].eval()
        from transformers import AutoModelForCausalLM

        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = self._dtype or ("bfloat16" if device.startswith("cuda") else "float32")
        folder = self._folder
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), trust_remote_code=False)
        return model.to(device).eval()

    @cached_property
    def tokenizer(self) -> Any:
        """The fast tokenizer, whose offsets the spans rest on."""
        if self._loaded is not None:
            return self._loaded[1]
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self._folder, trust_remote_code=False)
        if not tokenizer.is_fast:
            raise UsageError(f"model {self.name!r} has no fast tokenizer (tokenizer.json); convert it first")
        return tokenizer

    @cached_property
    def _resolved(self) -> Any:
        from rerank_lm.models import resolve_model

        return resolve_model(self._spec or "")

    @cached_property
    def _folder(self) -> str:
        return str(self._resolved.folder())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @cached_property
    def context(self) -> int | None:
        """The configuration's longest sequence."""
        config = self._config
        text = config.get_text_config() if hasattr(config, "get_text_config") else config
        length = getattr(text, "max_position_embeddings", None)
        return int(length) if length else None

    @cached_property
    def _config(self) -> Any:
        if self._loaded is not None:
            return self._loaded[0].config
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self._folder, trust_remote_code=False)

    @cached_property
    def _digest(self) -> str:
        if self._loaded is None:
            return str(self._resolved.fingerprint())
        h = hashlib.sha256()
        for key, value in sorted(self.model.state_dict().items()):
            h.update(key.encode())
            h.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return h.hexdigest()[:16]

    def fingerprint(self) -> str:
        """Return a digest of weights and precision."""
        return f"local:{self._digest}:{self._dtype or 'default'}"

    # ---- text

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def render(self, prompt: Prompt) -> str:
        """Return the final text: chat template (a plain layout where the model has none), then the prefill.

        Special tokens inside a candidate's text are broken up, so that no passage can end its own turn.
        """
        if prompt.raw:
            return prompt.messages[0].parts[0] + prompt.prefill  # type: ignore[operator]
        turns = [{"role": m.role, "content": self._neutral(_text(m))} for m in prompt.messages]
        if self.tokenizer.chat_template is None:
            return "\n\n".join(t["content"] for t in turns) + "\n\n" + prompt.prefill
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates are programs of the model's makers: they raise what they like
            if turns[0]["role"] != "system" or len(turns) < 2:
                raise UsageError(f"the chat template of {self.name!r} refuses the prompt: {error}") from error
            merged = [{"role": turns[1]["role"], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}]
            text = self.tokenizer.apply_chat_template([*merged, *turns[2:]], tokenize=False, add_generation_prompt=True)
        return text + prompt.prefill

    @cached_property
    def _special(self) -> list[str]:
        added = [str(t) for t in self.tokenizer.added_tokens_decoder.values() if getattr(t, "special", False)]
        return sorted({t for t in (*self.tokenizer.all_special_tokens, *added) if len(t) > 2}, key=len, reverse=True)

    def _neutral(self, text: str) -> str:
        for token in self._special:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    @cached_property
    def _turn(self) -> tuple[str, str]:
        tokenizer = self.tokenizer
        if tokenizer.chat_template is None:
            return tokenizer.bos_token or "", "\n\n"
        turns = [{"role": r, "content": c} for r, c in (("user", "Uone"), ("assistant", "Atwo"), ("user", "Uthree"))]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ended = tokenizer.apply_chat_template(turns[:2], tokenize=False)
        end = ended.split("Atwo")[-1]
        middle, after = text.split("Atwo")[-1].split("Uthree")
        before = middle.removeprefix(end)
        bos = tokenizer.bos_token
        if bos and text.startswith(bos) and not before.startswith(bos):
            before = bos + before
        return before, after

    def turn(self) -> tuple[str, str]:
        """Return what goes around a user's message, without the template's default system message."""
        return self._turn

    def _encode(self, texts: Sequence[str], reserve: int = 0) -> list[list[int]]:
        encoded = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        for ids in encoded:
            if self.context is not None and len(ids) + reserve > self.context:
                raise InputError(
                    f"a prompt of {len(ids)} tokens does not fit the {self.context} of {self.name!r}; "
                    "use a smaller window or shorter candidates"
                )
        return encoded

    # ---- scoring

    @property
    def batch_tokens(self) -> int:
        """Padded tokens a batch may hold."""
        return self._batch_tokens or (65_536 if self.device.type == "cuda" else 2_048)

    def token_ids(self, text: str, tokens: Sequence[str]) -> list[int] | None:
        """Return the ids of tokens right after a text, or None where one of them is not a single token there."""
        tail = text[-24:]
        base = self.tokenizer(tail, add_special_tokens=False)["input_ids"]
        ids = []
        for token in tokens:
            full = self.tokenizer(tail + token, add_special_tokens=False)["input_ids"]
            if len(full) == len(base) + 1 and full[:-1] == base:
                ids.append(full[-1])
                continue
            # The border may tokenise differently in one text (two line breaks before a word); the token can still
            # be a single one that spells the same.
            alone = self.tokenizer(token, add_special_tokens=False)["input_ids"]
            if len(alone) != 1 or self.tokenizer.decode([*base, alone[0]]) != tail + token:
                return None
            ids.append(alone[0])
        return ids if len(set(ids)) == len(ids) else None

    def next_token(self, prompts: Sequence[Prompt], tokens: Sequence[str]) -> list[TokenScores]:
        """Return exact logits of the tokens at the position after each prompt."""
        texts = [self.render(p) for p in prompts]
        ids = self.token_ids(texts[0], tokens) if texts else []
        if ids is None:
            raise Unsupported(
                f"not every one of {', '.join(tokens[:6])}{' ...' if len(tokens) > 6 else ''} is a single token of "
                f"{self.name!r} here; use digits and a window of at most 9, or a judge that reads text"
            )
        encoded = self._encode(texts)
        rows = self._last_logits(encoded, ids)
        return [TokenScores(row, Cost(1, len(e), 0)) for row, e in zip(rows, encoded, strict=True)]

    def _last_logits(self, encoded: Sequence[list[int]], columns: Sequence[int]) -> list[np.ndarray]:
        out: list[np.ndarray] = [np.empty(0)] * len(encoded)
        groups = by_prefix(encoded) if self.share_prefix and self._plain_cache else [(0, list(range(len(encoded))))]
        for prefix, members in groups:
            past = self._prefill(encoded[members[0]][:prefix]) if prefix else None
            self.prefix_tokens_saved += prefix * (len(members) - 1)
            suffixes = [encoded[i][prefix:] for i in members]
            budget = self.batch_tokens
            for batch in by_length([len(s) + prefix // 8 for s in suffixes], budget):
                logits = self._forward([suffixes[j] for j in batch], past, [[len(suffixes[j]) - 1] for j in batch])
                picked = logits[:, 0, list(columns)].float().cpu().numpy()
                for j, row in zip(batch, picked, strict=True):
                    out[members[j]] = row.astype(np.float64)
        return out

    @cached_property
    def _plain_cache(self) -> bool:
        """Whether every layer attends to everything, so that a cache may be repeated and cut freely."""
        text = self._config.get_text_config() if hasattr(self._config, "get_text_config") else self._config
        kinds = getattr(text, "layer_types", None)
        return (kinds is None or set(kinds) == {"full_attention"}) and not getattr(text, "sliding_window", None)

    def _prefill(self, ids: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of a beginning, one pair a layer, batch 1."""
        with torch.inference_mode(), self._lock:
            self.forwards += 1
            self.scored_tokens += len(ids)
            out = self.model(torch.tensor([ids], device=self.device), use_cache=True, logits_to_keep=1)
        filled = out.get(self._cache_word, out.get("past_key_values"))
        return [(layer.keys, layer.values) for layer in filled.layers]

    @cached_property
    def _cache_word(self) -> str:
        """What this transformers release calls the cache argument (``past_key_values`` before 5.24)."""
        return "cache" if "cache" in inspect.signature(self.model.forward).parameters else "past_key_values"

    def _cache(self, past: list[tuple[Tensor, Tensor]], n: int) -> Any:
        from transformers import DynamicCache

        return DynamicCache([(k.expand(n, -1, -1, -1), v.expand(n, -1, -1, -1)) for k, v in past])

    def _forward(
        self, rows: Sequence[list[int]], past: list[tuple[Tensor, Tensor]] | None, wanted: Sequence[Sequence[int]]
    ) -> Tensor:
        """Return logits at the wanted positions of each row, shape (n_rows, n_wanted, vocabulary); padded on the right."""
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        positions = sorted({p for row in wanted for p in row})
        index = {p: i for i, p in enumerate(positions)}
        arguments: dict[str, Any] = {}
        if past is not None:
            arguments[self._cache_word] = self._cache(past, len(rows))
            arguments["use_cache"] = True
        else:
            arguments["use_cache"] = False
        with torch.inference_mode(), self._lock:
            self.forwards += 1
            self.scored_tokens += sum(map(len, rows))
            keep = torch.tensor(positions, device=self.device)
            logits = self.model(ids.to(self.device), logits_to_keep=keep, **arguments).logits
        most = max(map(len, wanted))
        pick = torch.tensor([[index[p] for p in row] + [0] * (most - len(row)) for row in wanted])
        return logits[torch.arange(len(rows)).unsqueeze(1), pick.to(logits.device)]

    def log_probs(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[LogProbs]:
        """Return the log-probability of every token of each continuation."""
        heads = [self.render(p) for p in prompts]
        encoded = self._encode([h + c for h, c in zip(heads, continuations, strict=True)])
        starts = [
            _shared(head, full)
            for head, full in zip(
                self.tokenizer(heads, add_special_tokens=False)["input_ids"] if heads else [], encoded, strict=True
            )
        ]
        out: list[LogProbs] = [LogProbs(np.empty(0))] * len(encoded)
        for batch in by_length([len(e) for e in encoded], self.batch_tokens):
            wanted = [list(range(starts[i] - 1, len(encoded[i]) - 1)) for i in batch]
            logits = self._forward([encoded[i] for i in batch], None, wanted)
            for row, i in zip(logits, batch, strict=True):
                targets = torch.tensor(encoded[i][starts[i] :], device=row.device)
                values = torch.log_softmax(row[: len(targets)].float(), dim=-1)
                picked = values.gather(1, targets.unsqueeze(1)).squeeze(1)
                out[i] = LogProbs(picked.cpu().numpy().astype(np.float64), Cost(1, len(encoded[i]), 0))
        return out

    # ---- writing

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """Write answers, greedily or with the given temperature and seed; the prefill is part of the text."""
        encoded = self._encode([self.render(p) for p in prompts], reserve=1)
        out: list[Completion] = [Completion("")] * len(encoded)
        for batch in by_length([len(e) + sampling.max_tokens for e in encoded], self.batch_tokens):
            for i, completion in zip(batch, self._write([encoded[i] for i in batch], sampling), strict=True):
                out[i] = Completion(prompts[i].prefill + completion.text, completion.finish, completion.cost)
        return out

    def _write(self, rows: Sequence[list[int]], sampling: Sampling) -> list[Completion]:
        width = max(map(len, rows))
        room = sampling.max_tokens if self.context is None else min(sampling.max_tokens, self.context - width)
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        ids = torch.full((len(rows), width), pad, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, width - len(row) :] = torch.tensor(row)
            mask[i, width - len(row) :] = 1
        options: dict[str, Any] = {"max_new_tokens": max(1, room), "pad_token_id": pad}
        if sampling.temperature > 0:
            options |= {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
        else:
            options |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if sampling.stop:
            options |= {"stop_strings": list(sampling.stop), "tokenizer": self.tokenizer}
        with self._lock, torch.inference_mode(), _seeded(sampling.seed, self.device):
            self.forwards += 1
            written = self.model.generate(ids.to(self.device), attention_mask=mask.to(self.device), **options)
        answers = written[:, width:].cpu()
        ends = self._end_ids
        out = []
        for row, answer in zip(rows, answers, strict=True):
            tokens = answer.tolist()
            stop = next((k for k, t in enumerate(tokens) if t in ends), None)
            kept = tokens if stop is None else tokens[:stop]
            text = self.tokenizer.decode(kept, skip_special_tokens=True)
            hit = stop is not None or any(s in text for s in sampling.stop)
            out.append(Completion(text, "stop" if hit else "length", Cost(1, len(row), len(kept))))
        return out

    @cached_property
    def _end_ids(self) -> frozenset[int]:
        found: set[int] = set()
        for source in (self.model.generation_config, self.model.config, self.tokenizer):
            ids = getattr(source, "eos_token_id", None)
            found |= set(ids) if isinstance(ids, (list, tuple)) else {ids} if ids is not None else set()
        return frozenset(found)

    # ---- inside the model

    def attention(self, context: str, spans: Sequence[tuple[int, int]], suffixes: Sequence[str]) -> list[SpanAttention]:
        """Return what each suffix attends to: context prefilled once, only the suffix rows with eager attention.

        Extra memory is one layer's ``heads x suffix x length``, never ``length x length``.
        """
        from rerank_lm.backends.attention import suffix_attention

        return suffix_attention(self, context, spans, suffixes)

    def hidden(self, prompts: Sequence[Prompt], marks: Sequence[Sequence[str]]) -> list[Hidden]:
        """Return states of all layers at the last token of each mark's last occurrence."""
        out = []
        for prompt, wanted in zip(prompts, marks, strict=True):
            text = self.render(prompt)
            encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            places = [_token_at(text, mark, encoded["offset_mapping"]) for mark in wanted]
            ids = torch.tensor([encoded["input_ids"]], device=self.device)
            with torch.inference_mode(), self._lock:
                self.forwards += 1
                states = self.model(ids, output_hidden_states=True, use_cache=False, logits_to_keep=1).hidden_states
            values = torch.stack([s[0, places] for s in states[1:]], dim=1)
            out.append(Hidden(values.float().cpu().numpy(), Cost(1, len(encoded["input_ids"]), 0)))
        return out

    def embed(self, prompts: Sequence[Prompt]) -> list[Vector]:
        """Return the last token's last hidden state, scaled to length 1."""
        encoded = self._encode([self.render(p) for p in prompts])
        encoded = [e or [self.tokenizer.eos_token_id or 0] for e in encoded]
        out: list[Vector] = [Vector(np.empty(0, np.float32))] * len(encoded)
        for batch in by_length([len(e) for e in encoded], self.batch_tokens):
            width = max(len(encoded[i]) for i in batch)
            ids = torch.zeros(len(batch), width, dtype=torch.long)
            for k, i in enumerate(batch):
                ids[k, : len(encoded[i])] = torch.tensor(encoded[i])
            with torch.inference_mode(), self._lock:
                self.forwards += 1
                states = self.model.base_model(ids.to(self.device), use_cache=False).last_hidden_state
            last = torch.tensor([len(encoded[i]) - 1 for i in batch], device=states.device)
            vectors = torch.nn.functional.normalize(states[torch.arange(len(batch)), last].float(), dim=-1)
            for k, i in enumerate(batch):
                out[i] = Vector(vectors[k].cpu().numpy(), Cost(1, len(encoded[i]), 0))
        return out


def _text(message: Any) -> str:
    parts = message.parts
    if not all(isinstance(p, str) for p in parts):
        raise Unsupported("this back end reads text only; the prompt holds a picture")
    return "".join(parts)


def _shared(head: Sequence[int], full: Sequence[int]) -> int:
    """Return where the continuation starts; a token that straddles the border belongs to the continuation."""
    n = min(len(head), len(full) - 1)
    for i in range(n):
        if head[i] != full[i]:
            return max(1, i)
    return max(1, n)


def _token_at(text: str, mark: str, offsets: Sequence[tuple[int, int]]) -> int:
    start = text.rfind(mark)
    if start < 0:
        raise InputError(f"the mark {mark!r} does not occur in the prompt")
    end = start + len(mark)
    return max(i for i, (a, b) in enumerate(offsets) if a < end and b > start)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Any:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield

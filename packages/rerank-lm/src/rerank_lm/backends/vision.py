"""A vision-language model (Qwen2.5-VL and its kin) run here by transformers, one prompt at a time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from rerank_core.errors import InputError, require
from rerank_core.strategies.judges import Picture
from rerank_core.types import Cost
from rerank_lm.backends.base import Capability, Completion, Prompt, Sampling, TokenScores, Unsupported
from rerank_lm.backends.local import LocalBackEnd, _seeded


class VisionBackEnd(LocalBackEnd):
    """Text and pictures in, next-token logits or text out."""

    capabilities = frozenset({Capability.GENERATE, Capability.NEXT_TOKEN, Capability.IMAGES})

    def __init__(self, model: Any, *, processor: Any = None, **options: Any) -> None:
        super().__init__(model, **options)
        self._processor = processor

    @cached_property
    def model(self) -> Any:
        """The model, in evaluation mode."""
        if self._loaded is not None:
            return self._loaded[0].eval()
        from transformers import AutoModelForImageTextToText

        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = getattr(torch, self._dtype or ("bfloat16" if device.startswith("cuda") else "float32"))
        model = AutoModelForImageTextToText.from_pretrained(self._folder, dtype=dtype, trust_remote_code=False)
        return model.to(device).eval()

    @cached_property
    def processor(self) -> Any:
        """Tokenizer and image processor together."""
        if self._processor is not None:
            return self._processor
        from transformers import AutoProcessor

        return AutoProcessor.from_pretrained(self._folder, trust_remote_code=False)

    @cached_property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    def _inputs(self, prompt: Prompt) -> dict[str, Any]:
        turns, pictures = [], []
        for message in prompt.messages:
            content: list[dict[str, Any]] = []
            for part in message.parts:
                if isinstance(part, Picture):
                    pictures.append(_open(part))
                    content.append({"type": "image"})
                else:
                    content.append({"type": "text", "text": self._neutral(part)})
            turns.append({"role": message.role, "content": content})
        text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) + prompt.prefill
        inputs = self.processor(text=[text], images=pictures or None, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        if self.context is not None and length > self.context:
            raise InputError(
                f"a prompt of {length} tokens does not fit the {self.context} of {self.name!r}; "
                "use fewer or smaller pictures"
            )
        return {k: v.to(self.device) for k, v in inputs.items()}

    def next_token(self, prompts: Sequence[Prompt], tokens: Sequence[str]) -> list[TokenScores]:
        """Return exact logits of the tokens after each prompt."""
        ids = []
        for token in tokens:
            pieces = self.tokenizer(token, add_special_tokens=False)["input_ids"]
            if len(pieces) != 1:
                raise Unsupported(f"{token!r} is not a single token of {self.name!r}")
            ids.append(pieces[0])
        out = []
        for prompt in prompts:
            inputs = self._inputs(prompt)
            with torch.inference_mode(), self._lock:
                self.forwards += 1
                logits = self.model(**inputs, use_cache=False, logits_to_keep=1).logits[0, -1]
            values = logits[ids].float().cpu().numpy().astype(np.float64)
            out.append(TokenScores(values, Cost(1, inputs["input_ids"].shape[1], 0)))
        return out

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """Write answers."""
        out = []
        for prompt in prompts:
            inputs = self._inputs(prompt)
            options: dict[str, Any] = {"max_new_tokens": sampling.max_tokens, "do_sample": sampling.temperature > 0}
            if sampling.temperature > 0:
                options["temperature"] = sampling.temperature
            with torch.inference_mode(), self._lock, _seeded(sampling.seed, self.device):
                self.forwards += 1
                written = self.model.generate(**inputs, **options)[0].cpu()
            width = inputs["input_ids"].shape[1]
            tokens = written[width:].tolist()
            stop = next((k for k, t in enumerate(tokens) if t in self._end_ids), None)
            kept = tokens if stop is None else tokens[:stop]
            text = self.tokenizer.decode(kept, skip_special_tokens=True)
            out.append(Completion(text, "length" if stop is None else "stop", Cost(1, width, len(kept))))
        return out

    def log_probs(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> Any:
        """Not offered for pictures."""
        raise self._cannot(Capability.LOG_PROBS)


def _open(picture: Picture) -> Any:
    image = require("PIL.Image", "rerank-lm[vision]", "reading pictures")
    try:
        return image.open(io.BytesIO(picture.data)).convert("RGB")
    except (OSError, ValueError) as error:
        raise InputError(f"not a readable picture ({error})") from error

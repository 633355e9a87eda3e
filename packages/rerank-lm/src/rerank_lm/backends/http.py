"""Any server that speaks the OpenAI protocol: vLLM, SGLang, Ollama, llama.cpp, hosted services.

Calls run on a bounded number of threads. What may pass (429, 5xx, timeouts, broken connections) is tried again with
growing pauses, as the server's Retry-After asks; what will not (400, 401, 404) is an error at once. A call that keeps
failing gives an answer marked ``error``, so that one bad call does not lose a run; when every call of a batch
fails, that is an error with the server's own words.
"""

from __future__ import annotations

import base64
import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, TypeVar

import httpx
import numpy as np

from rerank_core.reranker import digest
from rerank_core.strategies.judges import Picture
from rerank_core.types import Cost
from rerank_lm.backends.base import (
    Capability,
    Completion,
    EndpointError,
    Finish,
    LogProbs,
    Partial,
    Prompt,
    Sampling,
    TokenScores,
    Unsupported,
    Vector,
)

T = TypeVar("T")
_RETRY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class _Failed(Exception):
    """A call that kept failing; carries the last reason."""


class HttpBackEnd(Partial):
    """An OpenAI-compatible endpoint.

    Parameters
    ----------
    endpoint
        Base URL with or without ``/v1``.
    model
        The served model's name.
    key
        Bearer token; give it from wherever secrets are kept, it is never written or logged.
    concurrency
        Calls in flight at once.
    retries
        Further tries after the first.
    timeout
        Seconds a call may take.
    top_logprobs
        How many alternatives to ask for; 20 is the hosted services' limit, vLLM allows more.
    structured
        Send JSON schemas (``response_format``) where a judge has one; a server that refuses them gets none again.
    context
        The model's context length, where known.
    """

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        key: str | None = None,
        concurrency: int = 8,
        retries: int = 4,
        timeout: float = 120.0,
        top_logprobs: int = 20,
        structured: bool = True,
        images: bool = False,
        context: int | None = None,
        pause: float = 0.5,
    ) -> None:
        base = endpoint.rstrip("/")
        if not base.startswith(("http://", "https://")):
            raise EndpointError(f"endpoint {endpoint!r} is not a URL; give http://host:port or https://host/v1")
        self.base = base if base.endswith("/v1") else base + "/v1"
        self.name = f"{model} at {self.base}"
        self.model, self.context = model, context
        self.concurrency, self.retries, self.top_logprobs, self.pause = concurrency, retries, top_logprobs, pause
        self._structured = structured
        self.calls = 0
        able = {Capability.GENERATE, Capability.NEXT_TOKEN, Capability.LOG_PROBS, Capability.EMBED}
        self.capabilities = frozenset(able | ({Capability.IMAGES} if images else set()))
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0)), headers=headers)

    def fingerprint(self) -> str:
        """Return a digest of URL and model name (the weights behind them cannot be seen)."""
        return f"http:{digest(self.base, self.model)}"

    def count(self, text: str) -> int:
        """Return an estimate: a token for every three bytes."""
        return len(text.encode("utf-8", "replace")) // 3 + 1

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    # ---- questions

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """Write answers through ``/chat/completions``."""

        def ask(prompt: Prompt) -> Completion:
            body = self._body(prompt) | {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
            if sampling.temperature > 0:
                body["seed"] = sampling.seed
            if sampling.stop:
                body["stop"] = list(sampling.stop)
            answer = self._chat_with_schema(body, sampling.schema)
            choice = _choice(answer)
            message = choice.get("message") or {}
            text = message.get("content") or choice.get("text") or ""
            if message.get("refusal"):
                return Completion(str(message["refusal"]), "refusal", _usage(answer))
            thought = message.get("reasoning_content")
            if thought:
                text = f"<think>{thought}</think>{text}"
            finish: Finish = "length" if choice.get("finish_reason") == "length" else "stop"
            return Completion(str(text), finish, _usage(answer))

        return self._map(ask, prompts, lambda reason: Completion("", "error", Cost(calls=1), reason))

    def _chat_with_schema(self, body: dict[str, Any], schema: str) -> Mapping[str, Any]:
        if not (schema and self._structured):
            return self._post("/chat/completions", body)
        wanted = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": json.loads(schema), "strict": True},
        }
        try:
            return self._post("/chat/completions", body | {"response_format": wanted})
        except EndpointError:
            self._structured = False
            return self._post("/chat/completions", body)

    def next_token(self, prompts: Sequence[Prompt], tokens: Sequence[str]) -> list[TokenScores]:
        """Return log-probabilities of tokens from the alternatives the server lists; NaN where one is not listed.

        An endpoint cannot be made to start its answer, so with a prefill two tokens are written and the first
        position at which a label stands is read (a model that was to start with ``[`` writes it itself).
        """

        def ask(prompt: Prompt) -> TokenScores:
            body = self._body(prompt) | {
                "max_tokens": 2 if prompt.prefill else 1,
                "temperature": 0.0,
                "logprobs": True,
                "top_logprobs": self.top_logprobs,
            }
            answer = self._post("/chat/completions", body)
            found = (_choice(answer).get("logprobs") or {}).get("content") or []
            if not found:
                raise Unsupported(f"{self.name} returns no log-probabilities; use a judge that reads text")
            return TokenScores(_labels(found, tokens, prompt.prefill), _usage(answer))

        n = len(tokens)
        return self._map(ask, prompts, lambda _: TokenScores(np.full(n, np.nan), Cost(calls=1)))

    def log_probs(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[LogProbs]:
        """Return a continuation's log-probabilities through ``/completions`` with ``echo`` (vLLM, SGLang).

        Raises
        ------
        Unsupported
            When the server does not give the prompt's log-probabilities back.
        """

        def ask(pair: tuple[Prompt, str]) -> LogProbs:
            head = pair[0].text + ("" if pair[0].raw else "\n\n")
            body = {
                "model": self.model,
                "prompt": head + pair[1],
                "max_tokens": 1,
                "echo": True,
                "logprobs": 1,
                "temperature": 0.0,
            }
            answer = self._post("/completions", body)
            found = _choice(answer).get("logprobs") or {}
            offsets, values = found.get("text_offset") or [], found.get("token_logprobs") or []
            end = len(head) + len(pair[1])
            picked = [v for o, v in zip(offsets, values, strict=False) if len(head) <= o < end and v is not None]
            if not picked or (offsets and offsets[0] != 0):
                raise Unsupported(f"{self.name} does not give prompt log-probabilities (echo); use a local model")
            return LogProbs(np.array(picked, dtype=np.float64), _usage(answer))

        pairs = list(zip(prompts, continuations, strict=True))
        return self._map(ask, pairs, lambda _: LogProbs(np.array([np.nan]), Cost(calls=1)))

    def embed(self, prompts: Sequence[Prompt]) -> list[Vector]:
        """Return embeddings through ``/embeddings``, scaled to length 1."""

        def ask(prompt: Prompt) -> Vector:
            answer = self._post("/embeddings", {"model": self.model, "input": prompt.text})
            try:
                vector = np.array(answer["data"][0]["embedding"], dtype=np.float32).ravel()
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise _Failed(f"no embedding in the answer ({error})") from error
            return Vector(vector / max(float(np.linalg.norm(vector)), 1e-12), _usage(answer))

        return self._map(ask, prompts, None)

    # ---- transport

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        turns: list[dict[str, Any]] = []
        for message in prompt.messages:
            if isinstance(message.content, str):
                turns.append({"role": message.role, "content": message.content})
            else:
                turns.append({"role": message.role, "content": [_part(p) for p in message.content]})
        return {"model": self.model, "messages": turns}

    def _map(self, ask: Callable[[Any], T], items: Sequence[Any], failed: Callable[[str], T] | None) -> list[T]:
        reasons: list[str] = []

        def one(item: Any) -> T | None:
            try:
                return ask(item)
            except _Failed as error:
                reasons.append(str(error))
                return None if failed is None else failed(str(error))

        if not items:
            return []
        with ThreadPoolExecutor(max_workers=max(1, min(self.concurrency, len(items)))) as pool:
            answers = list(pool.map(one, items))
        if reasons and (len(reasons) == len(items) or failed is None):
            raise EndpointError(f"{self.name}: every call failed; the last: {reasons[-1]}")
        return answers  # type: ignore[return-value]

    @cached_property
    def _jitter(self) -> random.Random:
        return random.Random(0)

    def _post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        reason, asked = "", None
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(self._wait(attempt, asked))
            asked = None
            self.calls += 1
            try:
                response = self._client.post(self.base + path, json=body)
            except httpx.ConnectError as error:
                reason = f"cannot connect ({error})"
                continue
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                continue
            if response.status_code in _RETRY:
                reason = f"HTTP {response.status_code}: {_words(response)}"
                asked = _retry_after(response)
                continue
            if response.status_code == 501 or (response.status_code == 404 and path != "/chat/completions"):
                raise Unsupported(f"{self.name} does not offer {path} (HTTP {response.status_code})")
            if response.status_code >= 400:
                raise EndpointError(f"{self.name}: HTTP {response.status_code}: {_words(response)}")
            try:
                answer = response.json()
            except ValueError:
                reason = f"the answer is not JSON ({response.text[:60]!r})"
                continue
            if isinstance(answer, dict):
                return answer
            reason = "the answer is not a JSON object"
        raise _Failed(f"{reason} (tried {self.retries + 1} times)")

    def _wait(self, attempt: int, asked: float | None) -> float:
        wait = self.pause * 2 ** (attempt - 1) * (1 + 0.25 * self._jitter.random())
        return min(60.0, max(wait, asked or 0.0))


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None


def _words(response: httpx.Response) -> str:
    try:
        error = response.json().get("error")
        text = error.get("message") if isinstance(error, dict) else error
    except (ValueError, AttributeError):
        text = None
    return " ".join(str(text or response.text or "no text").split())[:200]


def _choice(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise _Failed("the answer holds no choice")
    return choices[0]


def _usage(answer: Mapping[str, Any]) -> Cost:
    usage = answer.get("usage") or {}
    return Cost(1, int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))


def _part(part: str | Picture) -> Mapping[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = "png" if part.data[:4] == b"\x89PNG" else "jpeg"
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(part.data).decode()}"},
    }


def _labels(positions: Sequence[Mapping[str, Any]], tokens: Sequence[str], prefill: str) -> np.ndarray:
    wanted = {t.strip(): i for i, t in enumerate(tokens)}
    best = np.full(len(tokens), np.nan)
    for place, position in enumerate(positions):
        values = np.full(len(tokens), np.nan)
        for entry in [*(position.get("top_logprobs") or []), position]:
            index = wanted.get(str(entry.get("token", "")).strip().lstrip(prefill or " ").strip())
            value = entry.get("logprob")
            if index is not None and isinstance(value, (int, float)) and math.isfinite(value):
                values[index] = np.nanmax([values[index], value])
        chosen = str(position.get("token", "")).strip()
        if np.isnan(best).all() or (
            place == 1 and prefill.strip() and positions[0].get("token", "").strip() == prefill.strip()
        ):
            best = values
        if chosen in wanted:
            break
    return best

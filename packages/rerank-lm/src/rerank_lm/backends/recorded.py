"""Remembering answers: a disk cache, a recording, and a replay without any model.

All three wrap a back end and key each single answer by the back end's fingerprint and everything the answer depends
on, so that one changed passage asks only what is new. A recording is JSON Lines, one answer a line, and can be
replayed on a machine without the model.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rerank_core.cache import Store
from rerank_core.errors import InputError
from rerank_core.reranker import digest
from rerank_core.strategies.judges import Picture
from rerank_core.types import Cost
from rerank_lm.backends.base import (
    Answer,
    BackEnd,
    Capability,
    Completion,
    Hidden,
    LogProbs,
    Prompt,
    Sampling,
    SpanAttention,
    TokenScores,
    Vector,
)


class Memory(Protocol):
    """Where answers are kept."""

    def get(self, key: str) -> Any | None: ...

    def put(self, key: str, kind: str, value: Any) -> None: ...


class StoreMemory:
    """Answers in a content-addressed folder; corrupt entries read as absent, two processes may share it."""

    def __init__(self, folder: str | Path) -> None:
        self.store = Store(folder)

    def get(self, key: str) -> Any | None:
        """Return the answer under a key."""
        raw = self.store.get(key)
        return None if raw is None else json.loads(raw)

    def put(self, key: str, kind: str, value: Any) -> None:
        """Keep an answer."""
        self.store.put(key, json.dumps(value).encode())


class FileMemory:
    """Answers in a JSON Lines file: read at the start, appended line by line.

    Raises
    ------
    InputError
        When a line is no recorded answer (a last line that a killed run cut off is dropped).
    """

    def __init__(self, path: str | Path, *, write: bool = True) -> None:
        self.path, self._write = Path(path), write
        self._answers: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self._lock = threading.Lock()
        if self.path.exists():
            self._read()
        elif not write:
            raise InputError("no such recording", self.path)

    def _read(self) -> None:
        lines = self.path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                if "backend" in entry:
                    self.header = entry
                else:
                    self._answers[entry["key"]] = entry["answer"]
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines):
                    break
                raise InputError(f"not a recorded answer ({error})", self.path, number) from error

    def get(self, key: str) -> Any | None:
        """Return the answer under a key."""
        return self._answers.get(key)

    def put(self, key: str, kind: str, value: Any) -> None:
        """Append an answer."""
        self._answers[key] = value
        if self._write:
            self._append({"key": key, "kind": kind, "answer": value})

    def describe(self, backend: BackEnd) -> None:
        """Write the line that a replay needs to stand in for the back end."""
        if not self.header:
            self.header = {
                "backend": backend.name,
                "fingerprint": backend.fingerprint(),
                "capabilities": sorted(c.value for c in backend.capabilities),
            }
            self._append(self.header)

    def _append(self, entry: Mapping[str, Any]) -> None:
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")


class Remembering:
    """A back end whose answers are kept; what is known already costs nothing and asks nothing."""

    def __init__(self, inner: BackEnd, memory: Memory, *, keep_cost: bool = False) -> None:
        self.inner, self.memory, self._keep_cost = inner, memory, keep_cost
        if isinstance(memory, FileMemory):
            memory.describe(inner)
        self._print = inner.fingerprint()
        self.asked = 0

    @property
    def name(self) -> str:
        """The inner name."""
        return self.inner.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What the inner back end can."""
        return self.inner.capabilities

    @property
    def context(self) -> int | None:
        """The inner context length."""
        return self.inner.context

    def fingerprint(self) -> str:
        """Return the inner fingerprint: remembering changes no answer."""
        return self._print

    def count(self, text: str) -> int:
        """Return the inner count."""
        return self.inner.count(text)

    def turn(self) -> tuple[str, str]:
        """Return the inner turn."""
        key = digest(self._print, "turn")
        known = self.memory.get(key)
        if known is None:
            known = list(self.inner.turn())
            self.memory.put(key, "turn", known)
        return known[0], known[1]

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """Write, or remember."""
        return self._each(  # type: ignore[return-value]
            "generate",
            [(_plain(p), asdict(sampling)) for p in prompts],
            lambda todo: self.inner.generate([prompts[i] for i in todo], sampling),
        )

    def next_token(self, prompts: Sequence[Prompt], tokens: Sequence[str]) -> list[TokenScores]:
        """Score next tokens, or remember."""
        return self._each(  # type: ignore[return-value]
            "next_token",
            [(_plain(p), list(tokens)) for p in prompts],
            lambda todo: self.inner.next_token([prompts[i] for i in todo], tokens),
        )

    def log_probs(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[LogProbs]:
        """Score continuations, or remember."""
        return self._each(  # type: ignore[return-value]
            "log_probs",
            [(_plain(p), c) for p, c in zip(prompts, continuations, strict=True)],
            lambda todo: self.inner.log_probs([prompts[i] for i in todo], [continuations[i] for i in todo]),
        )

    def attention(self, context: str, spans: Sequence[tuple[int, int]], suffixes: Sequence[str]) -> list[SpanAttention]:
        """Attend, or remember; the suffixes of one context are asked together, since they share its work."""
        key = [(context, [list(s) for s in spans], list(suffixes))]
        joined = self._each(
            "attention", key, lambda todo: [_Joined(self.inner.attention(context, spans, suffixes))] if todo else []
        )
        return joined[0].answers  # type: ignore[union-attr]

    def hidden(self, prompts: Sequence[Prompt], marks: Sequence[Sequence[str]]) -> list[Hidden]:
        """Read hidden states, or remember."""
        return self._each(  # type: ignore[return-value]
            "hidden",
            [(_plain(p), list(m)) for p, m in zip(prompts, marks, strict=True)],
            lambda todo: self.inner.hidden([prompts[i] for i in todo], [marks[i] for i in todo]),
        )

    def embed(self, prompts: Sequence[Prompt]) -> list[Vector]:
        """Embed, or remember."""
        return self._each(  # type: ignore[return-value]
            "embed", [_plain(p) for p in prompts], lambda todo: self.inner.embed([prompts[i] for i in todo])
        )

    def _each(
        self, kind: str, parts: Sequence[Any], ask: Callable[[Sequence[int]], Sequence[Answer | _Joined]]
    ) -> list[Answer | _Joined]:
        keys = [digest(self._print, kind, part) for part in parts]
        known = {k: self.memory.get(k) for k in dict.fromkeys(keys)}
        first = {k: i for i, k in reversed(list(enumerate(keys)))}
        todo = sorted(first[k] for k, v in known.items() if v is None)
        if todo:
            self.asked += len(todo)
            fresh = ask(todo)
        else:
            fresh = []
        out: list[Answer | _Joined | None] = [None] * len(keys)
        for i, answer in zip(todo, fresh, strict=True):
            out[i] = answer
            if isinstance(answer, Completion) and answer.finish == "error":
                continue  # a failed call is asked again next time
            value = _pack(answer)
            known[keys[i]] = value
            self.memory.put(keys[i], kind, value)
        for i, key in enumerate(keys):
            if out[i] is None:
                value = known[key]
                out[i] = out[first[key]] if value is None else _unpack(value, self._keep_cost)
        return out  # type: ignore[return-value]


class Replay(Remembering):
    """Answers from a recording only; no model is loaded.

    Raises
    ------
    InputError
        At the first question that the recording does not hold.
    """

    def __init__(self, path: str | Path) -> None:
        memory = FileMemory(path, write=False)
        if not memory.header:
            raise InputError("the recording does not begin with its back end", path)
        super().__init__(_Absent(memory.header, path), memory, keep_cost=True)


class _Absent:
    """Stands where the model would be."""

    context = None

    def __init__(self, header: Mapping[str, Any], path: str | Path) -> None:
        self.name = str(header["backend"])
        self.capabilities = frozenset(Capability(c) for c in header["capabilities"])
        self._fingerprint, self._path = str(header["fingerprint"]), path

    def fingerprint(self) -> str:
        return self._fingerprint

    def count(self, text: str) -> int:
        # A byte-level tokenizer never gives more tokens than bytes; an exact count would need the model.
        return max(1, len(text) // 4)

    def __getattr__(self, name: str) -> Any:
        raise InputError(f"the recording holds no answer to this {name.replace('_', ' ')} question", self._path)


class _Joined:
    def __init__(self, answers: list[SpanAttention]) -> None:
        self.answers = answers


def _plain(prompt: Prompt) -> Any:
    turns: list[Any] = []
    for m in prompt.messages:
        parts: Iterable[Any] = (p if isinstance(p, str) else {"picture": _picture(p)} for p in m.parts)
        turns.append([m.role, list(parts)])
    return [turns, prompt.prefill, prompt.raw]


def _picture(picture: Picture) -> str:
    return digest(picture.data, picture.caption)


def _pack(answer: Answer | _Joined) -> Any:
    if isinstance(answer, _Joined):
        return {"joined": [_pack(a) for a in answer.answers]}
    cost = [answer.cost.calls, answer.cost.prompt_tokens, answer.cost.output_tokens]
    if isinstance(answer, Completion):
        return {"text": answer.text, "finish": answer.finish, "cost": cost}
    if isinstance(answer, SpanAttention):
        return {"spans": [_numbers(s) for s in answer.spans], "cost": cost}
    kind = type(answer).__name__
    return {kind: _numbers(answer.values), "shape": list(answer.values.shape), "cost": cost}


def _numbers(values: Any) -> list[float | None]:
    return [None if np.isnan(x) else float(x) for x in np.asarray(values).ravel()]


_ARRAYS: dict[str, tuple[Callable[..., Answer], type]] = {
    "TokenScores": (TokenScores, np.float64),
    "LogProbs": (LogProbs, np.float64),
    "Hidden": (Hidden, np.float32),
    "Vector": (Vector, np.float32),
}


def _unpack(value: Any, keep_cost: bool) -> Answer | _Joined:
    if "joined" in value:
        return _Joined([_unpack(v, keep_cost) for v in value["joined"]])  # type: ignore[misc]
    cost = Cost(*value["cost"]) if keep_cost else Cost()
    if "text" in value:
        return Completion(value["text"], value["finish"], cost)
    if "spans" in value:
        return SpanAttention(tuple(_array(s, np.float64) for s in value["spans"]), cost)
    kind = next(k for k in _ARRAYS if k in value)
    make, dtype = _ARRAYS[kind]
    return make(_array(value[kind], dtype).reshape(value["shape"]), cost)


def _array(values: Sequence[float | None], dtype: type) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], dtype=dtype)

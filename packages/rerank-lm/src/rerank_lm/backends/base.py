"""What a judge may ask of a language model, whatever runs it.

A back end says what it can ([`Capability`][rerank_lm.backends.base.Capability]); a judge asks for what it needs once,
when it is made, and refuses a back end that cannot. Every answer carries its own cost, so that a cached or replayed
answer costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import RerankError, UsageError
from rerank_core.strategies.judges import Content
from rerank_core.types import Cost, FloatArray

Role = Literal["system", "user", "assistant"]


class Capability(StrEnum):
    """What a back end can do."""

    GENERATE = "generate"  # write text
    NEXT_TOKEN = "next-token"  # logits of given tokens at the next position
    LOG_PROBS = "log-probs"  # log-probability of a given continuation
    HIDDEN = "hidden-states"  # hidden states of all layers at given places
    ATTENTION = "attention"  # attention of a suffix over the spans of a context
    EMBED = "embed"  # one vector a text
    IMAGES = "images"  # pictures in prompts


class Unsupported(UsageError):
    """A judge needs what its back end cannot do."""


class EndpointError(RerankError):
    """An HTTP endpoint cannot be reached or refuses every call; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. ``content`` is text, or text and pictures in reading order."""

    role: Role
    content: str | tuple[Content, ...]

    @property
    def parts(self) -> tuple[Content, ...]:
        """The content as a tuple."""
        return (self.content,) if isinstance(self.content, str) else self.content


@dataclass(frozen=True, slots=True)
class Prompt:
    """Turns of a conversation, and how the model's answer begins.

    Parameters
    ----------
    prefill
        Text the answer is made to start with (FIRST's ``[``). An endpoint that cannot start an answer leaves it out;
        the parsers cope.
    raw
        The single user message is the final text: no chat template is put around it.
    """

    messages: tuple[Message, ...]
    prefill: str = ""
    raw: bool = False

    @classmethod
    def user(cls, text: str, *, system: str = "", prefill: str = "") -> Prompt:
        """A single question, with or without a system message."""
        turns = (Message("system", system),) if system else ()
        return cls((*turns, Message("user", text)), prefill)

    @classmethod
    def plain(cls, text: str) -> Prompt:
        """Text that the model is to continue as it stands."""
        return cls((Message("user", text),), raw=True)

    @property
    def text(self) -> str:
        """All text of all turns, for counting and keys."""
        return "\n".join(p for m in self.messages for p in m.parts if isinstance(p, str)) + self.prefill


Finish = Literal["stop", "length", "error", "refusal"]


@dataclass(frozen=True, slots=True)
class Completion:
    """Text a model wrote, and why it ended."""

    text: str
    finish: Finish = "stop"
    cost: Cost = field(default_factory=Cost)
    error: str = ""


@dataclass(frozen=True, slots=True)
class TokenScores:
    """Logits (or log-probabilities) of asked-for tokens, shape (n_tokens,); NaN where an endpoint did not say."""

    values: FloatArray
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class LogProbs:
    """Log-probabilities of a continuation's tokens, shape (n_tokens,)."""

    values: FloatArray
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class SpanAttention:
    """Attention that spans of the context get from a suffix.

    Parameters
    ----------
    spans
        One array a span, shape (n_tokens_of_span,): attention averaged over the suffix's tokens, summed over layers
        and heads.
    """

    spans: tuple[FloatArray, ...]
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Hidden:
    """Hidden states at marks, shape (n_marks, n_layers, n_dimensions)."""

    values: NDArray[np.float32]
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Vector:
    """A text's embedding, shape (n_dimensions,), length 1."""

    values: NDArray[np.float32]
    cost: Cost = field(default_factory=Cost)


Answer: TypeAlias = Completion | TokenScores | LogProbs | SpanAttention | Hidden | Vector


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to write: greedy by default."""

    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    schema: str = ""  # JSON schema as text, for endpoints with structured outputs


@runtime_checkable
class BackEnd(Protocol):
    """A language model that can be asked. Every method answers in the order of its prompts."""

    @property
    def name(self) -> str: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def context(self) -> int | None:
        """Longest prompt and answer together, in tokens; None where unknown."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of the weights (or endpoint and model name) and everything that changes an answer."""
        ...

    def count(self, text: str) -> int:
        """Return the number of tokens of a text, exactly or from above."""
        ...

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]: ...

    def next_token(self, prompts: Sequence[Prompt], tokens: Sequence[str]) -> list[TokenScores]: ...

    def log_probs(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[LogProbs]: ...

    def attention(self, context: str, spans: Sequence[tuple[int, int]], suffixes: Sequence[str]) -> list[SpanAttention]:
        """Return what each suffix, right after the context, attends to.

        ``spans`` are character ranges of the raw ``context``; ``turn()`` of a local back end gives what goes around
        a user's turn.
        """
        ...

    def hidden(self, prompts: Sequence[Prompt], marks: Sequence[Sequence[str]]) -> list[Hidden]:
        """Return the states at the last token of each mark's last occurrence in the prompt."""
        ...

    def embed(self, prompts: Sequence[Prompt]) -> list[Vector]: ...

    def turn(self) -> tuple[str, str]:
        """Return the text before and after a user's message, up to where the answer starts."""
        ...


class Partial:
    """Base of back ends that can do some things; what they cannot raises [`Unsupported`][]."""

    name: str = "?"
    capabilities: frozenset[Capability] = frozenset()

    def generate(self, prompts: Sequence[Prompt], sampling: Sampling) -> list[Completion]:
        """Write an answer to each prompt."""
        raise self._cannot(Capability.GENERATE)

    def next_token(self, prompts: Sequence[Prompt], tokens: Sequence[str]) -> list[TokenScores]:
        """Return the logits of tokens at the next position of each prompt."""
        raise self._cannot(Capability.NEXT_TOKEN)

    def log_probs(self, prompts: Sequence[Prompt], continuations: Sequence[str]) -> list[LogProbs]:
        """Return the log-probabilities of each continuation after its prompt."""
        raise self._cannot(Capability.LOG_PROBS)

    def attention(self, context: str, spans: Sequence[tuple[int, int]], suffixes: Sequence[str]) -> list[SpanAttention]:
        """Return what each suffix attends to."""
        raise self._cannot(Capability.ATTENTION)

    def hidden(self, prompts: Sequence[Prompt], marks: Sequence[Sequence[str]]) -> list[Hidden]:
        """Return hidden states at marks."""
        raise self._cannot(Capability.HIDDEN)

    def embed(self, prompts: Sequence[Prompt]) -> list[Vector]:
        """Return one unit vector a prompt."""
        raise self._cannot(Capability.EMBED)

    def turn(self) -> tuple[str, str]:
        """Return what goes around a user's message."""
        return "", "\n"

    def _cannot(self, capability: Capability) -> Unsupported:
        able = ", ".join(sorted(c.value for c in self.capabilities)) or "nothing"
        return Unsupported(f"back end {self.name!r} cannot do {capability.value!r} (it can: {able})")


def need(backend: BackEnd, judge: str, *capabilities: Capability) -> None:
    """Refuse a back end that lacks what a judge needs.

    Raises
    ------
    Unsupported
        The text names judge, back end and capability.
    """
    missing = [c for c in capabilities if c not in backend.capabilities]
    if missing:
        able = ", ".join(sorted(c.value for c in backend.capabilities)) or "nothing"
        raise Unsupported(
            f"judge {judge!r} needs {missing[0].value!r}, which {backend.name!r} cannot give (it can: {able}); "
            "use a local model, or a judge that needs only what the back end can"
        )

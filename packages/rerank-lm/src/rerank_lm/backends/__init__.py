"""Back ends: what runs a language model. Importing this loads no torch; the local ones do when they are made."""

from rerank_lm.backends.base import (
    BackEnd,
    Capability,
    Completion,
    EndpointError,
    Hidden,
    LogProbs,
    Message,
    Prompt,
    Sampling,
    SpanAttention,
    TokenScores,
    Unsupported,
    Vector,
    need,
)

__all__ = [
    "BackEnd",
    "Capability",
    "Completion",
    "EndpointError",
    "Hidden",
    "LogProbs",
    "Message",
    "Prompt",
    "Sampling",
    "SpanAttention",
    "TokenScores",
    "Unsupported",
    "Vector",
    "need",
]

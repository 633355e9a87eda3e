"""How a domain shows itself to a judge: as text or as a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from rerank_core.types import Candidate

Q = TypeVar("Q")
C = TypeVar("C")
Q_contra = TypeVar("Q_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image for judges that see: encoded bytes (PNG, JPEG, ...) and an optional caption."""

    data: bytes
    caption: str = ""


Content: TypeAlias = str | Picture
"""What a judge reads: text or a picture."""


class Rendering(Protocol[Q_contra, C]):
    """How a domain shows itself to a judge; all that a judge of rerank-lm needs to work in the domain."""

    @property
    def instruction(self) -> str: ...

    def query(self, query: Q_contra) -> Content: ...

    def candidate(self, candidate: Candidate[C]) -> Content: ...


@dataclass(frozen=True)
class TextRendering(Generic[Q, C]):
    """A rendering made of two functions."""

    instruction: str
    render_query: Callable[[Q], Content]
    render_candidate: Callable[[Candidate[C]], Content]

    def query(self, query: Q) -> Content:
        """Return the query as text or picture."""
        return self.render_query(query)

    def candidate(self, candidate: Candidate[C]) -> Content:
        """Return the candidate as text or picture."""
        return self.render_candidate(candidate)

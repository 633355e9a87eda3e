"""Judges: language models that score, compare or order rendered candidates. Importing this loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rerank_lm.judges.catalogue import BY_NAME, ENTRIES, catalogue

if TYPE_CHECKING:
    from rerank_lm.judges.building import build

__all__ = ["BY_NAME", "ENTRIES", "build", "catalogue"]


def __getattr__(name: str) -> Any:
    # build() brings numpy-heavy strategies and httpx along; a catalogue should not.
    if name == "build":
        from rerank_lm.judges.building import build

        return build
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Why a pair stands where it stands, in words and without a language model."""

from __future__ import annotations

from collections.abc import Mapping

from rerank_schema.cleaning import Cleaned
from rerank_schema.tables import Column

_SHOWN = 3


def reason(
    source: Column,
    target: Column,
    evidence: Mapping[str, float],
    words: Mapping[str, str],
    cleaned: tuple[Cleaned, Cleaned] | None = None,
) -> str:
    """Say what speaks for a pair: the strongest signals, shared values, types.

    Parameters
    ----------
    evidence, words
        Signal values and what to call them.
    cleaned
        The two cleaned columns; None where values may not be shown.
    """
    told = [(name, value) for name, value in evidence.items() if name in words and name != "overlap"]
    told.sort(key=lambda item: -round(item[1], 5))  # rounding errors do not order what is the same
    parts = [f"{words[name]} {value:.2f}" for name, value in told[:_SHOWN] if value > 0]
    if cleaned is not None:
        left, right = cleaned
        shared = [v for v in left.texts if v in right.text_set]
        if shared:
            parts.append(f"{len(shared)} shared values ({', '.join(s[:30] for s in shared[:_SHOWN])})")
        if left.values and right.values:
            parts.append(f"both {left.type}" if left.type == right.type else f"{left.type} against {right.type}")
    if source.name.lower() == target.name.lower():
        parts.insert(0, "same name")
    return "; ".join(parts)

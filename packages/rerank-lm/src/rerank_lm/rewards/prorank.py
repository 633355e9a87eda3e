"""ProRank's warm-up reward (2025): a bare 0 or 1, and the right one. **Ours:** both parts count 1."""

from __future__ import annotations

from rerank_lm.rewards._window import Gold


def prorank(text: str, gold: Gold, *, official: bool = False) -> float:
    """1 for an answer that is exactly ``0`` or ``1``, and 1 more where it is the first candidate's label."""
    del official
    answer = text.strip()
    if answer not in ("0", "1"):
        return 0.0
    return 1.0 + float(answer == ("1" if gold.gains and gold.gains[0] > 0 else "0"))

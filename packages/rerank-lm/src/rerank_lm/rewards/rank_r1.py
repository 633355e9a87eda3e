"""Rank-R1's reward (2025): the right label in the right format, nothing else."""

from __future__ import annotations

from rerank_lm.rewards._window import Gold, answer_of


def rank_r1(text: str, gold: Gold, *, official: bool = False) -> float:
    """1 when ``<think>..</think><answer>[i]</answer>`` names the best candidate, else 0.

    With several equally good candidates any of them counts; ``official`` accepts the first only.
    """
    answer = answer_of(text)
    if answer is None or not gold.gains:
        return 0.0
    top = max(gold.gains)
    best = [f"[{i + 1}]" for i, g in enumerate(gold.gains) if g == top]
    return 1.0 if answer.strip() in (best[:1] if official else best) else 0.0

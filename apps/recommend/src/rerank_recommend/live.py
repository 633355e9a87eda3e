"""Asking a language model: one answer a turn for a CARE strategy, or letter probabilities for a whole list at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from rerank_core.errors import RerankError
from rerank_core.types import FloatArray
from rerank_recommend.data import Turn
from rerank_recommend.prompts import LETTERS, PromptParams, care_prompt, letter_prompt


def ask(
    backend: Any,
    strategy: str,
    turns: Sequence[Turn],
    candidates: Sequence[Sequence[str]],
    *,
    params: PromptParams | None = None,
    max_tokens: int = 512,
    strict: bool = False,
) -> dict[str, str]:
    """Return turn id -> answer. A turn that the model fails on has an empty answer, unless ``strict``.

    Parameters
    ----------
    backend
        A back end of `rerank_lm.backends` that can generate.
    candidates
        The expert's titles a turn, best first.
    """
    from rerank_lm.backends import Prompt, Sampling

    p = params or PromptParams()
    if p.max_tokens is None and backend.context is not None:
        p = PromptParams(p.wanted, p.thing, max(64, backend.context - max_tokens))
    prompts = [
        Prompt.user(care_prompt(strategy, t.context, c, p, backend.count))
        for t, c in zip(turns, candidates, strict=True)
    ]
    try:
        completions = backend.generate(prompts, Sampling(max_tokens=max_tokens))
    except RerankError as error:
        if strict:
            raise
        print(f"{backend.name}: {error}; the expert's lists stand in", file=sys.stderr)
        return {t.id: "" for t in turns}
    answers: dict[str, str] = {}
    failures = []
    for turn, c in zip(turns, completions, strict=True):
        if c.finish in ("error", "refusal"):
            failures.append(f"turn {turn.id}: {c.error or c.finish}")
        answers[turn.id] = "" if c.finish in ("error", "refusal") else drop_cut_entry(c.text, c.finish)
    if failures and strict:
        raise RerankError(failures[0])
    if failures:
        print(f"{len(failures)} of {len(turns)} turns had no answer ({failures[0]})", file=sys.stderr)
    return answers


def drop_cut_entry(text: str, finish: str | None) -> str:
    """Drop the last line of an answer that ended because of the token limit: it may be half a title."""
    if finish != "length":
        return text
    kept, newline, last = text.rpartition("\n")
    if newline:
        return kept
    head, comma, _ = last.rpartition(",")
    return head if comma else ""


def letter_scores(
    backend: Any, query: str, candidates: Sequence[str], *, rounds: int = 1, seed: int = 0, thing: str = "item"
) -> FloatArray:
    """Rank up to 26 candidates by the probability of their letter as the next token: one forward pass a round.

    KALM4Rec's local-model variant. A small model prefers letters to contents, so ``rounds`` shuffles of the list are
    averaged.

    Returns
    -------
    ndarray
        Mean log-probability among the letters, shape (n_candidates,).
    """
    from rerank_lm.backends import Prompt

    n = len(candidates)
    if n == 0:
        return np.empty(0)
    rng = np.random.default_rng(seed)
    orders = [np.arange(n), *(rng.permutation(n) for _ in range(rounds - 1))]
    prompts = [Prompt.user(letter_prompt(query, [candidates[i] for i in order], thing)) for order in orders]
    total = np.zeros(n)
    for order, answer in zip(orders, backend.next_token(prompts, list(LETTERS[:n])), strict=True):
        logits = np.asarray(answer.values, dtype=np.float64)
        floor = np.nanmin(np.where(np.isfinite(logits), logits, np.nan)) if np.isfinite(logits).any() else 0.0
        logits = np.where(np.isfinite(logits), logits, floor)
        total[order] += logits - (logits.max() + np.log(np.exp(logits - logits.max()).sum()))
    return total / len(orders)

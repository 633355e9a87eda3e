"""Asking a language model: one answer a turn for a CARE strategy, or letter probabilities for a whole list at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from rerank_core.errors import RerankError
from rerank_core.reranker import digest
from rerank_core.strategies import Shuffled
from rerank_core.strategies.judges import Group, Item
from rerank_core.types import Cost, FloatArray
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


class LetterJudge:
    """Scores up to 26 candidates by the probability of their letter as the next token: one forward pass a list.

    Source: KALM4Rec (WWW Companion 2025), the variant for local models. A small model prefers letters to contents;
    the core's ``Shuffled`` around this judge averages over seeded orders of the list (LLM bootstrapping, Hou et al.,
    ECIR 2024).
    """

    name = "recommend-letters"

    def __init__(self, backend: Any, thing: str = "item") -> None:
        self.backend, self.thing = backend, thing
        self.cost = Cost()

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return str(digest(self.name, self.thing, self.backend.fingerprint()))

    def score_groups(self, groups: Sequence[Group]) -> list[FloatArray]:
        """Return log-probabilities among the letters, shape (n_items,) a group."""
        from rerank_lm.backends import Prompt

        out: list[FloatArray] = []
        for group in groups:
            n = len(group.items)
            if n == 0:
                out.append(np.empty(0))
                continue
            prompt = Prompt.user(letter_prompt(str(group.query), [str(i.content) for i in group.items], self.thing))
            [answer] = self.backend.next_token([prompt], list(LETTERS[:n]))
            self.cost += answer.cost
            logits = np.asarray(answer.values, dtype=np.float64)
            known = np.isfinite(logits)
            if not known.any():
                out.append(np.full(n, np.nan))
                continue
            logits = np.where(known, logits, logits[known].min())
            out.append(logits - (logits.max() + np.log(np.exp(logits - logits.max()).sum())))
        return out


def letter_scores(
    backend: Any, query: str, candidates: Sequence[str], *, rounds: int = 1, seed: int = 0, thing: str = "item"
) -> FloatArray:
    """Rank up to 26 candidates by their letters' probability, averaged over ``rounds`` orders of the list.

    Parameters
    ----------
    rounds
        1 asks about the list as it is; more ask about so many seeded shuffles of it.

    Returns
    -------
    ndarray
        Mean log-probability among the letters, shape (n_candidates,); NaN where the answer was unusable.
    """
    judge: Any = LetterJudge(backend, thing)
    if rounds > 1:
        judge = Shuffled(judge, rounds, seed)
    items = tuple(Item(c, str(i), rank=i) for i, c in enumerate(candidates))
    [scores] = judge.score_groups([Group(query, items)])
    return np.asarray(scores, dtype=np.float64)

"""Prompts of CARE, He et al. and KALM4Rec, in our own words, as pure functions.

A prompt that grows too long loses its oldest utterances, never a candidate.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LETTERS = string.ascii_uppercase


@dataclass(frozen=True, slots=True)
class PromptParams:
    """How many recommendations are asked for, of what, and how many tokens the prompt may have (None: no limit)."""

    wanted: int = 20
    thing: str = "movie"
    max_tokens: int | None = None


def conversation(context: Sequence[str], skip: int = 0) -> str:
    """Write utterances as "System:" and "User:" in turn, the last one being the user's, without the oldest ``skip``."""
    n = len(context)
    roles = ["User" if (n - 1 - i) % 2 == 0 else "System" for i in range(n)]
    return "\n".join(f"{r}: {u}" for r, u in zip(roles[skip:], context[skip:], strict=True))


def _fit(build: Callable[[int], str], n: int, count: Callable[[str], int] | None, limit: int | None) -> str:
    skip = 0
    text = build(skip)
    while limit is not None and count is not None and skip < n and count(text) > limit:
        skip += 1
        text = build(skip)
    return text


def care_prompt(
    strategy: str,
    context: Sequence[str],
    candidates: Sequence[str] = (),
    params: PromptParams | None = None,
    count: Callable[[str], int] | None = None,
) -> str:
    """Return the user message of a CARE strategy: ``direct``, ``expand``, ``rerank`` or ``select``.

    Parameters
    ----------
    candidates
        Titles from the expert, best first; not used by ``direct``.
    count
        Counts a text's tokens; with ``params.max_tokens`` it bounds the prompt.
    """
    p = params or PromptParams()
    listed = "\n".join(f"{i}. {title}" for i, title in enumerate(candidates, 1))
    form = "Answer with a numbered list of titles, each with its year if you know it, and nothing else."
    tasks = {
        "direct": f"Recommend the {p.wanted} {p.thing}s that suit the user best.",
        "expand": f"A recommender suggests:\n{listed}\n\nRecommend the {p.wanted} {p.thing}s that suit the user best. "
        "You may use its suggestions and add others that you know.",
        "rerank": f"A recommender suggests:\n{listed}\n\nOrder all of these {p.thing}s by how well they suit the user, "
        "best first. Name no others.",
        "select": f"A recommender suggests:\n{listed}\n\nChoose from this list the {p.wanted} {p.thing}s that suit the "
        "user best and order them, best first. Name no others.",
    }
    if strategy not in tasks:
        raise ValueError(f"no prompt for strategy {strategy!r}; there are {', '.join(tasks)}")

    def build(skip: int) -> str:
        return (
            f"You recommend {p.thing}s. This is a conversation between a system and a user:\n\n"
            f"{conversation(context, skip)}\n\n{tasks[strategy]} {form}"
        )

    return _fit(build, len(context), count, p.max_tokens)


@dataclass(frozen=True, slots=True)
class KeywordCandidate:
    """An item of a keyword prompt with its best keywords."""

    id: int
    keywords: tuple[str, ...]


def _block(keywords: Sequence[str], candidates: Sequence[KeywordCandidate]) -> str:
    lines = "\n".join(f"{c.id} ({', '.join(c.keywords)})" for c in candidates)
    return f"The user likes: {', '.join(keywords)}.\nCandidates: [{', '.join(str(c.id) for c in candidates)}]\n{lines}"


def keyword_prompt(
    keywords: Sequence[str],
    candidates: Sequence[KeywordCandidate],
    *,
    wanted: int = 15,
    shots: Sequence[tuple[Sequence[str], Sequence[KeywordCandidate], Sequence[int]]] = (),
    thing: str = "restaurant",
) -> str:
    """Return KALM4Rec's prompt: keywords, bracketed ids, ids with keywords, ids wanted; examples before it (few-shot).

    Parameters
    ----------
    shots
        (keywords, candidates, wanted order) of training users.
    """
    ask = (
        f"Order the {wanted} candidates that suit the user best. Use only ids of the list, no explanation: "
        "ids separated by commas."
    )
    parts = [f"You recommend {thing}s to users by keywords."]
    parts += [f"{_block(k, c)}\n{ask}\nAnswer: {', '.join(map(str, order[:wanted]))}" for k, c, order in shots]
    parts.append(f"{_block(keywords, candidates)}\n{ask}\nAnswer:")
    return "\n\n".join(parts)


def letter_prompt(query: str, candidates: Sequence[str], thing: str = "item") -> str:
    """Return a prompt whose next token's letter probabilities rank up to 26 candidates in one forward pass.

    Raises
    ------
    ValueError
        With more than 26 candidates.
    """
    if len(candidates) > len(LETTERS):
        raise ValueError(f"{len(candidates)} candidates, there are {len(LETTERS)} letters")
    lines = "\n".join(f"{letter}. {c}" for letter, c in zip(LETTERS, candidates, strict=False))
    return f"{query}\n\nWhich {thing} suits best?\n{lines}\n\nAnswer with one letter."

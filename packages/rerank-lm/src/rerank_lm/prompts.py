"""Prompts of all text judges, as pure functions from contents to a [`Prompt`][rerank_lm.backends.base.Prompt].

Candidates are shown with bracketed labels; brackets that a candidate itself brings (``[3]``) become round, so that no
passage can pose as another's label. What does not fit shrinks evenly, every candidate to the same number of words,
and the caller is told. The wording is ours; structures follow the papers named at each judge. Golden renderings lie
in ``shared/prompts``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rerank_lm.backends.base import Message, Prompt

_LABEL_LIKE = re.compile(r"[\[［【]\s*(\w{1,4})\s*[\]］】]")


def escape(text: str) -> str:
    """Turn label-like brackets of a candidate or query into round ones: ``[3]`` becomes ``(3)``."""
    return _LABEL_LIKE.sub(r"(\1)", text)


def shorten(text: str, words: int) -> str:
    """Keep the first ``words`` whitespace-separated words; text that is short enough stays as it is."""
    pieces = text.split()
    return text if len(pieces) <= words else " ".join(pieces[:words])


def fit(
    build: Callable[[Sequence[str]], Prompt],
    contents: Sequence[str],
    *,
    words: int,
    limit: int | None,
    count: Callable[[str], int],
) -> tuple[Prompt, bool]:
    """Build a prompt whose candidates have at most ``words`` words, fewer where the model's context asks for it.

    Parameters
    ----------
    limit
        Tokens the prompt may have; None where unknown.
    count
        Tokens of a text, asked only where the text has more bytes than the limit has tokens.

    Returns
    -------
    The prompt, and whether any candidate was cut.
    """
    longest = max((len(c.split()) for c in contents), default=0)

    def made(n: int) -> Prompt:
        return build([shorten(c, n) for c in contents])

    def fits(prompt: Prompt) -> bool:
        if limit is None:
            return True
        text = prompt.text
        # No byte-level tokenizer makes more tokens than bytes; the template's own tokens get a reserve of 64.
        return len(text.encode("utf-8", "replace")) + 64 <= limit or count(text) + 64 <= limit

    if limit is None or min(words, longest) <= limit:
        prompt = made(words)
        if fits(prompt):
            return prompt, longest > words
    # A word is at least a token, so no candidate can keep more words than the limit has tokens.
    low, high = 1, max(1, min(words, longest, limit or words))
    while low < high:  # the largest number of words that fits
        middle = (low + high + 1) // 2
        if fits(made(middle)):
            low = middle
        else:
            high = middle - 1
    return made(low), True


def listing(labels: Sequence[str], contents: Sequence[str], notes: Sequence[str] | None = None) -> str:
    """Return one line a candidate: ``[label] text``, with a note in front of the text where there is one."""
    lines = []
    for i, (label, content) in enumerate(zip(labels, contents, strict=True)):
        note = f"({notes[i]}) " if notes is not None and notes[i] else ""
        lines.append(f"[{label}] {note}{escape(content)}")
    return "\n".join(lines)


def yes_no(task: str, query: str, content: str) -> Prompt:
    """Ask whether one candidate fits. Instruction and query stand first, so that they are computed once a query."""
    return Prompt.user(
        f"{task}\n\nQuery: {query}\n\nCandidate: {content}\n\n"
        "Does the candidate answer the query? Reply with one word, Yes or No."
    )


def binary(task: str, query: str, content: str) -> Prompt:
    """Ask for ``1`` or ``0`` (ProRank)."""
    return Prompt.user(
        f"{task}\nReply with 1 if the document is relevant to the query and 0 if it is not.\n\n"
        f"query: {query}\n\ndocument: {content}"
    )


def graded(task: str, query: str, content: str, low: int, high: int, *, reasoning: bool) -> Prompt:
    """Ask for a whole-number grade (ERank)."""
    how = (
        f"Think inside <think></think>, then give the grade inside <answer></answer>, a whole number from {low} to {high}."
        if reasoning
        else f"Reply with a single whole number from {low} (useless) to {high} (perfect)."
    )
    return Prompt.user(f"{task}\n\nQuery: {query}\n\nCandidate: {content}\n\nHow well does it fit? {how}")


def query_likelihood(task: str, content: str) -> Prompt:
    """Ask for the query that a candidate answers; the true query's likelihood is the score."""
    return Prompt.user(f"{task}\n\nCandidate: {content}\n\nWrite the query that this candidate answers best.")


def pairwise(task: str, query: str, first: str, second: str) -> Prompt:
    """Ask which of two candidates is better (PRP)."""
    return Prompt.user(
        f"{task}\n\nQuery: {query}\n\nCandidate A: {first}\n\nCandidate B: {second}\n\n"
        "Which candidate is better for the query? Reply with one letter, A or B."
    )


def setwise(task: str, query: str, labels: Sequence[str], contents: Sequence[str], *, reasoning: bool) -> Prompt:
    """Ask for the label of the best candidate (Setwise; with reasoning, Rank-R1)."""
    how = (
        "First reason inside <think></think>, then give the one label inside <answer></answer>, like <answer>[1]</answer>."
        if reasoning
        else "Reply with its label only."
    )
    return Prompt.user(
        f"{task}\n\nQuery: {escape(query)}\n\n{listing(labels, contents)}\n\n"
        f"Which of the candidates above is the most relevant to the query? {how}"
    )


def first(task: str, query: str, labels: Sequence[str], contents: Sequence[str]) -> Prompt:
    """Ask for a ranking of letters that begins with the best one (FIRST); the answer starts with ``[``."""
    n = len(labels)
    asked = escape(query)
    return Prompt.user(
        f"{task}\nBelow are {n} candidates, each with a letter in brackets. Query: {asked}\n\n"
        f"{listing(labels, contents)}\n\nQuery: {asked}\n"
        f"Rank all {n} candidates from the most to the least relevant, by letter, in the form [B] > [A] > ...",
        prefill="[",
    )


def letters(task: str, query: str, labels: Sequence[str], contents: Sequence[str]) -> Prompt:
    """Ask for the letter of the most suitable candidate; all letters' probabilities are the ranking (KALM4Rec)."""
    return Prompt.user(
        f"{task}\n\n{escape(query)}\n\nCandidates:\n{listing(labels, contents)}\n\n"
        f"Reply with the letter of the most suitable candidate, one of {labels[0]} to {labels[-1]}."
    )


def permutation(
    task: str,
    query: str,
    labels: Sequence[str],
    contents: Sequence[str],
    *,
    reasoning: bool = False,
    turns: bool = False,
    notes: Sequence[str] | None = None,
) -> Prompt:
    """Ask for a whole ranking (RankGPT, RankZephyr; with reasoning, ReasonRank).

    ``turns`` hands the candidates over one message each (RankGPT, DeAR stage 2); ``notes`` puts each candidate's
    first-stage score in front of it (InsertRank).
    """
    n = len(labels)
    asked = escape(query)
    order = f"[{labels[-1]}] > [{labels[0]}] > ..." if n > 1 else f"[{labels[0]}]"
    if reasoning:
        how = (
            "Work out inside <think></think> what the query needs and which candidates give it, "
            f"then write the ranking inside <answer></answer> in the form {order}"
        )
    else:
        how = f"Write only the ranking, in the form {order}"
    extra = " The number before each text is its first-stage score; use it as a hint." if notes is not None else ""
    system = "You rank candidates by how well they serve a query."
    final = f"{task}\nQuery: {asked}\nRank all {n} candidates above, most relevant first.{extra} {how}."
    if not turns:
        return Prompt.user(f"Query: {asked}\n\n{listing(labels, contents, notes)}\n\n{final}", system=system)
    messages = [
        Message("system", system),
        Message("user", f"{n} candidates follow, each with a label in brackets. Query: {asked}"),
        Message("assistant", "Please send the candidates."),
    ]
    for i, (label, content) in enumerate(zip(labels, contents, strict=True)):
        note = None if notes is None else [notes[i]]
        messages.append(Message("user", listing([label], [content], note)))
        messages.append(Message("assistant", f"Candidate [{label}] received."))
    return Prompt((*messages, Message("user", final)))


def groupwise(task: str, query: str, contents: Sequence[str], low: int, high: int, *, reasoning: bool) -> Prompt:
    """Ask for one score a candidate of a group, as JSON (GroupRank)."""
    labels = [str(i + 1) for i in range(len(contents))]
    think = "Think inside <think></think> first. " if reasoning else ""
    return Prompt.user(
        f"{task}\n\nQuery: {escape(query)}\n\n{listing(labels, contents)}\n\n"
        f"{think}Score every candidate with a whole number from {low} to {high}, comparing them with each other. "
        'Reply with JSON only, like {"1": 7, "2": 3}.'
    )


def pseudo_query(task: str, query: str, contents: Sequence[str]) -> Prompt:
    """Query and first-stage documents as one text to embed (E2Rank)."""
    labels = [str(i + 1) for i in range(len(contents))]
    lines = "\n".join(f"[{k}] {c}" for k, c in zip(labels, contents, strict=True))
    return Prompt.user(f"{task}:\nDocuments:\n{lines}\nSearch Query: {query}")


def icr_context(contents: Sequence[str], labels: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return the paragraphs of an in-context-reranking prompt and each one's character span.

    The layout (intro, `` \\n\\n`` between paragraphs) is the method's own: scores are attention over these very tokens.
    """
    text, spans = " Here are some paragraphs:", []
    for label, content in zip(labels, contents, strict=True):
        text += " \n\n"
        start = len(text)
        text += f"[{label}] {content}"
        spans.append((start, len(text)))
    return text, spans


ICR_INSTRUCTIONS = {
    "find": "Please find information that are relevant to the following query in the paragraphs above.",
    "answer": "Please answer the following question based on the information in the paragraphs above.",
}
"""The two task sentences of in-context reranking; they are part of the published method (its query region)."""


def icr_suffix(query: str, instruction: str) -> str:
    """Return what follows the paragraphs: instruction and query, without the turn's end."""
    return f" \n\n{instruction} \n\nQuery: {query}"


def pair_scores(task: str, query: str, first: str, second: str, *, evidence_first: bool) -> Prompt:
    """Ask for a score from 1 to 10 for each of two answers (FairEval): evidence before the scores, or after."""
    lines = "Score of Assistant 1: <number>\nScore of Assistant 2: <number>"
    how = (
        f"First explain your comparison in a few sentences, without regard to the order. Then end with two lines:\n{lines}"
        if evidence_first
        else "Put the two numbers alone on the first line, separated by a space; then explain."
    )
    return Prompt.user(
        f"{task}\n\nQuestion: {query}\n\n<assistant 1>\n{first}\n</assistant 1>\n\n<assistant 2>\n{second}\n</assistant 2>\n\n"
        f"Score helpfulness, relevance, accuracy and detail of each from 1 to 10. {how}"
    )

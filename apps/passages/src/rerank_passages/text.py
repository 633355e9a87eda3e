"""Words and sentences of English text, for lexical matching."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

_WORD = re.compile(r"\w+", re.UNICODE)
# Ends of sentences; abbreviations and initials do not end one.
_END = re.compile(r"(?<=[.!?])([\"'”’)\]]*)\s+(?=[\"'“‘(\[]?[A-Z0-9])|()\n{2,}")
_NO_END = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|Sen|Rep|Gov|St|vs|etc|e\.g|i\.e|cf|Fig|al|No|Jr|Sr|Inc|U\.S)|\b[A-Z])\.$"
)


@lru_cache(maxsize=1 << 19)
def stem(word: str) -> str:
    """Return the Snowball (English) stem of a lower-case word."""
    return str(_stemmer().stemWord(word))


@lru_cache(maxsize=1)
def _stemmer() -> Any:
    import snowballstemmer

    return snowballstemmer.stemmer("english")


def words(text: str) -> list[str]:
    """Return lower-case words."""
    return _WORD.findall(text.lower())


def terms(text: str, stop: Iterable[str] = ()) -> list[str]:
    """Return stemmed words without stop words."""
    stopped = frozenset(stop)
    return [stem(w) for w in words(text) if w not in stopped]


def sentences(text: str) -> list[str]:
    """Split English text into sentences; never returns an empty one."""
    out: list[str] = []
    start = 0
    for match in _END.finditer(text):
        piece = text[start : match.end(match.lastindex or 0)].strip()
        if _NO_END.search(piece) and "\n\n" not in match.group():
            continue
        if piece:
            out.append(piece)
        start = match.end()
    rest = text[start:].strip()
    return [*out, rest] if rest else out


STOPWORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "if",
        "in",
        "into",
        "is",
        "it",
        "no",
        "not",
        "of",
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "will",
        "with",
    ]
)
"""Lucene's English stop words."""

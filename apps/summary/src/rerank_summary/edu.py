"""Elementary discourse units: clauses, the pieces that content plans choose from.

Papers use a neural segmenter (BiLSTM-CRF). Anything with ``segment(sentence) -> list of str`` fits here; the one
that ships is made of rules, needs no weights, and never loses or invents a character besides white space.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rerank_summary.text import sentences


class Segmenter(Protocol):
    """Cuts one sentence into clauses. Joined with spaces they give the sentence back, white space aside."""

    def segment(self, sentence: str) -> list[str]: ...


_CUES = re.compile(
    r"(?:(?<=[,;:–—])\s+(?=\S)"  # after inner punctuation, subject to the length rule and the cue rule below
    r"|\s+(?=(?:because|although|though|whereas|unless|in order to|so that|even if|even though)\b)"
    r"|\s+(?=(?:while|when|whenever|where|after|before|until|if|once)\s+\w+)"
    r"|\s+(?=\()|(?<=\))\s+)",
    re.IGNORECASE,
)
_AFTER_COMMA = re.compile(
    r"(?:and|but|or|nor|yet|so|because|although|though|while|whereas|unless|until|since|after|before|when|where|if|"
    r"once|as|which|who|whom|whose|that|then|thus|therefore|however|according|including|\w+ing|\w+ed|"
    r"he|she|it|they|we|you|i|there|this|these|those|the|an?)\b",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"^(?:and |or )?(?:the |an? )?[\w'-]+(?: [\w'-]+)?[,.]?$", re.IGNORECASE)


@dataclass(frozen=True)
class ClauseSegmenter:
    """Cuts at subordinators, at commas before a new clause, at semicolons, dashes and brackets.

    Parameters
    ----------
    minimum
        Fewest words of a unit; a shorter piece joins its neighbour.
    """

    minimum: int = 3

    def segment(self, sentence: str) -> list[str]:
        """Cut one sentence."""
        pieces: list[str] = []
        start = 0
        for match in _CUES.finditer(sentence):
            left, rest = sentence[start : match.start()].strip(), sentence[match.end() :]
            if left and self._cuts(left, rest):
                pieces.append(left)
                start = match.end()
        pieces.append(sentence[start:].strip())
        return self._joined([p for p in pieces if p])

    def _cuts(self, left: str, rest: str) -> bool:
        if left[-1] in ",:" and not _AFTER_COMMA.match(rest):
            return False
        return not (left[-1] == "," and _LIST_ITEM.match(rest.split(",")[0]))

    def _joined(self, pieces: list[str]) -> list[str]:
        out: list[str] = []
        for piece in pieces:
            if out and (len(piece.split()) < self.minimum or len(out[-1].split()) < self.minimum):
                out[-1] = f"{out[-1]} {piece}"
            else:
                out.append(piece)
        return out


@dataclass(frozen=True)
class Units:
    """A text cut into units.

    Parameters
    ----------
    texts
        The units in order.
    sentence
        The number of the sentence each comes from.
    """

    texts: tuple[str, ...]
    sentence: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def realise(self, plan: Sequence[int]) -> str:
        """Return the extract of a plan: its units in text order, each sentence started and ended properly."""
        parts: list[str] = []
        last = -1
        for index in sorted(plan):
            text, number = self.texts[index], self.sentence[index]
            if parts and number == last:
                parts[-1] = f"{parts[-1]} {text}"
            else:
                parts.append(text)
            last = number
        return " ".join(_finished(p) for p in parts)


def _finished(text: str) -> str:
    text = text.strip().rstrip(",;:–—- ")
    if text and text[-1] not in ".!?\"'”)":
        text += "."
    return text[:1].upper() + text[1:]


def units_of(text: str, segmenter: Segmenter | None = None, *, limit: int | None = None) -> Units:
    """Cut a text into units; without a segmenter whole sentences are the units."""
    texts: list[str] = []
    numbers: list[int] = []
    for number, sentence in enumerate(sentences(text)):
        for piece in segmenter.segment(sentence) if segmenter else [sentence]:
            texts.append(piece)
            numbers.append(number)
    return Units(tuple(texts[:limit]), tuple(numbers[:limit]))


def marked(units: Units, plan: Sequence[int] | None = None, begin: str = "<e>", end: str = "</e>") -> str:
    """Return the text with markers around its units, or only around those of a plan."""
    chosen = set(range(len(units)) if plan is None else plan)
    return " ".join(f"{begin} {t} {end}" if i in chosen else t for i, t in enumerate(units.texts))

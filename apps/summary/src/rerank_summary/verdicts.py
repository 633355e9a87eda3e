"""Reading a judge's reply: two scores, or an abstention that says why.

The parser of FairEval's released script takes whatever follows the last colon of the last two lines and gives up on a
trailing newline, ``9/10`` or a remark. This one tries the forms judges really use, from the most to the least
explicit, and never guesses: a reply that fits none is an abstention and is counted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

NUMBER = r"(\d{1,3}(?:\.\d+)?)"
_OUT_OF = r"(?:\s*(?:/|out of)\s*10\b)?"
_AFTER = r"(?![\d.]*\d|\(|\s*[-+*/=^]\s*\w)"  # not the start of a formula or of a longer number
_NAME = r"(?:assistant|answer|response|model|system)\s*#?\s*"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Scores of the first and second answer as shown, or None with the reason.

    Parameters
    ----------
    how
        Which form was found: ``first-line``, ``labelled``, ``last-lines``, ``sentence``, ``pair``, ``both``,
        ``letter``, or ``abstained``.
    reason
        Why nothing could be read.
    """

    scores: tuple[float, float] | None
    how: str
    reason: str = ""

    @property
    def outcome(self) -> str | None:
        """``win``, ``tie`` or ``lose`` of the first answer; None for an abstention."""
        if self.scores is None:
            return None
        a, b = self.scores
        return "win" if a > b else "lose" if a < b else "tie"


_FIRST_LINE = re.compile(rf"^\s*{NUMBER}{_OUT_OF}(?:\s*[,;]\s*|\s+){NUMBER}{_OUT_OF}\s*\.?\s*$")
_LABELLED = [
    re.compile(
        rf"{_NAME}{i}\b(?:['’]s)?(?:\s+(?:total|final|overall))?(?:\s+score)?\W{{0,6}}?\s*[:=]\s*\**\s*"
        rf"(?:score\s*[:=]?\s*)?{NUMBER}{_OUT_OF}{_AFTER}",
        re.IGNORECASE,
    )
    for i in (1, 2)
]
_SENTENCE = [
    re.compile(
        rf"{_NAME}{i}\b[^.\n]{{0,60}}?\b(?:score|rating|rate)\b(?:d)?\s*(?:of|is|as|:)?\s*(?:an?\s+)?{NUMBER}{_OUT_OF}{_AFTER}",
        re.IGNORECASE,
    )
    for i in (1, 2)
]
_PARAGRAPH = [
    re.compile(
        rf"^\W*{_NAME}{i}\b\W*:[^\n]*?\bscore\s+(?:is|of|:)\s*{NUMBER}{_OUT_OF}{_AFTER}", re.IGNORECASE | re.MULTILINE
    )
    for i in (1, 2)
]
_PAIR = re.compile(
    rf"\bscores?\b[^.\n]{{0,80}}?\b(?:are|is|of|:)\s*\(?\s*{NUMBER}{_OUT_OF}\s*(?:,|and|,\s*and)\s*{NUMBER}{_OUT_OF}\)?",
    re.IGNORECASE,
)
_BOTH = re.compile(
    rf"\bboth\b[^.\n]{{0,120}}?\b(?:a|score of|scores? of|rating of)\s+(?:score of\s+)?{NUMBER}(?:\s*(?:/|out of)\s*10)?"
    rf"(?=\s*(?:[.,;:]|$|out|for|/))",
    re.IGNORECASE,
)


def _last_pair(patterns: list[re.Pattern[str]], reply: str) -> tuple[float, float] | None:
    found = [p.findall(reply) for p in patterns]
    if not all(found):
        return None
    return float(found[0][-1]), float(found[1][-1])


def _first_line(reply: str) -> tuple[float, float] | None:
    match = _FIRST_LINE.match(reply.lstrip().split("\n", 1)[0])
    return (float(match[1]), float(match[2])) if match else None


def _last_lines(reply: str) -> tuple[float, float] | None:
    """Two last lines that each end in a number after a colon."""
    lines = [x for x in reply.splitlines() if x.strip()][-2:]
    values = [re.search(rf":\s*\**\s*{NUMBER}{_OUT_OF}\s*\**\s*\.?\s*$", x, re.IGNORECASE) for x in lines]
    if len(values) == 2 and values[0] and values[1]:
        return float(values[0][1]), float(values[1][1])
    return None


def _pair(reply: str) -> tuple[float, float] | None:
    found = _PAIR.findall(reply)
    return (float(found[-1][0]), float(found[-1][1])) if found else None


def _both(reply: str) -> tuple[float, float] | None:
    found = _BOTH.findall(reply)
    return (float(found[-1]), float(found[-1])) if found else None


_FORMS: tuple[tuple[str, Callable[[str], tuple[float, float] | None]], ...] = (
    ("first-line", _first_line),
    ("last-lines", _last_lines),
    ("labelled", lambda r: _last_pair(_LABELLED, r)),
    ("labelled", lambda r: _last_pair(_PARAGRAPH, r)),
    ("pair", _pair),
    ("sentence", lambda r: _last_pair(_SENTENCE, r)),
    ("both", _both),
)


def parse_scores(reply: str, *, low: float = 0.0, high: float = 10.0, strict: bool = False) -> Verdict:
    """Read two scores from a reply.

    Parameters
    ----------
    low, high
        Scores outside are not believed.
    strict
        Only the asked-for form: two numbers on the first line.
    """
    text = reply.replace("\r\n", "\n")
    if not text.strip():
        return Verdict(None, "abstained", "the reply is empty")
    outside = None
    for how, read in _FORMS[:1] if strict else _FORMS:
        scores = read(text)
        if scores is None:
            continue
        if all(math.isfinite(s) and low <= s <= high for s in scores):
            return Verdict(scores, how)
        outside = scores
    if outside is not None:
        return Verdict(
            None, "abstained", f"scores {outside[0]:g} and {outside[1]:g} are not within {low:g} to {high:g}"
        )
    if strict:
        return Verdict(None, "abstained", "the first line does not hold two scores")
    return Verdict(None, "abstained", "no two scores were found")


def official_fairevals_parse(reply: str) -> tuple[float, float]:
    """What FairEval's released script reads: the text after the last colon of the last two lines, (-1, -1) on failure."""
    try:
        first, second = reply.split("\n")[-2:]
        return float(first.split(":")[-1].strip()), float(second.split(":")[-1].strip())
    except ValueError:
        return -1.0, -1.0


_CHOICE = re.compile(r"^\W*(?:(?:answer|response|output|assistant)\s*)?(1|2|a|b|tie|both|equal)\b", re.IGNORECASE)


def parse_choice(reply: str | float | int) -> str | None:
    """Read a choice between two answers: ``win`` (the first), ``lose``, ``tie``, or None where there is none."""
    text = str(reply).strip()
    if text == "0":
        return "tie"
    match = _CHOICE.match(text)
    if not match:
        return None
    return {"1": "win", "a": "win", "2": "lose", "b": "lose"}.get(match[1].lower(), "tie")

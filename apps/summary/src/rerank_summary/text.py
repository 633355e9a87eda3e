"""Splitting text into sentences and words, by rules, with no data files."""

from __future__ import annotations

# ruff: noqa: SIM905 - word lists read better as text
import re

_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof sr jr st vs etc e.g i.e al fig eq vol pp inc ltd co corp dept gen col sgt capt lt gov sen "
    "rep rev hon jan feb mar apr jun jul aug sep sept oct nov dec approx est min max u.s u.k u.n a.m p.m".split()
)
_BOUNDARY = re.compile(r"([.!?]+[\"'”’)\]]*)\s+")
_SIMPLE = re.compile(r"(?<=[.!?]) +")
_WORD = re.compile(r"[^\W_]+(?:['’.\-][^\W_]+)*", re.UNICODE)
_PIECE = re.compile(r"[^\W_]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def sentences(text: str) -> list[str]:
    """Split running text into sentences.

    Newlines always separate. Inside a line a run of ``.!?`` (with closing quotes) followed by white space separates,
    unless the word before a single dot is an abbreviation or an initial, or the next character is a lower-case letter
    after an untokenised dot. Text whose full stops stand alone (`` . ``, as in tokenised corpora) is split at them.
    """
    found: list[str] = []
    for line in text.splitlines():
        start = 0
        for match in _BOUNDARY.finditer(line):
            if _ends_here(line, match):
                found.append(line[start : match.end(1)].strip())
                start = match.end()
        found.append(line[start:].strip())
    return [s for s in found if s]


def _ends_here(line: str, match: re.Match[str]) -> bool:
    stop, after = match.start(1), line[match.end() : match.end() + 1]
    if match.group(1)[0] != "." or len(match.group(1).rstrip("\"'”’)]")) > 1:
        return True
    if stop and line[stop - 1].isspace():  # tokenised full stop
        return True
    word = line[:stop].rsplit(None, 1)[-1].lower().lstrip("(\"'[") if line[:stop].strip() else ""
    if word in _ABBREVIATIONS or (len(word) == 1 and word.isalpha()):
        return False
    return not (after.islower() or (word == "no" and after.isdigit()))


def simple_sentences(text: str) -> list[str]:
    """Split after each ``.``, ``!`` or ``?`` that spaces follow: the rule under which published figures are compared."""
    return [s for line in text.split("\n") for s in _SIMPLE.split(line) if s]


def sentence_lines(text: str) -> str:
    """One sentence a line, as rougeLsum wants it: text that has newlines is left alone, else ``simple_sentences``."""
    return text if "\n" in text else "\n".join(simple_sentences(text))


def words(text: str) -> list[str]:
    """Lower-case words (letters and digits of any script), inner apostrophes, dots and hyphens kept."""
    return _WORD.findall(text.lower())


def numbers(text: str) -> frozenset[str]:
    """Numerals in the text, thousands separators removed."""
    return frozenset(n.replace(",", "") for n in _NUMBER.findall(text))


def pieces(text: str) -> frozenset[str]:
    """Lower-cased runs of letters and digits."""
    return frozenset(_PIECE.findall(text.lower()))


def capitalised(text: str) -> frozenset[str]:
    """Pieces of words that are capitalised inside a sentence: a cheap stand-in for named entities."""
    found = [t for s in simple_sentences(text) for t in s.split()[1:] if t.lstrip("\"'([“‘")[:1].isupper()]
    return frozenset(w for w in pieces(" ".join(found)) if len(w) > 1 and w not in STOP_WORDS)


STOP_WORDS = frozenset(
    "a about above after again against all am an and any are as at be because been before being below between both but "
    "by can cannot could did do does doing down during each few for from further had has have having he her here hers "
    "herself him himself his how i if in into is it its itself just me more most my myself no nor not now of off on "
    "once only or other our ours out over own s same she should so some such t than that the their theirs them then "
    "there these they this those through to too under until up very was we were what when where which while who whom "
    "why will with would you your yours".split()
)

"""The Porter stemmer with the departures that Python ROUGE uses, in plain Python.

Source: M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980. ``stem`` adds the departures known as
the NLTK extensions (irregular words, ``ies``/``ied`` after one letter, ``y`` only after a consonant, ``bli``,
``fulli``, ``logi``), because the reference implementation of ROUGE in Python stems that way and its figures are the
ones people compare with. ``original`` is Porter's published algorithm, which Perl ROUGE-1.5.5 follows.
"""

from __future__ import annotations

# ruff: noqa: SIM905 - word lists read better as text
import re
from collections.abc import Callable
from functools import lru_cache

_IRREGULAR = {
    "skies": "sky", "sky": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news", "innings": "inning",
    "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning", "canning": "canning",
    "howe": "howe", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
}  # fmt: skip
_STEP2 = (
    "ational:ate tional:tion enci:ence anci:ance izer:ize {bli} alli:al entli:ent eli:e ousli:ous ization:ize "
    "ation:ate ator:ate alism:al iveness:ive fulness:ful ousness:ous aliti:al iviti:ive biliti:ble"
)
_STEP3 = "icate:ic ative: alize:al iciti:ic ical:ic ful: ness:"
_STEP4 = "al ance ence er ic able ible ant ement ment ent ion ou ism ate iti ous ive ize".split()


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in (p.split(":") for p in text.split())]


_RULES2 = {
    True: [*_pairs(_STEP2.format(bli="bli:ble")), ("fulli", "ful"), ("logi", "log")],
    False: _pairs(_STEP2.format(bli="abli:able")),
}
_RULES3 = _pairs(_STEP3)


def _shape(word: str) -> str:
    """``c`` and ``v`` a letter: a y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape[-1:] == "c")
        shape += "v" if vowel else "c"
    return shape


def _measure(stem: str) -> int:
    return _shape(stem).count("vc")


def _ends_cvc(word: str, extended: bool) -> bool:
    shape = _shape(word)
    if extended and shape == "vc":
        return True
    return shape[-3:] == "cvc" and word[-1] not in "wxy"


def _first(word: str, rules: list[tuple[str, str]], holds: Callable[[str, str], bool]) -> str:
    """Apply the first rule whose suffix matches, or none where its condition fails."""
    for suffix, replacement in rules:
        if word.endswith(suffix):
            rest = word[: -len(suffix)]
            return rest + replacement if holds(rest, suffix) else word
    return word


def _step1a(w: str, extended: bool) -> str:
    if extended and len(w) == 4 and w.endswith("ies"):
        return w[:-1]
    return _first(w, [("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")], lambda rest, suffix: True)


def _step1b(w: str, extended: bool) -> str:
    if extended and w.endswith("ied"):
        return w[:-1] if len(w) == 4 else w[:-2]
    if w.endswith("eed"):
        return w[:-1] if _measure(w[:-3]) > 0 else w
    for suffix in ("ed", "ing"):
        if w.endswith(suffix) and "v" in _shape(w[: -len(suffix)]):
            return _mend(w[: -len(suffix)], extended)
    return w


def _mend(w: str, extended: bool) -> str:
    if w.endswith(("at", "bl", "iz")):
        return w + "e"
    if len(w) > 1 and w[-1] == w[-2] and _shape(w)[-1] == "c":
        return w if w[-1] in "lsz" else w[:-1]
    return w + "e" if _measure(w) == 1 and _ends_cvc(w, extended) else w


def _step1c(w: str, extended: bool) -> str:
    if not w.endswith("y"):
        return w
    shape = _shape(w[:-1])
    turns = len(shape) > 1 and shape[-1] == "c" if extended else "v" in shape
    return w[:-1] + "i" if turns else w


def _step2(w: str, extended: bool) -> str:
    if extended and w.endswith("alli") and _measure(w[:-4]) > 0:
        return _step2(w[:-2], extended)

    def holds(rest: str, suffix: str) -> bool:
        return _measure(rest + "l" if suffix == "logi" else rest) > 0

    return _first(w, _RULES2[extended], holds)


def _step4(w: str) -> str:
    def holds(rest: str, suffix: str) -> bool:
        return _measure(rest) > 1 and (suffix != "ion" or rest[-1] in "st")

    return _first(w, [(s, "") for s in _STEP4], holds)


def _step5(w: str, extended: bool) -> str:
    if w.endswith("e"):
        m = _measure(w[:-1])
        if m > 1 or (m == 1 and not _ends_cvc(w[:-1], extended)):
            w = w[:-1]
    return w[:-1] if w.endswith("ll") and _measure(w[:-1]) > 1 else w


def _stem(word: str, extended: bool) -> str:
    w = _step1a(word, extended)
    w = _step1b(w, extended)
    w = _step1c(w, extended)
    w = _step2(w, extended)
    w = _first(w, _RULES3, lambda rest, suffix: _measure(rest) > 0)
    return _step5(_step4(w), extended)


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Stem one lower-case word as Python ROUGE does (Porter with the NLTK extensions)."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    return word if len(word) <= 2 else _stem(word, True)


@lru_cache(maxsize=65536)
def original(word: str) -> str:
    """Stem one lower-case word by Porter's published algorithm."""
    return word if len(word) <= 2 else _stem(word, False)


_TOKEN = re.compile(r"[a-z0-9]+")


def rouge_tokens(text: str, stemmer: Callable[[str], str] | None) -> list[str]:
    """ROUGE's tokens: lower-cased runs of ASCII letters and digits; words of more than three letters are stemmed."""
    found = _TOKEN.findall(text.lower())
    return found if stemmer is None else [stemmer(w) if len(w) > 3 else w for w in found]

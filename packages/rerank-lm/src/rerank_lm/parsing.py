"""Reading rankings, labels, scores and grades out of what a language model wrote.

Nothing here raises on any text, and nothing here invents: what cannot be read is said so in the flags, and what is
missing keeps its first-stage place. `strict_rankllm` is RankLLM's parser (2026) to the letter, for comparisons;
[`parse_permutation`][] is ours and differs where that one is plainly wrong: prose digits, list numbering, decimals
and negatives are no ids, adjacent and lower-case letters are labels, unfinished reasoning is not an answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rerank_core.types import FloatArray, Status

Labels = Literal["numbers", "letters"]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _digit_table() -> dict[int, str]:
    table: dict[int, str] = {}
    for digit in range(10):
        table[ord("₀") + digit] = str(digit)
        table[ord("０") + digit] = str(digit)
    table.update({ord(c): str(d) for d, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")})
    for n in range(1, 21):
        table[ord("①") + n - 1] = str(n)
    for n in range(1, 11):
        table[ord("❶") + n - 1] = str(n)
    table[ord("⓪")] = "0"
    return table


_DIGITS = _digit_table()
_BRACKETS = {ord(a): b for a, b in zip("［］【】〔〕", "[][][]", strict=True)}
_LETTERS_WIDE = {ord("Ａ") + i: c for i, c in enumerate(LETTERS)} | {
    ord("ａ") + i: c.lower() for i, c in enumerate(LETTERS)
}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A permutation read from text.

    Parameters
    ----------
    permutation
        Positions, best first: always a permutation of ``range(n)``.
    status
        ``ok``, ``repaired`` (ids missing, doubled or out of range), ``truncated`` (the text was cut off and ids are
        missing) or ``fallback`` (no id could be read: first-stage order).
    flags
        What was wrong: ``missing``, ``duplicate``, ``out_of_range``, ``no_ids``, ``unfinished_reasoning``, ``cut``.
    found
        How many ids the text really gave.
    """

    permutation: tuple[int, ...]
    status: Status
    flags: tuple[str, ...] = ()
    found: int = 0


def strict_rankllm(text: str, n: int, *, labels: Labels = "numbers") -> list[int]:
    """Return the 0-based order that RankLLM reads from a text.

    After the last ``</think>``, digits in other scripts become ASCII, everything that is not a digit (letter)
    separates, the first occurrence of each id in range counts, missing ids follow in order; any failure gives the
    identity. Adjacent letters run together into one number there, so ``[BA]`` is lost.
    """
    try:
        text = text.rsplit("</think>", 1)[-1].translate(_DIGITS)
        if labels == "numbers":
            spaced = "".join(c if c.isdigit() else " " for c in text)
        else:
            spaced = "".join(str(ord(c) - 64) if c.isalpha() else " " for c in text)
        ids = [int(x) - 1 for x in spaced.split()]
    except ValueError:
        return list(range(n))
    return list(_complete(ids, n)[0])


def parse_permutation(
    text: str, n: int, *, labels: Labels = "numbers", cut: bool = False, official: bool = False
) -> Parsed:
    """Read an order of ``n`` candidates labelled 1..n or A.. from a text.

    Parameters
    ----------
    cut
        The model ran out of output tokens.
    official
        Read as RankLLM does ([`strict_rankllm`][]) and only add the status.
    """
    if official:
        order = strict_rankllm(text, n, labels=labels)
        return Parsed(tuple(order), parse_permutation(text, n, labels=labels, cut=cut).status, (), n)
    body = answer_part(text)
    if body is None:
        return Parsed(tuple(range(n)), Status.FALLBACK, ("unfinished_reasoning",))
    body = body.translate(_DIGITS).translate(_BRACKETS)
    if labels == "letters":
        body = body.translate(_LETTERS_WIDE)
    ids = _bracketed(body, n, labels)
    if not ids:
        ids = _bare_numbers(body) if labels == "numbers" else _bare_letters(body, n)
    order, flags = _complete(ids, n)
    found = len({i for i in ids if 0 <= i < n})
    if n == 0 or (n == 1 and not found):
        return Parsed(tuple(order), Status.OK, (), found)
    if not found:
        return Parsed(tuple(order), Status.FALLBACK, ("no_ids",) + (("cut",) if cut else ()))
    status = Status.REPAIRED if flags else Status.OK
    if cut and "missing" in flags:
        status, flags = Status.TRUNCATED, [*flags, "cut"]
    return Parsed(tuple(order), status, tuple(flags), found)


def answer_part(text: str) -> str | None:
    """Return what follows the reasoning, inside the last answer tags where there are any.

    None where reasoning began and never ended: whatever numbers it holds are no answer.
    """
    if "</think>" in text:
        text = text.rsplit("</think>", 1)[1]
    elif "<think>" in text:
        return None
    closed = re.findall(r"<answer>(.*?)</answer>", text, flags=re.DOTALL | re.IGNORECASE)
    if closed:
        return str(closed[-1])
    opened = re.split(r"<answer>", text, flags=re.IGNORECASE)
    return opened[-1]


def _complete(ids: Iterable[int], n: int) -> tuple[list[int], list[str]]:
    seen: dict[int, None] = {}
    flags: dict[str, None] = {}
    for i in ids:
        if not 0 <= i < n:
            flags["out_of_range"] = None
        elif i in seen:
            flags["duplicate"] = None
        else:
            seen[i] = None
    if len(seen) < n:
        flags["missing"] = None
    return [*seen, *(i for i in range(n) if i not in seen)], list(flags)


def _bracketed(text: str, n: int, labels: Labels) -> list[int]:
    ids: list[int] = []
    for content in re.findall(r"\[([^\[\]]{1,4000})\]", text):
        pieces = [p.strip("\"'`*() \t\r\n") for p in re.split(r"[,;>\s]+", content)]
        for piece in filter(None, pieces):
            ids += _piece(piece, n, labels)
    return ids


def _piece(piece: str, n: int, labels: Labels) -> list[int]:
    if labels == "numbers":
        number = _integer(piece)
        return [] if number is None else [number - 1]
    upper = piece.upper()
    if len(upper) == 1 and upper in LETTERS:
        return [LETTERS.index(upper)]
    inside = [LETTERS.find(c) for c in upper]
    if inside and all(0 <= i < n for i in inside) and len(set(inside)) == len(inside):
        return inside
    return []


def _integer(piece: str) -> int | None:
    if not piece.isdecimal() or len(piece) > 6:
        return None
    return int(piece)


def _bare_numbers(text: str) -> list[int]:
    chains = re.findall(r"\d+(?:\s*>\s*\d+)+", text)
    if chains:
        best = max(chains, key=len)
        return [int(x) - 1 for x in re.findall(r"\d+", best) if len(x) <= 6]
    numbered = re.findall(r"^\s*\d+[.):]\s+\D*?(\d+)\b", text, flags=re.MULTILINE)
    if len(numbered) >= 2:
        return [int(x) - 1 for x in numbered if len(x) <= 6]
    return [int(x) - 1 for x in re.findall(r"(?<![\w.\-])\d{1,6}(?![\w]|[.,]\d)", text)]


def _bare_letters(text: str, n: int) -> list[int]:
    last = LETTERS[min(n, 26) - 1] if n else "A"
    chains = re.findall(rf"\b[A-{last}a-{last.lower()}](?:\s*[>,]\s*[A-{last}a-{last.lower()}]\b)+", text)
    if chains:
        return [LETTERS.index(c.upper()) for c in re.findall(r"[A-Za-z]", max(chains, key=len))]
    runs = [r for r in re.findall(rf"\b[A-{last}]{{2,}}\b", text) if len(set(r)) == len(r)]
    if runs:
        return [LETTERS.index(c) for c in max(runs, key=len)]
    # A lone capital before a lower-case word is an article or a pronoun, not a label.
    return [LETTERS.index(c) for c in re.findall(r"\b([A-Z])\b(?!'|\s+[a-z])", text)]


def parse_label(text: str, n: int, *, labels: Labels = "letters") -> int:
    """Return the position of the one label an answer names, or -1.

    The first label of the answer counts; an answer that names none in range is unusable.
    """
    parsed = parse_permutation(text, n, labels=labels)
    return parsed.permutation[0] if parsed.found else -1


def parse_yes_no(text: str) -> float:
    """Return 1.0 for yes, 0.0 for no, NaN where the answer says neither (or both)."""
    body = answer_part(text)
    if body is None:
        return math.nan
    yes = re.search(r"\b(yes|true|relevant)\b", body, flags=re.IGNORECASE)
    no = re.search(r"\b(no|false|not relevant|irrelevant)\b", body, flags=re.IGNORECASE)
    if yes and no:
        return 1.0 if yes.start() < no.start() else 0.0
    return 1.0 if yes else 0.0 if no else math.nan


def parse_grade(text: str, low: float, high: float) -> float:
    """Return the last number of the answer that lies in ``[low, high]`` (``7/10`` counts as 7), or NaN."""
    body = answer_part(text)
    if body is None:
        return math.nan
    body = re.sub(r"(\d+(?:\.\d+)?)\s*/\s*\d+", r"\1", body.translate(_DIGITS))
    good = [v for v in _numbers(body) if low <= v <= high]
    return good[-1] if good else math.nan


def parse_scores(text: str, n: int, low: float, high: float) -> FloatArray:
    """Read one score for each of ``n`` candidates, shape (n,); all NaN unless exactly these are given.

    Accepts a JSON object (``{"[1]": 7, "2": 3}``), a JSON list in order, or lines ``[1]: 7``.
    """
    nothing = np.full(n, np.nan)
    body = answer_part(text)
    if body is None:
        return nothing
    body = body.translate(_DIGITS).translate(_BRACKETS)
    found = _json_scores(body, n)
    if found is None:
        pairs = re.findall(r"\[?\b(\d{1,6})\]?\s*[:=]\s*(-?\d+(?:\.\d+)?)", body)
        found = _keyed(((k, float(v)) for k, v in pairs), n)
    if found is None or np.any(found < low) or np.any(found > high):
        return nothing
    return found


def _json_scores(body: str, n: int) -> FloatArray | None:
    for opening, closing in (("{", "}"), ("[", "]")):
        start, end = body.find(opening), body.rfind(closing)
        if not 0 <= start < end:
            continue
        try:
            value = json.loads(body[start : end + 1])
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            inner = next((v for v in value.values() if isinstance(v, (dict, list))), None)
            value = inner if inner is not None else value
        if isinstance(value, dict):
            found = _keyed(((str(k), v) for k, v in value.items()), n)
            if found is not None:
                return found
        elif isinstance(value, list) and len(value) == n and all(_is_number(v) for v in value):
            return np.array(value, dtype=np.float64)
    return None


def _keyed(pairs: Iterable[tuple[str, object]], n: int) -> FloatArray | None:
    scores = np.full(n, np.nan)
    for key, value in pairs:
        number = _integer(re.sub(r"[\[\]\s]|passage|doc(ument)?|candidate", "", key, flags=re.IGNORECASE))
        if number is None or not 1 <= number <= n or not _is_number(value) or not np.isnan(scores[number - 1]):
            return None
        scores[number - 1] = float(value)  # type: ignore[arg-type]
    return None if np.isnan(scores).any() else scores


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"(?<![\w.])-?\d{1,9}(?:\.\d{1,9})?(?!\w)", text)]


@dataclass(frozen=True, slots=True)
class PairScores:
    """Two scores read from a judge's review; None with a reason where the judge abstained."""

    scores: tuple[float, float] | None
    reason: str = ""
    first_line: bool = False  # the scores stood in the first line, as was asked


_NUMBER = r"(?<![\w.])(\d{1,3}(?:\.\d+)?)(?:\s*/\s*\d+)?(?!\w)"
_TWO = re.compile(rf"^\W*{_NUMBER}\s*(?:[,;:|&/\s]|and|to|vs\.?)+\s*{_NUMBER}\W*$", flags=re.IGNORECASE)
_SCORE_OF = re.compile(
    r"(?:assistant|answer|response|model)\s*#?\s*([12AB])\b[^\n:=]{0,60}?(?:[:=]|scores?|receives?|gets?|rating)"
    rf"\W{{0,6}}{_NUMBER}",
    flags=re.IGNORECASE,
)
_SCORE_OF_REVERSED = re.compile(
    rf"scores? of (?:the )?(?:assistant|answer|response)\s*#?\s*([12AB])\W{{1,6}}{_NUMBER}", flags=re.IGNORECASE
)


_RESPECTIVELY = re.compile(
    rf"scores?\b[^\n.]{{0,60}}?\b(?:are|is|of)\s*\(?\s*{_NUMBER}\s*(?:,|and)\s*{_NUMBER}\s*\)?[^\n.]{{0,60}}?"
    r"(?:respectively|assistant\s*1 and assistant\s*2)",
    flags=re.IGNORECASE,
)
_BOTH = re.compile(
    rf"both (?:assistants|assistant 1 and assistant 2|answers)\b[^\n.]{{0,40}}?scores? of {_NUMBER}",
    flags=re.IGNORECASE,
)


def _in_prose(text: str, low: float, high: float) -> tuple[float, float] | None:
    """Read ``the scores are 4 and 9, respectively`` and ``both assistants a score of 7``; the last one counts."""
    found = [(m.end(), float(m.group(1)), float(m.group(2))) for m in _RESPECTIVELY.finditer(text)]
    found += [(m.end(), float(m.group(1)), float(m.group(1))) for m in _BOTH.finditer(text)]
    good = [(a, b) for _, a, b in sorted(found) if low <= a <= high and low <= b <= high]
    return good[-1] if good else None


def parse_pair_scores(text: str, *, low: float = 0.0, high: float = 10.0) -> PairScores:
    """Read the two scores of a review of two answers (FairEval, MT-bench style).

    In this order: two numbers alone in the first line; a line for each assistant (the last of each counts);
    two numbers alone in a later line; two lines that end in ``: number``; a sentence that gives both. Anything else
    is an abstention with a reason.
    """
    if not text.strip():
        return PairScores(None, "empty review")
    lines = [line for line in text.strip().splitlines() if line.strip()]
    found = _two_numbers(lines[0], low, high)
    if found:
        return PairScores(found, first_line=True)
    named: dict[str, float] = {}
    for pattern in (_SCORE_OF, _SCORE_OF_REVERSED):
        for which, number in pattern.findall(text):
            if low <= float(number) <= high:
                named[{"A": "1", "B": "2"}.get(which.upper(), which)] = float(number)
    if {"1", "2"} <= named.keys():
        return PairScores((named["1"], named["2"]))
    for line in reversed(lines):
        found = _two_numbers(line, low, high)
        if found:
            return PairScores(found)
    tails = [re.search(rf":\s*{_NUMBER}\s*$", line) for line in lines[-2:]]
    if len(tails) == 2 and all(tails):
        a, b = (float(t.group(1)) for t in tails if t is not None)
        if low <= a <= high and low <= b <= high:
            return PairScores((a, b))
    found = _in_prose(text, low, high)
    if found:
        return PairScores(found)
    return PairScores(None, "no line with two scores" if _numbers(text) else "no number in the review")


def parse_pair_scores_official(text: str) -> tuple[float, float]:
    """Return what FairEval's released script reads: the text after the last colon of the last two lines; -1 on failure."""
    lines = text.split("\n")
    try:
        first, second = lines[-2].rsplit(":", 1)[-1], lines[-1].rsplit(":", 1)[-1]
        return float(first), float(second)
    except (ValueError, IndexError):
        return -1.0, -1.0


def _two_numbers(line: str, low: float, high: float) -> tuple[float, float] | None:
    match = _TWO.match(line.strip())
    if not match:
        return None
    a, b = float(match.group(1)), float(match.group(2))
    return (a, b) if low <= a <= high and low <= b <= high else None


def parse_image_order_official(text: str, n: int) -> list[int]:
    """Return the order that MM-R5's released code reads, doubles and all (the list can be longer than ``n``).

    First ``<answer>[...]</answer>``, split on commas; one entry that is no number gives the identity; out of range
    is dropped, missing ids follow in ascending order.
    """
    match = re.search(r"<answer>\s*\[(.*?)\]\s*</answer>", text, flags=re.DOTALL)
    if not match:
        return list(range(n))
    try:
        ids = [int(x) - 1 for x in match.group(1).split(",")]
    except ValueError:
        return list(range(n))
    kept = [i for i in ids if 0 <= i < n]
    return kept + [i for i in range(n) if i not in kept]


def label_names(n: int, labels: Labels) -> Sequence[str]:
    """Return the labels of ``n`` candidates: ``1..n`` or ``A..``.

    Raises
    ------
    ValueError
        When there are more candidates than letters.
    """
    if labels == "numbers":
        return [str(i + 1) for i in range(n)]
    if n > len(LETTERS):
        raise ValueError(f"{n} candidates cannot be labelled with {len(LETTERS)} letters; use a window of 26 or less")
    return list(LETTERS[:n])

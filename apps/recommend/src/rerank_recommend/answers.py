"""Language-model answers as lists of entries, whatever form they come in.

Accepted: numbered or bulleted titles, bare lines, one comma-separated line, JSON arrays (also cut off in the middle),
integer ids, letters; code fences, preambles and trailing remarks are ignored. Parsing never fails: rubbish gives an
empty list, which the strategies answer with the expert's own order.
"""

from __future__ import annotations

import json
import re
from typing import Any

_FENCE = re.compile(r"```[a-zA-Z]*\n?|```")
_NUMBERED = re.compile(r"^\s*(?:\*\*)?\s*(\d{1,3})\s*[.):、\]]\s*[-–]?\s*(.*)$")
_INLINE = re.compile(r"(?:(?<=\s)|^)\d{1,2}[.)]\s+")
_BULLET = re.compile(r"^\s*[-*•·–—]\s+(.*)$")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_TITLE_KEYS = ("title", "name", "movie", "item", "id")
_QUOTES = "\"'“”‘’«»„`*_ \t"
_LETTER = re.compile(r"(?<![A-Za-z])([A-Z])(?![A-Za-z'’])")
_INTEGER = re.compile(r"\d+")
MAX_ENTRY = 300


def parse_entries(answer: str) -> list[str]:
    """Return the entries of an answer in its order, without numbers, bullets, quotes and mark-up; repeats stay."""
    text = _FENCE.sub("\n", answer).strip()
    entries = _from_json(text)
    if entries is None:
        entries = _from_lines(text)
    cleaned = (_clean(e) for e in entries)
    return [e for e in cleaned if e and len(e) <= MAX_ENTRY]


def _from_json(text: str) -> list[str] | None:
    """Return the entries of the first JSON array; complete strings only where it was cut off; None where none is."""
    start = text.find("[")
    if start < 0 or text[start + 1 : start + 200].lstrip()[:1] not in {'"', "{", "]"}:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text[start:])
    except (json.JSONDecodeError, RecursionError):
        found = [m.group(0) for m in _STRING.finditer(text[start:])]
        strings = [s for s in map(_loads_string, found) if s is not None]
        return [s for s in strings if s.lower() not in _TITLE_KEYS]
    return [e for e in map(_entry, value if isinstance(value, list) else []) if e is not None]


def _loads_string(quoted: str) -> str | None:
    try:
        return str(json.loads(quoted))
    except json.JSONDecodeError:
        return None


def _entry(value: Any) -> str | None:
    if isinstance(value, dict):
        value = next((value[k] for k in _TITLE_KEYS if isinstance(value.get(k), str | int)), None)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)


def _from_lines(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if line.strip()]
    numbered = [m.group(2) for m in map(_NUMBERED.match, lines) if m]
    if len(numbered) >= 2:
        return numbered
    if len(lines) == 1 or len(numbered) == 1:
        for line in lines:
            parts = [p.strip(" ,;") for p in _INLINE.split(line)]
            if len(parts) > 2:
                return parts[1:]
    if numbered:
        return numbered
    bulleted = [m.group(1) for m in map(_BULLET.match, lines) if m]
    if bulleted:
        return bulleted
    if len(lines) == 1 and "," in lines[0]:
        return re.split(r"\s*,\s*(?:and\s+)?", lines[0])
    return lines


def _clean(entry: str) -> str:
    return " ".join(entry.replace("**", "").strip(_QUOTES).rstrip(".,;").split()).strip(_QUOTES)


def parse_integers(answer: str) -> list[int]:
    """Return the integer ids of an answer in its order (KALM4Rec's form); "12." is 12, "1 2" stays two ids."""
    lines = answer.strip().splitlines()
    if len(lines) > 1 and sum(bool(_NUMBERED.match(line)) for line in lines) > len(lines) // 2:
        answer = "\n".join(m.group(2) or m.group(1) for m in map(_NUMBERED.match, lines) if m)
    return [int(n) for n in _INTEGER.findall(answer) if len(n) < 10]


def parse_letters(answer: str) -> list[str]:
    """Return single capital letters of an answer in its order."""
    return _LETTER.findall(answer)

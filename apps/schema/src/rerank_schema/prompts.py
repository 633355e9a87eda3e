"""What a language model is asked, and how its answer is read.

Three ways to ask:

``score``
    Magneto's (PVLDB 18(8), section 5.2): one source column, its candidates, a score for each.
``table``
    ReMatch's (arXiv 2403.01567): one source table, the attributes of the few target tables retrieved for it, ranked
    targets for every attribute.
``choice``
    Matchmaker's confidence step (ICML 2025, arXiv 2410.24105): one source column, its candidates under letters and
    "none of the above", a confidence for each.

The texts are ours. Names an answer invents are dropped, names it leaves out get no score; both are counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rerank_schema.tables import Column

STYLES = ("score", "table", "choice")
NONE = "none of the above"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SAMPLES = 10
SYSTEM = "You match columns of database tables. Answer with JSON only."


@dataclass(frozen=True)
class Reading:
    """An answer, read.

    Parameters
    ----------
    scores
        Candidate position -> score in [0, 1].
    none
        Confidence that no candidate is right, where it was asked for.
    invented, missing
        Names that are no candidate; candidates without a score.
    """

    scores: Mapping[int, float]
    none: float | None = None
    invented: int = 0
    missing: int = 0


def line(column: Column, *, samples: int = SAMPLES) -> str:
    """Return a column as one line: qualified name, type, key, description, sample values (if it has any)."""
    parts = [f"{column.table}.{column.name}" if column.table else column.name]
    for word, text in (("type", column.declared_type), ("key", column.key), ("description", column.description)):
        if text:
            parts.append(f"{word}: {_short(text, 200)}")
    if column.values and samples:
        parts.append("values: " + json.dumps([_short(v, 40) for v in column.samples(samples)], ensure_ascii=False))
    return " | ".join(parts)


def _short(text: str, limit: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit] + "…"


def ask_scores(source: Column, candidates: Sequence[Column]) -> str:
    """Ask for a score of every candidate of one source column."""
    listed = "\n".join(f"{i}. {line(c)}" for i, c in enumerate(candidates, start=1))
    return (
        "How likely does each candidate column hold the same information as the source column? 1.00 means certainly, "
        f"0.00 certainly not.\n\nSource column:\n{line(source)}\n\nCandidates:\n{listed}\n\n"
        'Answer with a JSON list that holds every candidate number once: [{"candidate": 1, "score": 0.00}, ...]'
    )


def ask_choice(source: Column, candidates: Sequence[Column]) -> str:
    """Ask which candidate matches, "none of the above" included, with a confidence for each option."""
    options = [f"{LETTERS[i]}. {line(c)}" for i, c in enumerate(candidates)]
    options.append(f"{LETTERS[len(candidates)]}. {NONE}")
    listed = "\n".join(options)
    return (
        "Which option holds the same information as the source column? Give each option a confidence from 0 to 100; "
        f"they need not add up.\n\nSource column:\n{line(source)}\n\nOptions:\n{listed}\n\n"
        'Answer with a JSON object from option letters to confidences: {"A": 0, ...}'
    )


def ask_table(sources: Sequence[Column], candidates: Sequence[Column], k: int = 5) -> str:
    """Ask for the ``k`` best targets of every column of one source table."""
    table = _short(sources[0].table_description, 300)
    left = "\n".join(f"s{i}. {line(c, samples=3)}" for i, c in enumerate(sources, start=1))
    right = "\n".join(f"t{i}. {line(c, samples=3)}" for i, c in enumerate(candidates, start=1))
    about = f" ({table})" if table else ""
    return (
        f"For every source column of the table {sources[0].table}{about}, name up to {k} target columns that hold the "
        f"same information, best first; an empty list where none does.\n\nSource columns:\n{left}\n\n"
        f"Target columns:\n{right}\n\nAnswer with a JSON object: " + '{"s1": ["t3", "t7"], "s2": [], ...}'
    )


def read_scores(text: str, candidates: Sequence[Column]) -> Reading | None:
    """Read an answer to `ask_scores`; a candidate may be named by number or by name. None where nothing is usable."""
    entries = _json(text, list)
    if entries is None:
        return None
    scores: dict[int, float] = {}
    invented = 0
    for entry in entries:
        if not isinstance(entry, dict):
            continue
        place = _place(entry.get("candidate", entry.get("column", entry.get("name"))), candidates)
        score = _number(entry.get("score"))
        if place is None:
            invented += 1
        elif score is not None:
            scores.setdefault(place, min(1.0, max(0.0, score)))
    return Reading(scores, None, invented, len(candidates) - len(scores)) if scores else None


def read_choice(text: str, candidates: Sequence[Column]) -> Reading | None:
    """Read an answer to `ask_choice`."""
    entries = _json(text, dict)
    if entries is None:
        return None
    scores: dict[int, float] = {}
    none, invented = None, 0
    for option, value in entries.items():
        score = _number(value)
        letter = str(option).strip().rstrip(".").upper()
        place = LETTERS.find(letter) if len(letter) == 1 else -1
        if score is None or not 0 <= place <= len(candidates):
            invented += 1
        elif place == len(candidates):
            none = min(1.0, max(0.0, score / 100))
        else:
            scores.setdefault(place, min(1.0, max(0.0, score / 100)))
    return Reading(scores, none, invented, len(candidates) - len(scores)) if scores or none is not None else None


def read_table(text: str, n_sources: int, n_targets: int) -> dict[int, list[int]] | None:
    """Read an answer to `ask_table`: source position -> target positions, best first; unknown names are dropped."""
    entries = _json(text, dict)
    if entries is None:
        return None
    out: dict[int, list[int]] = {}
    for name, targets in entries.items():
        source = _index(name, "s", n_sources)
        if source is None or not isinstance(targets, list):
            continue
        places = [_index(t, "t", n_targets) for t in targets]
        out.setdefault(source, list(dict.fromkeys(p for p in places if p is not None)))
    return out or None


def _index(name: Any, sign: str, n: int) -> int | None:
    found = re.fullmatch(rf"{sign}?(\d{{1,6}})", str(name).strip().lower())
    return int(found[1]) - 1 if found and 1 <= int(found[1]) <= n else None


def _place(name: Any, candidates: Sequence[Column]) -> int | None:
    if isinstance(name, bool) or name is None:
        return None
    text = str(name).strip()
    if text.isdigit() and len(text) < 7:
        return int(text) - 1 if 1 <= int(text) <= len(candidates) else None
    wanted = text.lower()
    for i, c in enumerate(candidates):
        if wanted in (c.name.lower(), f"{c.table}.{c.name}".lower()):
            return i
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(str(value).strip().rstrip("%"))
    except ValueError:
        return None
    return number if number == number and abs(number) != float("inf") else None


def _json(text: str, kind: type) -> Any | None:
    """Return the last JSON value of the kind in a text, whatever stands around it."""
    text = text.rsplit("</think>", 1)[-1]
    opening = "[" if kind is list else "{"
    decoder = json.JSONDecoder()
    found, at = None, text.find(opening)
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            at = text.find(opening, at + 1)
            continue
        if isinstance(value, kind) and value:
            found = value
        at = text.find(opening, end)
    return found

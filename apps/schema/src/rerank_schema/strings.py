"""Magneto's optional string-similarity strategy (magneto-python 0.2.0)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

ALIGN_THRESHOLD = 0.95
RATIO_THRESHOLD = 0.6


def equal_form(header: str) -> str:
    """Return the form in which Magneto compares headers for equality."""
    return re.sub(r"[^a-zA-Z0-9]", " ", header.strip().lower())


def without_common_prefix(headers: Sequence[str]) -> list[str]:
    """Remove the prefix all headers share, wherever it occurs in them (the original's replace)."""
    together = takewhile(lambda letters: len(set(letters)) == 1, zip(*headers, strict=False))
    prefix = "".join(letters[0] for letters in together) if len(headers) > 1 else ""
    return [h.replace(prefix, "") if prefix else h for h in headers]


def alignment(a: str, b: str) -> float:
    """Share of the shorter name's letters found in order in the longer one, each at most two places after the last."""
    a, b = (re.sub(r"[^a-z0-9]", "", x.lower()) for x in (a, b))
    short, long = sorted((a, b), key=len)
    if not short or len(long) > 2 * len(short):
        return 0.0
    last, matched = -1, 0
    for letter in short:
        place = long.find(letter, last + 1)
        if place >= 0 and (last < 0 or place - last <= 2):
            last, matched = place, matched + 1
    return matched / len(short)


def string_matches(sources: Sequence[str], targets: Sequence[str]) -> dict[tuple[int, int], float]:
    """Return the pairs whose names align (>= 0.95) or are alike (ratio >= 0.6); the ratio wins where both hold."""
    from rapidfuzz import fuzz

    left, right = without_common_prefix(sources), without_common_prefix(targets)
    found: dict[tuple[int, int], float] = {}
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            if (aligned := alignment(a, b)) >= ALIGN_THRESHOLD:
                found[i, j] = aligned
            if (ratio := fuzz.ratio(a, b) / 100) >= RATIO_THRESHOLD:
                found[i, j] = ratio
    return found

"""Extraction, grounding and settings of He et al. (CIKM 2023), reproduced for comparison.

Source: "Large language models as zero-shot conversational recommenders"; where paper and repository
(AaronHeee/LLMs-as-Zero-Shot-Conversational-RecSys) differ we follow the repository. Known weaknesses, kept here on
purpose and mended in [`rerank_recommend.grounding`][]: names of persons and genres count as titles, years are cut
off, and "300" is taken for "31" because they are two edits apart. One departure: the official nearest name is the
minimum over an unordered set and changes between runs where several names are equally near; here an item wins over
another entity, then the smaller row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rerank_recommend.data import Catalogue

MAX_EDITS = 2
_BRACKETS = re.compile(r"\([^)]*\)")
_SPACES = re.compile(r"\s+")
_NUMBER = re.compile(r"^\d+[.)、]\s*-?\s*")


class Match(NamedTuple):
    """A line of an answer, the nearest entity name and their Levenshtein distance in lower case."""

    text: str
    name: str
    edits: int


@dataclass(frozen=True, slots=True)
class Setting:
    """One of the four settings: drop names further than two edits away, drop names mentioned before."""

    filtered: bool
    exclude_seen: bool

    @property
    def name(self) -> str:
        """A to D, as the paper's repository counts them."""
        return {(0, 0): "A", (0, 1): "B", (1, 0): "C", (1, 1): "D"}[int(self.filtered), int(self.exclude_seen)]


SETTINGS = (Setting(True, True), Setting(True, False), Setting(False, True), Setting(False, False))


def extract(answer: str) -> list[str]:
    """Cut an answer into titles the official way."""
    if "1." in answer:
        answer = "1." + answer.split("1.", 1)[1]
    else:
        answer = answer.replace(",", "\n")
    lines = []
    for line in answer.split("\n"):
        line = _SPACES.sub(" ", _BRACKETS.sub("", line.strip()))
        lines.append(_NUMBER.sub("", line).strip())
    return lines


def nearest(texts: Sequence[str], names: Sequence[str]) -> list[Match]:
    """Return the nearest name of each text by Levenshtein distance in lower case; ties go to the earlier name."""
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cdist

    if not texts:
        return []
    unique = list(dict.fromkeys(t.lower() for t in texts))
    lowered = [n.lower() for n in names]
    found: dict[str, tuple[str, int]] = {}
    for start in range(0, len(unique), 256):
        part = unique[start : start + 256]
        edits = cdist(part, lowered, scorer=Levenshtein.distance, dtype=np.uint16, workers=1)
        best = edits.argmin(axis=1)
        found.update({t: (names[b], int(row[b])) for t, b, row in zip(part, best, edits, strict=True)})
    return [Match(t, *found[t.lower()]) for t in texts]


def names_of(catalogue: Catalogue) -> list[str]:
    """Return all distinct entity names, items first, in row order: what the official program compares with."""
    return list(catalogue.rows_by_name)


def ground_answers(answers: Mapping[str, str], catalogue: Catalogue) -> dict[str, list[Match]]:
    """Extract and match every answer (turn id -> text) in one pass."""
    lines = {i: extract(a) for i, a in answers.items()}
    flat = nearest([t for ts in lines.values() for t in ts], names_of(catalogue))
    grounded, at = {}, 0
    for i, texts in lines.items():
        grounded[i] = flat[at : at + len(texts)]
        at += len(texts)
    return grounded


def ranked_names(matches: Sequence[Match], seen: Sequence[str], setting: Setting) -> list[str]:
    """Return the names an answer recommends under a setting, best first; repeats stay, as in the official program."""
    gone = set(seen) if setting.exclude_seen else set()
    return [m.name for m in matches if (not setting.filtered or m.edits <= MAX_EDITS) and m.name not in gone]

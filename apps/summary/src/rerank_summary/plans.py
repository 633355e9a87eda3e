"""Content plans over units: oracle plans from a reference, and plans by salience without one.

Source of the oracle: G. Adams et al., "Generating EDU Extracts for Plan-Guided Summary Re-Ranking", ACL 2023, with the
n-gram *set* F1 of its released code (greedy selection as in Liu and Lapata 2019): characters besides ASCII letters,
digits and spaces are dropped, and case counts in ``official`` mode, since that code takes lower-casing for done.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rerank_core.types import FloatArray
from rerank_summary.centrality import idf, lexrank, tfidf
from rerank_summary.edu import Units
from rerank_summary.text import words

_CLEAN = re.compile(r"[^a-zA-Z0-9 ]")


@dataclass(frozen=True)
class SetNgrams:
    """Unigram and bigram sets of a text."""

    one: frozenset[tuple[str, ...]]
    two: frozenset[tuple[str, ...]]

    def __or__(self, other: SetNgrams) -> SetNgrams:
        return SetNgrams(self.one | other.one, self.two | other.two)


def set_ngrams(text: str, *, official: bool = True) -> SetNgrams:
    """Cut a text into n-gram sets; ``official`` keeps case."""
    tokens = _CLEAN.sub("", text if official else text.lower()).split()
    return SetNgrams(frozenset((t,) for t in tokens), frozenset(pairwise(tokens)))


def set_f1(a: SetNgrams, b: SetNgrams) -> tuple[float, float]:
    """Unigram and bigram set F1, ``2pr / (p + r + 1e-8)`` as released."""
    return _f1(a.one, b.one), _f1(a.two, b.two)


def _f1(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    hits = len(a & b)
    p, r = (hits / len(a) if a else 0.0), (hits / len(b) if b else 0.0)
    return 2 * p * r / (p + r + 1e-8)


def greedy_plan(
    units: Sequence[str], reference: str, *, limit: int = 21, official: bool = True
) -> tuple[tuple[int, ...], tuple[float, float]]:
    """The ``gain`` plan: add the unit that raises R1 + R2 of the selection most, stop when none does.

    Returns
    -------
    Sorted unit indices, and the selection's (R1, R2).
    """
    pieces, goal = [set_ngrams(u, official=official) for u in units], set_ngrams(reference, official=official)
    chosen: list[int] = []
    current, best, value = SetNgrams(frozenset(), frozenset()), 0.0, (0.0, 0.0)
    for _ in range(limit):
        pick = -1
        for i, piece in enumerate(pieces):
            if i in chosen:
                continue
            scores = set_f1(current | piece, goal)
            if sum(scores) > best:
                pick, best, value = i, sum(scores), scores
        if pick < 0:
            break
        chosen.append(pick)
        current = current | pieces[pick]
    return tuple(sorted(chosen)), value


def aligned_plan(
    units: Sequence[str], targets: Sequence[str], *, official: bool = True
) -> tuple[tuple[int, ...], FloatArray]:
    """The ``align`` plan: for each target unit the source unit with the highest (R1 + R2) / 2.

    Returns
    -------
    The sorted set of those source units, and each source unit's soft label (its best score against any target unit),
    shape (n_units,).
    """
    pieces = [set_ngrams(u, official=official) for u in units]
    soft = np.zeros(len(pieces))
    chosen = set()
    for target in targets:
        goal = set_ngrams(target, official=official)
        scores = np.array([sum(set_f1(p, goal)) / 2 for p in pieces])
        if len(scores):
            chosen.add(int(scores.argmax()))
            soft = np.maximum(soft, scores)
    return tuple(sorted(chosen)), soft


def oracle_plan(
    units: Sequence[str], targets: Sequence[str], *, limit: int = 21, official: bool = True
) -> tuple[tuple[int, ...], FloatArray]:
    """Whichever of the two plans has the higher R1 + R2 against the whole reference, with the soft labels."""
    reference = " ".join(targets)
    gain, scores = greedy_plan(units, reference, limit=limit, official=official)
    align, soft = aligned_plan(units, targets, official=official)
    goal = set_ngrams(reference, official=official)
    union = SetNgrams(frozenset(), frozenset())
    for i in align:
        union = union | set_ngrams(units[i], official=official)
    return (align if sum(set_f1(union, goal)) > sum(scores) else gain), soft


def unit_salience(units: Units, *, position_decay: float = 0.05) -> FloatArray:
    """How central each unit is (LexRank over units, mean 1) times ``exp(-decay x sentence number)``."""
    tokens = [words(t) for t in units.texts]
    if not tokens:
        return np.zeros(0)
    vectors = tfidf(tokens, idf(tokens))
    central = lexrank(vectors @ vectors.T) * len(tokens)
    return central * np.exp(-position_decay * np.array(units.sentence, dtype=np.float64))


def beam_plans(
    salience: FloatArray,
    similarity: FloatArray,
    *,
    beams: int = 16,
    shortest: int = 1,
    longest: int = 4,
    redundancy: float = 1.0,
    length_penalty: float = 1.0,
) -> list[tuple[int, ...]]:
    """The best strictly increasing plans by salience, all different: beam search over unit indices.

    A plan's score is (sum of salience - redundancy x sum of pairwise similarities) / length ** length_penalty.

    Parameters
    ----------
    salience
        Shape (n_units,).
    similarity
        Cosines, shape (n_units, n_units).

    Returns
    -------
    At most ``beams`` plans, best first.
    """
    n = len(salience)
    alive: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    done: list[tuple[float, tuple[int, ...]]] = []
    for length in range(1, min(longest, n) + 1):
        grown = []
        for score, plan in alive:
            for i in range(plan[-1] + 1 if plan else 0, n):
                overlap = float(similarity[i, list(plan)].sum()) if plan else 0.0
                grown.append((score + float(salience[i]) - redundancy * overlap, (*plan, i)))
        alive = sorted(grown, key=lambda x: (-x[0], x[1]))[: 4 * beams]
        if length >= min(shortest, n):
            done += [(score / length**length_penalty, plan) for score, plan in alive]
    return [plan for _, plan in sorted(done, key=lambda x: (-x[0], x[1]))[:beams]]


def salient_plans(units: Units, *, beams: int = 16, shortest: int = 1, longest: int = 4) -> list[tuple[int, ...]]:
    """Plans of a text by salience alone; needs neither weights nor a reference."""
    if not len(units):
        return []
    tokens = [words(t) for t in units.texts]
    vectors = tfidf(tokens, idf(tokens))
    salience = unit_salience(units)
    return beam_plans(salience, vectors @ vectors.T, beams=beams, shortest=shortest, longest=longest)

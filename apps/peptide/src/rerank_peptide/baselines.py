"""The naive rerankers that every learned one has to beat: score, votes, mass, mass filter, and a hand-made rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from scipy.stats import rankdata

from rerank_core.types import FloatArray
from rerank_peptide.data import PeptideRequest
from rerank_peptide.features import BASE_NAMES, precursor_error, spectrum_features


def by_score(requests: Sequence[PeptideRequest]) -> list[FloatArray]:
    """The engine's own score; with several engines each score becomes its quantile in its engine, and the best counts."""
    return [r.first_stage() for r in requests]


def by_votes(requests: Sequence[PeptideRequest]) -> list[FloatArray]:
    """How many engines put the candidate first, then how many propose it, ties by score quantile."""
    out = []
    for r in requests:
        first = r.first_stage()
        order = rankdata(first) / max(len(first), 1)
        tops = [sum(v == 1 for k, v in c.features.items() if k.startswith("rank:")) for c in r.candidates]
        votes = [sum(k.startswith("rank:") for k in c.features) for c in r.candidates]
        out.append(np.array(tops) * 100.0 + np.array(votes) + order * 0.99)
    return out


def by_mass(requests: Sequence[PeptideRequest]) -> list[FloatArray]:
    """The closest precursor mass, isotope 0 or 1."""
    return [np.array([-precursor_error(r.query, c.content)[0] for c in r.candidates]) for r in requests]


def by_mass_filter(requests: Sequence[PeptideRequest], ppm: float = 20.0) -> list[FloatArray]:
    """The engine's score among candidates within 20 ppm; the others follow in score order."""
    out = []
    for r in requests:
        score = r.first_stage()
        fits = np.array([precursor_error(r.query, c.content)[0] <= ppm for c in r.candidates], dtype=bool)
        span = float(np.ptp(score)) if score.size else 0.0
        out.append(score + fits * (span + 1.0))
    return out


HAND: Final = {"pcc_log": 1.0, "coverage": 2.0, "explained": 1.0}
"""Weights of the hand-made rule: intensity correlation + 2 x site coverage + explained intensity."""


def by_hand(requests: Sequence[PeptideRequest]) -> list[FloatArray]:
    """Intensity correlation + 2 x site coverage + explained intensity."""
    return by_weights(requests, HAND)


def by_weights(requests: Sequence[PeptideRequest], weights: dict[str, float]) -> list[FloatArray]:
    """A weighted sum of named fragment features."""
    columns = [BASE_NAMES.index(n) for n in weights]
    w = np.array(list(weights.values()))
    return [
        spectrum_features(r.query, [c.content for c in r.candidates])[:, columns] @ w if r.candidates else np.empty(0)
        for r in requests
    ]

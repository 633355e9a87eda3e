"""What a spectrum says of every bond of a peptide: the axial network's extra inputs, compiled.

RankNovo shows its decoder peaks and masses and lets attention find out which peak belongs to which bond. Learning
that alone takes millions of spectra. Here each bond brings its own fragment ions along: seen or not, how strong, how far
off, how strong they were predicted, and how much the peaks look like such ions. The network keeps its attention to the
raw spectrum for everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rerank_core.types import FloatArray
from rerank_peptide import intensity, peaks
from rerank_peptide.features import BASE_NAMES, spectrum_features
from rerank_peptide.fragments import ion_window
from rerank_peptide.masses import AMMONIA, CARBON_MONOXIDE, ISOTOPE, PROTON, WATER, is_terminal, residue_masses
from rerank_peptide.peaks import nearest
from rerank_peptide.spectra import Spectrum

IONS: Final = ("b", "y", "b2", "y2")
SITE_NAMES: Final = (
    *(f"{ion}.{what}" for ion in IONS for what in ("seen", "strength", "rank", "error", "predicted", "odds", "shared")),
    "a", "b-water", "b-ammonia", "b-isotope", "y-water", "y-ammonia", "y-isotope", "crowd_b", "crowd_y",
)  # fmt: skip
"""Columns of a bond."""

N_SITE: Final = len(SITE_NAMES)
N_SUMMARY: Final = len(BASE_NAMES)


@njit(cache=True, nogil=True)
def _strength(mz, logi, x, tolerance):
    j = nearest(mz, x, ion_window(x, tolerance))
    return 0.0 if j < 0 else logi[j]


@njit(cache=True, nogil=True)
def _sites(mz, logi, rank, odds, masses, charge, predicted, tolerance, proton, water, ammonia, co, isotope, out):
    n = mz.size
    sites = masses.size - 1
    total = masses.sum()
    series = 4 if charge >= 3 else 2
    claims = np.zeros(n, np.int16)
    place = np.full((sites, 4), -1, np.int64)
    prefix = 0.0
    for i in range(sites):
        prefix += masses[i]
        b = prefix + proton
        y = total - prefix + water + proton
        for c in range(series):
            x = b if c == 0 else y if c == 1 else (b + proton) / 2 if c == 2 else (y + proton) / 2
            f = out[i, 7 * c : 7 * c + 7]
            f[4] = max(1.0 + np.log10(predicted[i, c] + 1e-4) / 4.0, 0.0)
            window = ion_window(x, tolerance)
            j = nearest(mz, x, window)
            if j < 0:
                continue
            place[i, c] = j
            claims[j] += 1
            f[0] = 1.0
            f[1] = logi[j]
            f[2] = 1.0 - rank[j] / n
            f[3] = (mz[j] - x) / window
            f[5] = min(max(odds[j, c] / 4.0, -2.0), 2.0)
        out[i, 28] = _strength(mz, logi, b - co, tolerance)
        out[i, 29] = _strength(mz, logi, b - water, tolerance)
        out[i, 30] = _strength(mz, logi, b - ammonia, tolerance)
        out[i, 31] = _strength(mz, logi, b + isotope, tolerance)
        out[i, 32] = _strength(mz, logi, y - water, tolerance)
        out[i, 33] = _strength(mz, logi, y - ammonia, tolerance)
        out[i, 34] = _strength(mz, logi, y + isotope, tolerance)
        out[i, 35] = np.log1p(np.searchsorted(mz, b + 30.0) - np.searchsorted(mz, b - 30.0)) / 3.0
        out[i, 36] = np.log1p(np.searchsorted(mz, y + 30.0) - np.searchsorted(mz, y - 30.0)) / 3.0
    for i in range(sites):
        for c in range(series):
            if place[i, c] >= 0 and claims[place[i, c]] > 1:
                out[i, 7 * c + 6] = 1.0


@njit(cache=True, nogil=True)
def _all_sites(mz, intensity, odds, flat, starts, charge, predicted, rows, tolerance, width, proton, water, ammonia, co,
               isotope):  # fmt: skip
    logi = np.maximum(1.0 + np.log10(intensity / intensity.max()) / 4.0, 0.05)
    order = np.argsort(-intensity)
    rank = np.empty(mz.size)
    for r in range(mz.size):
        rank[order[r]] = r
    out = np.zeros((rows[-1], width), np.float32)
    for p in range(starts.size - 1):
        masses = flat[starts[p] : starts[p + 1]]
        if masses.size > 1:
            _sites(mz, logi, rank, odds, masses, charge, predicted[rows[p] : rows[p + 1]], tolerance, proton, water,
                   ammonia, co, isotope, out[rows[p] : rows[p + 1]])  # fmt: skip
    return out


def evidence(
    spectrum: Spectrum,
    peptides: Sequence[Sequence[str]],
    predicted: Sequence[NDArray] | None = None,
    *,
    tolerance: float = 0.02,
) -> tuple[list[NDArray[np.float32]], FloatArray]:
    """Describe every token's bond to the next one, and every candidate as a whole.

    Parameters
    ----------
    peptides
        Candidates of one spectrum as tokens; terminal modifications are tokens of their own.
    predicted
        Predicted intensities a candidate, shape (n_sites, 4); None takes the packaged network's.

    Returns
    -------
    One array a candidate, shape (n_tokens, 37), columns as in ``SITE_NAMES`` (zeros where a token is a terminal
    modification or the last residue); and the features of `features.spectrum_features`, shape (n_candidates, 44).
    """
    if predicted is None:
        predicted = intensity.packaged()([intensity.encode(p) for p in peptides], [spectrum.charge] * len(peptides))
    residues = [residue_masses(p) for p in peptides]
    sizes = np.array([r.size for r in residues], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = np.concatenate([[0], np.cumsum(np.maximum(sizes - 1, 0))]).astype(np.int64)
    odds = peaks.packaged()(spectrum, tolerance).astype(np.float64)
    flat = _all_sites(
        spectrum.mz, spectrum.intensity, odds, np.concatenate(residues), starts, spectrum.charge,
        np.concatenate(list(predicted)).astype(np.float64).reshape(-1, 4), rows, tolerance, N_SITE, PROTON, WATER,
        AMMONIA, CARBON_MONOXIDE, ISOTOPE,
    )  # fmt: skip
    out = []
    for k, tokens in enumerate(peptides):
        table = np.zeros((len(tokens), N_SITE), np.float32)
        head = int(is_terminal(tokens[0]))
        sites = flat[rows[k] : rows[k + 1]]
        table[head : head + len(sites)] = sites
        out.append(table)
    return out, spectrum_features(spectrum, peptides, predicted, tolerance=tolerance, odds=odds)

"""Simulated, annotated HCD spectra from peptides, for training where no labelled spectra may be had.

Fragment intensities come from the packaged intensity network (or ms2pip); a, loss, immonium, isotope, internal and
precursor ions, noise, co-isolated peptides and measurement errors come on top. How complete and how noisy a spectrum
is, is drawn from what 353 public HCD spectra of three sources show: site coverage, explained intensity and peak
count follow their deciles (with their rank correlations), so that the three marginal distributions are realistic by
construction and a reranker learns at the difficulty it will meet.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from scipy.special import ndtr

from rerank_core.types import FloatArray
from rerank_peptide.intensity import encode, ms2pip_intensities, packaged
from rerank_peptide.masses import (
    AMMONIA,
    CARBON_MONOXIDE,
    ISOTOPE,
    PROTON,
    WATER,
    parse_peptide,
    peptide_mass,
    residue_masses,
)
from rerank_peptide.proteins import digest, modify
from rerank_peptide.spectra import Spectrum

# Deciles (0, 10, ..., 100 %) measured on the training spectra named in docs/peptide.md.
COVERAGE: Final = np.array([0.267, 0.588, 0.692, 0.765, 0.832, 0.867, 0.89, 0.917, 0.97, 1.0, 1.0])
EXPLAINED: Final = np.array([0.017, 0.178, 0.217, 0.249, 0.279, 0.303, 0.33, 0.372, 0.426, 0.482, 0.694])
PEAKS: Final = np.array([20.0, 33.0, 45.0, 55.0, 66.0, 84.0, 113.0, 139.0, 183.0, 270.0, 713.0])
_CORRELATION: Final = np.array([[1.0, 0.18, 0.55], [0.18, 1.0, -0.14], [0.55, -0.14, 1.0]])


@dataclass(frozen=True)
class SimulationParams:
    """How spectra are made.

    Parameters
    ----------
    intensity
        ``"packaged"`` network or ``"ms2pip"`` (extra).
    spread
        Standard deviation of the natural logarithm of intensity noise.
    ppm
        Standard deviation of a peak's m/z error; each spectrum has an offset of half that on top.
    rounded
        Share of spectra whose m/z are rounded to 0.01, as in some public libraries.
    precursor_ppm
        Standard deviation of the precursor's error.
    isotope
        Share of spectra whose precursor is the first isotope.
    chimeric
        Share of spectra with another peptide's fragments in them.
    """

    intensity: Literal["packaged", "ms2pip"] = "packaged"
    spread: float = 0.6
    ppm: float = 3.5
    rounded: float = 0.15
    precursor_ppm: float = 2.5
    isotope: float = 0.03
    chimeric: float = 0.15


def choose_charge(letters: str, rng: np.random.Generator) -> int:
    """Draw a precursor charge: 2 mostly, 3 and 4 for long and basic peptides."""
    basic = sum(r in "KRH" for r in letters) + 1
    p3 = min(0.75, max(0.0, 0.05 * (len(letters) - 9) + 0.12 * (basic - 2)))
    if rng.random() >= p3 or len(letters) < 8:
        return 2
    return 4 if basic >= 4 and rng.random() < 0.35 else 3


def simulate(
    peptides: Sequence[str], *, seed: int = 0, params: SimulationParams | None = None, first_index: int = 0
) -> tuple[list[Spectrum], dict[str, str]]:
    """Simulate one spectrum a peptide.

    Parameters
    ----------
    peptides
        Peptide texts with modifications.

    Returns
    -------
    Spectra in the order of the peptides, and labels by spectrum id.
    """
    params = params or SimulationParams()
    rng = np.random.default_rng(seed)
    tokens = [parse_peptide(p) for p in peptides]
    charges = [choose_charge("".join(t[0] for t in ts if t[0].isalpha()), rng) for ts in tokens]
    predicted = _predict(tokens, charges, params)
    spectra, labels = [], {}
    for i, (text, ts, charge, rates) in enumerate(zip(peptides, tokens, charges, predicted, strict=True)):
        other = int(rng.integers(len(peptides))) if rng.random() < params.chimeric else None
        guest = None if other is None or other == i else (residue_masses(tokens[other]), predicted[other])
        mz, intensity = _peaks(residue_masses(ts), rates, charge, guest, rng, params)
        mass = peptide_mass(ts) * (1 + rng.normal(0, params.precursor_ppm) * 1e-6)
        if rng.random() < params.isotope:
            mass += ISOTOPE
        spectrum = Spectrum(
            first_index + i, f"simulated:{first_index + i}", mz, intensity, mass / charge + PROTON, charge
        )
        spectra.append(spectrum)
        labels[spectrum.id] = text
    return spectra, labels


def _predict(tokens: Sequence[tuple[str, ...]], charges: Sequence[int], params: SimulationParams) -> list[Any]:
    network = packaged()([encode(t) for t in tokens], charges)
    if params.intensity == "packaged":
        return list(network)
    exact = ms2pip_intensities(tokens, charges)
    return [n if e is None else e for n, e in zip(network, exact, strict=True)]


def _targets(rng: np.random.Generator) -> tuple[float, float, int]:
    z = rng.multivariate_normal(np.zeros(3), _CORRELATION, method="cholesky")
    at = ndtr(z) * 10
    steps = np.arange(11)
    return (
        float(np.interp(at[0], steps, COVERAGE)),
        float(np.interp(at[1], steps, EXPLAINED)),
        int(np.exp(np.interp(at[2], steps, np.log(PEAKS)))),
    )


def _backbone(masses: FloatArray, rates: FloatArray, charge: int) -> tuple[FloatArray, FloatArray, np.ndarray]:
    prefix = np.cumsum(masses)[:-1]
    total = masses.sum()
    b, y = prefix + PROTON, total - prefix + WATER + PROTON
    ions = [b, y] + ([(b + PROTON) / 2, (y + PROTON) / 2] if charge >= 3 else [])
    sites = np.tile(np.arange(prefix.size), len(ions))
    return np.concatenate(ions), rates[:, : len(ions)].T.ravel().astype(np.float64), sites


def _peaks(
    masses: FloatArray,
    rates: FloatArray,
    charge: int,
    guest: tuple[FloatArray, FloatArray] | None,
    rng: np.random.Generator,
    params: SimulationParams,
) -> tuple[FloatArray, FloatArray]:
    coverage, explained, count = _targets(rng)
    mz, strength, sites = _backbone(masses, rates, charge)
    strength = (strength + 2e-4) * np.exp(rng.normal(0, params.spread, strength.size))
    # Low m/z is rarely recorded: most instruments start near 100.
    strength[mz < rng.uniform(60, 135)] *= 0.02
    best = np.zeros(masses.size - 1)
    np.maximum.at(best, sites, strength)
    keep = max(1, round(coverage * best.size))
    threshold = np.sort(best)[::-1][keep - 1]
    kept = strength >= threshold
    mz, strength, is_b = mz[kept], strength[kept], (np.flatnonzero(kept) // best.size) % 2 == 0
    width = np.flatnonzero(kept) // best.size // 2 + 1
    side_mz, side = _side_ions(masses, mz, strength, is_b, width, charge, rng)
    # Side ions below the detection limit go, a few stay.
    seen = side > threshold * rng.uniform(0.15, 0.9, side.size)
    side_mz, side = side_mz[seen], side[seen]
    budget = strength.sum() * (1 - explained) / explained
    if side.sum() > 0.8 * budget:
        side *= 0.8 * budget / side.sum()
    noise_mz, noise = _noise(max(count - mz.size - side.size, 5), masses.sum(), guest, rng)
    noise *= max(budget - side.sum(), 0.1 * budget) / noise.sum()
    mz = np.concatenate([mz, side_mz, noise_mz])
    intensity = np.concatenate([strength, side, noise])
    above = intensity > 0.6 * min(noise.min(), strength.min())
    mz, intensity = mz[above], intensity[above]
    mz = mz * (1 + (rng.normal(0, params.ppm, mz.size) + rng.normal(0, params.ppm / 2)) * 1e-6)
    if rng.random() < params.rounded:
        mz = np.round(mz, 2)
    order = np.argsort(mz)
    mz, first = np.unique(mz[order], return_index=True)
    return mz, np.round(intensity[order][first] / intensity.max(), 6) + 1e-6


def _side_ions(
    masses: FloatArray,
    mz: FloatArray,
    strength: FloatArray,
    is_b: np.ndarray,
    width: np.ndarray,
    charge: int,
    rng: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Return m/z and intensity of isotopes, a ions, losses, immonium, internal and precursor ions."""
    n = mz.size
    top = strength.max()
    out_mz = [mz + ISOTOPE / width]
    out = [strength * np.minimum(mz * width / 1800, 1.2) * rng.uniform(0.4, 1.1, n)]
    b = is_b & (width == 1)
    out_mz.append(mz[b] - CARBON_MONOXIDE)
    out.append(strength[b] * rng.lognormal(-1.2, 0.8, b.sum()))
    for loss in (WATER, AMMONIA):
        out_mz.append(mz - loss / width)
        out.append(strength * rng.lognormal(-2.2, 0.8, n))
    immonium = np.unique(masses) - CARBON_MONOXIDE + PROTON
    out_mz.append(immonium)
    out.append(top * rng.lognormal(-3.0, 1.0, immonium.size) * (immonium > 100))
    total = masses.sum() + WATER
    precursor = (np.array([total, total + ISOTOPE, total - WATER, total - AMMONIA]) + charge * PROTON) / charge
    out_mz.append(precursor)
    out.append(top * rng.lognormal(-3.4, 1.2, 4))
    if masses.size > 5:
        starts = rng.integers(1, masses.size - 3, 14)
        lengths = rng.integers(2, 5, 14)
        inside = [masses[s : min(s + k, masses.size - 1)].sum() + PROTON for s, k in zip(starts, lengths, strict=True)]
        out_mz.append(np.array(inside))
        out.append(top * rng.lognormal(-2.9, 0.8, 14))
    return np.concatenate(out_mz), np.concatenate(out)


def _noise(
    n: int, residue_mass: float, guest: tuple[FloatArray, FloatArray] | None, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Return m/z and unscaled intensity of noise: most of it below the precursor's m/z, on peptide-like masses."""
    top = residue_mass + WATER
    mz = 100 + (min(top, 2400.0) - 100) * rng.beta(1.3, 2.8, n)
    # Fragments of peptides cluster near 1.00048 times an integer; electronic noise does not.
    peptide_like = rng.random(n) < 0.8
    mz = np.where(peptide_like, np.round(mz) * 1.00048 + rng.normal(0, 0.05, n), mz)
    # A detection limit cuts the low end off: exponential above a floor, in logarithms.
    intensity = np.exp(rng.exponential(0.55, n))
    if guest is not None:
        ions, strength, _ = _backbone(*guest, 2)
        chosen = np.argsort(-strength)[: min(n, 8)]
        at = np.arange(chosen.size)
        mz[at], intensity[at] = ions[chosen], np.exp(0.5 + rng.exponential(0.5, chosen.size))
    return mz, intensity


def simulate_proteome(
    proteins: Sequence[tuple[str, str]],
    n: int,
    *,
    seed: int = 0,
    params: SimulationParams | None = None,
    batch: int = 2000,
) -> Iterator[tuple[list[Spectrum], dict[str, str], list[str]]]:
    """Digest proteins and simulate ``n`` spectra in batches.

    Yields
    ------
    Spectra, labels, and the protein of each spectrum: the group that a split must not cut.
    """
    pairs = digest(proteins)
    if not pairs:
        return
    rng = random.Random(seed)
    chosen = [pairs[i] for i in rng.sample(range(len(pairs)), len(pairs))]
    while len(chosen) < n:
        chosen += chosen[: n - len(chosen)]
    chosen = chosen[:n]
    for start in range(0, n, batch):
        part = chosen[start : start + batch]
        texts = modify([p for p, _ in part], rng)
        spectra, labels = simulate(texts, seed=seed * 1_000_003 + start, params=params, first_index=start)
        yield spectra, labels, [owner for _, owner in part]

"""What a peak is: the probability that it is a b or y ion, singly or doubly charged.

A peak is described by its intensity, its place and its company (complement, isotopes, losses, a ion, neighbours one
residue away); a small network turns that into four probabilities. The idea of node scores learned from the company a
peak keeps is PepNovo's (Frank & Pevzner, Anal. Chem. 2005); features and network here are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rerank_core.types import FloatArray
from rerank_peptide.masses import AMMONIA, CARBON_MONOXIDE, ISOTOPE, PROTON, RESIDUES, WATER
from rerank_peptide.spectra import Spectrum

N_FEATURES: Final = 32
_STEPS: Final = np.unique(np.array([m + (57.021464 if r == "C" else 0.0) for r, m in RESIDUES.items()] + [147.0354]))


@njit(cache=True, nogil=True)
def nearest(mz, x, tolerance):
    """Return the index of the peak nearest to ``x`` within the tolerance, or -1."""
    j = np.searchsorted(mz, x)
    best = -1
    error = tolerance
    if j < mz.size and mz[j] - x <= error:
        best = j
        error = mz[j] - x
    if j > 0 and x - mz[j - 1] <= error:
        best = j - 1
    return best


@njit(cache=True, nogil=True)
def _company(mz, logi, x, tolerance):
    k = nearest(mz, x, tolerance)
    return -1.0 if k < 0 else logi[k]


@njit(cache=True, nogil=True)
def _features(mz, intensity, mass, charge, tolerance, steps, water, ammonia, co, isotope, proton):
    n = mz.size
    out = np.zeros((n, 32), dtype=np.float32)
    # Log intensity mapped to 0..1 over four decades: -1 stands for 'no such peak'.
    logi = np.maximum(1.0 + np.log10(intensity / intensity.max()) / 4.0, 0.0)
    order = np.argsort(-intensity)
    rank = np.empty(n)
    for r in range(n):
        rank[order[r]] = r
    precursor = mass / charge + proton
    for i in range(n):
        m = mz[i]
        f = out[i]
        f[0] = logi[i]
        f[1] = rank[i] / n
        f[2] = np.log1p(rank[i]) / 5
        lo = np.searchsorted(mz, m - 56.0)
        hi = np.searchsorted(mz, m + 56.0)
        higher = 0
        for k in range(lo, hi):
            if intensity[k] > intensity[i]:
                higher += 1
        f[3] = np.log1p(higher) / 3
        f[4] = m / mass
        f[5] = m / precursor - 1
        f[6] = _company(mz, logi, mass + 2 * proton - m, tolerance)
        f[7] = _company(mz, logi, (mass + 3 * proton - m) / 2, tolerance)
        f[8] = _company(mz, logi, mass + 3 * proton - 2 * m, tolerance)
        f[9] = _company(mz, logi, m + isotope, tolerance)
        f[10] = _company(mz, logi, m - isotope, tolerance)
        f[11] = _company(mz, logi, m + isotope / 2, tolerance)
        f[12] = _company(mz, logi, m - isotope / 2, tolerance)
        f[13] = _company(mz, logi, m - water, tolerance)
        f[14] = _company(mz, logi, m - ammonia, tolerance)
        f[15] = _company(mz, logi, m - co, tolerance)
        f[16] = _company(mz, logi, m + water, tolerance)
        f[17] = _company(mz, logi, m + ammonia, tolerance)
        f[18] = _company(mz, logi, m + co, tolerance)
        f[19] = _company(mz, logi, m - water / 2, tolerance)
        f[20] = _company(mz, logi, m - ammonia / 2, tolerance)
        up = 0.0
        down = 0.0
        up2 = 0.0
        for s in steps:
            a = _company(mz, logi, m + s, tolerance)
            b = _company(mz, logi, m - s, tolerance)
            c = _company(mz, logi, m + s / 2, tolerance)
            up = max(up, a)
            down = max(down, b)
            up2 = max(up2, c)
        f[21] = up
        f[22] = down
        f[23] = up2
        # Complement of a neighbour: the other series one residue further.
        f[24] = _company(mz, logi, 2 * m - proton, tolerance)
        f[25] = 1.0 if abs(m - precursor) < 2.0 / charge else 0.0
        f[26] = abs(m - np.round(m / 1.00048) * 1.00048) * 4
        f[27] = mass / 2000
        f[28] = np.log(n) / 6
        f[29] = 1.0 if charge == 2 else 0.0
        f[30] = 1.0 if charge == 3 else 0.0
        f[31] = m / 1000
    return out


def peak_features(spectrum: Spectrum, tolerance: float = 0.02) -> NDArray[np.float32]:
    """Describe every peak, shape (n_peaks, 32)."""
    return _features(
        spectrum.mz, spectrum.intensity, spectrum.mass, spectrum.charge, tolerance, _STEPS,
        WATER, AMMONIA, CARBON_MONOXIDE, ISOTOPE, PROTON,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _labels(mz, masses, tolerance, proton, water):
    out = np.zeros((mz.size, 4), dtype=np.float32)
    total = masses.sum()
    prefix = 0.0
    for i in range(masses.size - 1):
        prefix += masses[i]
        b = prefix + proton
        y = total - prefix + water + proton
        for k, x in enumerate((b, y, (b + proton) / 2, (y + proton) / 2)):
            j = nearest(mz, x, tolerance)
            if j >= 0:
                out[j, k] = 1.0
    return out


def peak_labels(spectrum: Spectrum, residues: FloatArray, tolerance: float = 0.02) -> NDArray[np.float32]:
    """Which peaks are b+, y+, b2+, y2+ of a peptide with these residue masses, shape (n_peaks, 4)."""
    labels = _labels(spectrum.mz, residues, tolerance, PROTON, WATER)
    if spectrum.charge < 3:
        labels[:, 2:] = 0
    return labels


@dataclass(frozen=True)
class PeakModel:
    """Two hidden layers on standardised features; weights (32, h), (h, h2), (h2, 4) and biases."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    w1: NDArray[np.float32]
    b1: NDArray[np.float32]
    w2: NDArray[np.float32]
    b2: NDArray[np.float32]
    w3: NDArray[np.float32]
    b3: NDArray[np.float32]

    @classmethod
    def load(cls, path: str | Path) -> PeakModel:
        """Read the safetensors file."""
        from safetensors.numpy import load_file

        return cls(**load_file(str(path)))

    def __call__(self, spectrum: Spectrum, tolerance: float = 0.02) -> NDArray[np.float32]:
        """Return log-odds that each peak is b+, y+, b2+, y2+, shape (n_peaks, 4)."""
        x = (peak_features(spectrum, tolerance) - self.mean) / self.scale
        x = np.maximum(x @ self.w1 + self.b1, 0)
        x = np.maximum(x @ self.w2 + self.b2, 0)
        return np.asarray(x @ self.w3 + self.b3, dtype=np.float32)


@lru_cache(maxsize=1)
def packaged() -> PeakModel:
    """Load the network that ships with the package."""
    with resources.as_file(resources.files("rerank_peptide") / "weights" / "peaks.safetensors") as path:
        return PeakModel.load(path)

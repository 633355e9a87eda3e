"""How far apart two peptides are: PMD, RMD and amino-acid matches, compiled.

PMD and RMD are RankNovo's labels (arXiv 2505.17552; where text and ``BEAM-Labs/denovo`` differ, as in the indices of
its equation 7, the code is followed). Amino-acid matching is the DeepNovo/Casanovo algorithm with its two
tolerances, and ProteoBench's ppm variant of it. All functions take residue *token* masses, terminal modifications
being tokens of their own, and hold to 1e-9 against those programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from rerank_core.types import FloatArray
from rerank_peptide.masses import masses_of

UNIT = 51.4238
"""Da; what a gap costs, and what masses are divided by (RankNovo)."""

Mode = Literal["best", "forward", "backward"]


@njit(cache=True, nogil=True)
def _pmd(q, t, unit):
    n = t.size
    previous = np.arange(n + 1).astype(np.float64)
    current = np.empty(n + 1)
    for i in range(q.size):
        current[0] = i + 1
        for j in range(n):
            best = previous[j] + abs(q[i] - t[j]) / unit
            best = min(best, previous[j + 1] + 1.0)
            current[j + 1] = min(best, current[j] + 1.0)
        previous, current = current, previous
    return previous[n]


@njit(cache=True, nogil=True)
def _pmd_many(flat, starts, left, right, unit):
    out = np.empty(left.size)
    for k in range(left.size):
        i, j = left[k], right[k]
        out[k] = _pmd(flat[starts[i] : starts[i + 1]], flat[starts[j] : starts[j + 1]], unit)
    return out


def pmd(query: FloatArray, target: FloatArray, unit: float = UNIT) -> float:
    """Peptide mass deviation: edit distance in which replacing a residue costs its mass difference.

    Parameters
    ----------
    query, target
        Token masses in Da, shapes (m,) and (n,).
    unit
        What one inserted or left-out residue costs, in Da; 51.4238 in RankNovo.

    Returns
    -------
    Distance in units, 0 for equal masses, symmetric, not normalised by length.
    """
    return float(_pmd(np.ascontiguousarray(query), np.ascontiguousarray(target), unit))


def pmd_pairs(peptides: Sequence[Sequence[str]], left: Sequence[int], right: Sequence[int]) -> FloatArray:
    """PMD of many pairs, shape (n_pairs,); ``left`` and ``right`` index ``peptides``."""
    masses = [masses_of(p) for p in peptides]
    starts = np.concatenate([[0], np.cumsum([m.size for m in masses])]).astype(np.int64)
    flat = np.concatenate(masses) if masses else np.empty(0)
    return _pmd_many(flat, starts, np.asarray(left, np.int64), np.asarray(right, np.int64), UNIT)


def rmd(query: FloatArray, target: FloatArray, unit: float = UNIT) -> FloatArray:
    """Residual mass deviation of each query token, shape (m,), signed, in units.

    The prefix mass at the token minus the nearest prefix mass of the target (the first one on ties). Prefix zero is
    not among the target's, so a first residue is compared with first residues: ``AANK`` against ``AAGGK`` is all
    zero although two residues differ, since the prefixes agree.
    """
    q, t = np.cumsum(query), np.cumsum(target)
    difference = q[:, None] - t[None, :]
    nearest = np.abs(difference).argmin(axis=1)
    return difference[np.arange(q.size), nearest] / unit


@njit(cache=True, nogil=True)
def _pass(a, b, cumulative, single, ppm, i, j, step, stop, flags):
    # One walk from an end. ``stop``: first index that the other walk has settled (-1: none).
    ca = 0.0
    cb = 0.0
    while i >= 0 and j >= 0 and i < a.size and j < b.size:
        if stop >= 0 and (i <= stop or j <= stop):
            break
        na = ca + a[i]
        nb = cb + b[j]
        difference = na - nb
        limit = cumulative * abs(nb) * 1e-6 if ppm else cumulative
        if abs(difference) < limit:
            near = single * abs(b[j]) * 1e-6 if ppm else single
            flags[max(i, j)] = abs(a[i] - b[j]) < near
            i += step
            j += step
            ca = na
            cb = nb
        elif nb > na:
            i += step
            ca = na
        else:
            j += step
            cb = nb


@njit(cache=True, nogil=True)
def _match(a, b, mode, cumulative, single, ppm):
    size = max(a.size, b.size)
    flags = np.zeros(size, dtype=np.bool_)
    if mode == 2:
        _pass(a[::-1].copy(), b[::-1].copy(), cumulative, single, ppm, 0, 0, 1, -1, flags)
        flags = flags[::-1].copy()
        return flags, flags.all()
    _pass(a, b, cumulative, single, ppm, 0, 0, 1, -1, flags)
    if mode == 1 or flags.all():
        return flags, flags.all()
    stop = 0
    while flags[stop]:
        stop += 1
    _backward(a, b, cumulative, single, ppm, stop, flags)
    return flags, flags.all()


@njit(cache=True, nogil=True)
def _backward(a, b, cumulative, single, ppm, stop, flags):
    i, j = a.size - 1, b.size - 1
    ca = 0.0
    cb = 0.0
    while i >= stop and j >= stop and i >= 0 and j >= 0:
        na = ca + a[i]
        nb = cb + b[j]
        limit = cumulative * abs(nb) * 1e-6 if ppm else cumulative
        if abs(na - nb) < limit:
            near = single * abs(b[j]) * 1e-6 if ppm else single
            flags[max(i, j)] = abs(a[i] - b[j]) < near
            i -= 1
            j -= 1
            ca = na
            cb = nb
        elif nb > na:
            i -= 1
            ca = na
        else:
            j -= 1
            cb = nb


@dataclass(frozen=True)
class Tolerance:
    """When masses count as equal: cumulative (prefix) and single residue, in Da, or in ppm of the target's mass."""

    cumulative: float = 0.5
    single: float = 0.1
    ppm: bool = False


STANDARD = Tolerance()
"""0.5 and 0.1 Da: DeepNovo, Casanovo, RankNovo. D matches deamidated N, K matches Q, F matches oxidised M."""

PROTEOBENCH = Tolerance(50.0, 20.0, ppm=True)
"""50 and 20 ppm: ProteoBench's de novo module."""

_MODES = {"best": 0, "forward": 1, "backward": 2}


def aa_match(
    truth: FloatArray, prediction: FloatArray, mode: Mode = "best", tolerance: Tolerance = STANDARD
) -> tuple[np.ndarray, bool]:
    """Match a predicted peptide's residues with the true ones.

    Parameters
    ----------
    truth, prediction
        Token masses in Da.
    mode
        From the N-terminus, from the C-terminus, or from both until the first error (``best``, the field's default).

    Returns
    -------
    Flags, shape (max(m, n),), and whether all are true: the peptides match.
    """
    flags, match = _match(
        np.ascontiguousarray(truth),
        np.ascontiguousarray(prediction),
        _MODES[mode],
        tolerance.cumulative,
        tolerance.single,
        tolerance.ppm,
    )
    return flags, bool(match)


def peptide_match(truth: Sequence[str], prediction: Sequence[str], tolerance: Tolerance = STANDARD) -> bool:
    """Say whether two peptides match in every residue."""
    return aa_match(masses_of(truth), masses_of(prediction), "best", tolerance)[1]

"""De novo sequencing without a trained sequence model: exact k-best paths through a spectrum's mass axis.

Every prefix mass gets evidence: the log-odds, from [`rerank_peptide.peaks`][], that a peak there is the b ion, that a
peak at the complement is the y ion, and for charges from 3 the doubly charged ones; a prefix without a peak costs what
a missing ion costs. A peptide is a path of residue masses from 0 to the precursor's residue mass. One backward
dynamic program over the mass axis (bins of 5 mDa) gives the best completion of every prefix, which is an exact
heuristic, so that A* then yields the best, second best ... path without visiting anything else.

The graph view is Dančík et al. (J. Comput. Biol. 1999) and PepNovo's; unlike theirs the axis is dense, so that runs
of missing ions need no multi-residue edges. A path may use one peak as b and as y (antisymmetry is not enforced); the
features that score complete peptides count each peak once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit

from rerank_core.types import FloatArray
from rerank_peptide import peaks
from rerank_peptide.masses import ISOTOPE, PROTON, TOKEN_MASSES, WATER, is_terminal
from rerank_peptide.spectra import Spectrum

BIN: Final = 0.005  # Da
TOKENS: Final = tuple(
    t for t in TOKEN_MASSES if not is_terminal(t) and t not in {"I", "N+0.984", "Q+0.984"}
)  # deamidated N and Q weigh what D and E weigh
STARTS: Final = ("", "+42.011", "+43.006", "-17.027", "+43.006-17.027")

# Log share of each residue in proteins; methionine oxidised in one of four. Order of TOKENS follows TOKEN_MASSES.
_SHARE: Final = {
    "G": 7.1, "A": 8.3, "S": 6.6, "P": 4.7, "V": 6.9, "T": 5.5, "L": 15.6, "N": 4.1, "D": 5.5, "Q": 3.9, "K": 5.8,
    "E": 6.7, "M": 1.8, "H": 2.3, "F": 3.9, "R": 5.5, "Y": 2.9, "W": 1.1, "C+57.021": 1.4, "M+15.995": 0.6,
}  # fmt: skip
_PRIOR: Final = np.log(np.array([_SHARE[t] for t in TOKENS]) / 100)


@dataclass(frozen=True)
class GraphParams:
    """Settings of the engine.

    Parameters
    ----------
    tolerance
        Fragment tolerance in Da.
    precursor_ppm
        Precursor tolerance.
    paths
        Complete peptides the search yields before they are scored as a whole.
    missing
        Weight of the log-probability that an expected ion shows no peak. That probability is estimated a spectrum,
        from the ions it seems to hold: gaps cost little in a poor spectrum, much in a good one.
    prior
        Weight of the residue's log share in proteins.
    isotopes
        Precursor isotope offsets tried; each but 0 costs 3 units.
    terminal
        Cost of an N-terminal modification.
    max_pops
        Limit of the search, so that a spectrum without evidence ends.
    """

    tolerance: float = 0.02
    precursor_ppm: float = 15.0
    paths: int = 1000
    missing: float = 3.0
    prior: float = 0.1
    isotopes: tuple[int, ...] = (0, 1)
    terminal: float = 6.0
    tryptic: float = 1.5
    max_pops: int = 60_000


@njit(cache=True, nogil=True)
def _evidence(mz, odds, total, charge, n_bins, width, tolerance, missing_b, missing_y, proton, water):
    # Two layers so that one peak cannot stand for b and y evidence of the same layer twice.
    layer_b = np.full(n_bins, missing_b)
    layer_y = np.full(n_bins, missing_y)
    layer_2 = np.zeros(n_bins)
    spread = int(np.ceil(tolerance / width))
    for i in range(mz.size):
        m = mz[i]
        for kind in range(4 if charge >= 3 else 2):
            if kind == 0:
                prefix = m - proton
            elif kind == 1:
                prefix = total - (m - proton - water)
            elif kind == 2:
                prefix = 2 * (m - proton)
            else:
                prefix = total - (2 * (m - proton) - water)
            if prefix <= 0 or prefix >= total:
                continue
            w = odds[i, kind]
            centre = int(prefix / width + 0.5)
            for k in range(max(centre - spread, 0), min(centre + spread + 1, n_bins)):
                off = abs(k * width - prefix) / tolerance
                if off > 1.2:
                    continue
                value = w - 0.8 * off * off
                if kind == 0:
                    layer_b[k] = max(layer_b[k], value)
                elif kind == 1:
                    layer_y[k] = max(layer_y[k], value)
                else:
                    layer_2[k] = max(layer_2[k], 0.5 * (value + 2.0))
    return layer_b + layer_y + layer_2


@njit(cache=True, nogil=True)
def _backward(score, steps, gain, last_gain, low, high):
    # best[m]: highest score of a way from prefix m to the end; the end itself scores nothing.
    n = score.size
    best = np.full(n, -np.inf)
    for m in range(high, -1, -1):
        value = -np.inf
        for a in range(steps.size):
            to = m + steps[a]
            if to > high:
                continue
            v = -np.inf
            if to >= low:
                v = last_gain[a]
            if to < low and best[to] > -np.inf:
                v = max(v, gain[a] + score[to] + best[to])
            value = max(value, v)
        best[m] = value
    return best


@njit(cache=True, nogil=True)
def _push(heap_f, heap_n, size, f, node):
    i = size
    while i > 0:
        p = (i - 1) >> 1
        if heap_f[p] >= f:
            break
        heap_f[i] = heap_f[p]
        heap_n[i] = heap_n[p]
        i = p
    heap_f[i] = f
    heap_n[i] = node


@njit(cache=True, nogil=True)
def _sink(heap_f, heap_n, size):
    # The last entry takes the root's place.
    f = heap_f[size]
    node = heap_n[size]
    i = 0
    while True:
        c = 2 * i + 1
        if c >= size:
            break
        if c + 1 < size and heap_f[c + 1] > heap_f[c]:
            c += 1
        if heap_f[c] <= f:
            break
        heap_f[i] = heap_f[c]
        heap_n[i] = heap_n[c]
        i = c
    heap_f[i] = f
    heap_n[i] = node


@njit(cache=True, nogil=True)
def _astar(score, best, steps, gain, last_gain, low, high, starts, start_cost, paths, max_pops, longest):
    capacity = max_pops * 6 + 64
    at = np.empty(capacity, np.int64)
    parent = np.empty(capacity, np.int64)
    residue = np.empty(capacity, np.int16)
    depth = np.empty(capacity, np.int16)
    so_far = np.empty(capacity)
    heap_f = np.empty(capacity)
    heap_n = np.empty(capacity, np.int64)
    nodes = 0
    size = 0
    for s in range(starts.size):
        if starts[s] >= low or starts[s] < -4000:
            continue
        m = starts[s]
        # A start below zero (ammonia loss) is looked up at its first residue.
        value = best[m] if m >= 0 else 0.0
        at[nodes], parent[nodes], residue[nodes], depth[nodes], so_far[nodes] = m, -1, -1 - s, 0, -start_cost[s]
        _push(heap_f, heap_n, size, value - start_cost[s], nodes)
        size += 1
        nodes += 1
    out = np.full((paths, longest + 1), -1, np.int16)
    scores = np.empty(paths)
    found = 0
    pops = 0
    while size > 0 and found < paths and pops < max_pops:
        f, node = heap_f[0], heap_n[0]
        size -= 1
        if size:
            _sink(heap_f, heap_n, size)
        pops += 1
        if at[node] < 0 and residue[node] >= 0:
            # A finished path: its end is marked by a negative place.
            k = depth[node]
            cursor = node
            while parent[cursor] >= 0:
                out[found, k] = residue[cursor]
                k -= 1
                cursor = parent[cursor]
            out[found, 0] = -1 - residue[cursor]
            scores[found] = f
            found += 1
            continue
        if depth[node] >= longest or nodes + 2 * steps.size >= capacity:
            continue
        for a in range(steps.size):
            to = at[node] + steps[a]
            if to > high or to < 0:
                continue
            if to >= low:
                total = so_far[node] + last_gain[a]
                at[nodes] = -1
                value = total
            else:
                if best[to] == -np.inf:
                    continue
                total = so_far[node] + gain[a] + score[to]
                at[nodes] = to
                value = total + best[to]
            parent[nodes], residue[nodes], depth[nodes], so_far[nodes] = node, a, depth[node] + 1, total
            _push(heap_f, heap_n, size, value, nodes)
            size += 1
            nodes += 1
    return out[:found], scores[:found]


def _bins(masses: FloatArray) -> np.ndarray:
    return np.round(masses / BIN).astype(np.int64)


_STEPS: Final = _bins(np.array([TOKEN_MASSES[t] for t in TOKENS]))
_START_BINS: Final = _bins(np.array([TOKEN_MASSES.get(s, 0.0) for s in STARTS]))


def paths(spectrum: Spectrum, params: GraphParams | None = None) -> list[tuple[tuple[str, ...], float]]:
    """Return the best peptides by summed evidence, best first.

    Returns
    -------
    (tokens, score) pairs, at most ``params.paths``; each weighs what the precursor weighs within tolerance, isotope
    offsets included. Leucine stands for isoleucine.
    """
    params = params or GraphParams()
    odds = peaks.packaged()(spectrum, params.tolerance).astype(np.float64)
    found: list[tuple[tuple[str, ...], float]] = []
    best_score = -np.inf
    for offset in params.isotopes:
        total = spectrum.mass - WATER - offset * ISOTOPE
        if total < 150:
            continue
        rows, scores = _search(spectrum, odds, total, 3.0 * bool(offset), params, best_score)
        if scores.size:
            best_score = max(best_score, scores[0])
        for row, score in zip(rows, scores, strict=True):
            start = STARTS[row[0]]
            body = tuple(TOKENS[r] for r in row[1:] if r >= 0)
            found.append(((start, *body) if start else body, float(score)))
    found.sort(key=lambda x: -x[1])
    return found[: params.paths]


def _search(
    spectrum: Spectrum, odds: FloatArray, total: float, cost: float, params: GraphParams, to_beat: float
) -> tuple[np.ndarray, FloatArray]:
    slack = params.precursor_ppm * 1e-6 * spectrum.mass
    low, high = int(np.floor((total - slack) / BIN)), int(np.ceil((total + slack) / BIN))
    gain = params.prior * _PRIOR
    last = gain + np.array([0.0 if t in {"K", "R"} else -params.tryptic for t in TOKENS])
    missing_b, missing_y = _missing(odds, total, params.missing)
    score = _evidence(
        spectrum.mz, odds, total, spectrum.charge, high + 1, BIN, params.tolerance, missing_b, missing_y, PROTON, WATER
    )
    best = _backward(score, _STEPS, gain, last, low, high)
    if best[0] - cost < to_beat - 8.0:  # another isotope explains the spectrum far better
        return np.empty((0, 1), np.int16), np.empty(0)
    start_cost = np.array([0.0 if not s else params.terminal for s in STARTS]) + cost
    longest = int(total / 57.0) + 1
    return _astar(
        score, best, _STEPS, gain, last, low, high, _START_BINS, start_cost, params.paths, params.max_pops, longest
    )


def _missing(odds: FloatArray, total: float, weight: float) -> tuple[float, float]:
    expected = (1 / (1 + np.exp(-odds[:, :2]))).sum(axis=0) / (total / 111.0)
    seen = np.clip(expected, 0.05, 0.9)
    return float(weight * np.log1p(-seen[0])), float(weight * np.log1p(-seen[1]))


def candidates(
    spectra: Sequence[Spectrum], top: int = 20, params: GraphParams | None = None
) -> list[list[tuple[tuple[str, ...], float]]]:
    """Sequence spectra: generate paths, score complete peptides by their features, keep the ``top`` best.

    Returns
    -------
    For each spectrum (tokens, score) pairs, best first; scores are comparable between spectra only as far as the
    packaged feature model is.
    """
    return [rescored(s, paths(s, params), top) for s in spectra]


def rescored(
    spectrum: Spectrum, found: Sequence[tuple[tuple[str, ...], float]], top: int
) -> list[tuple[tuple[str, ...], float]]:
    """Score complete paths of a spectrum by their features; return the ``top`` best with their scores."""
    from rerank_peptide.features import complete_scores

    scores = complete_scores(spectrum, [t for t, _ in found], np.array([s for _, s in found]))
    order = np.argsort(-scores, kind="stable")[:top]
    return [(found[i][0], float(scores[i])) for i in order]

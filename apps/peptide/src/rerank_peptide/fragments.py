"""How well a peptide explains a spectrum: fragment matching in one compiled pass a candidate."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from rerank_peptide.masses import AMMONIA, CARBON_MONOXIDE, ISOTOPE, PROTON, WATER
from rerank_peptide.peaks import nearest

FRAGMENT_FEATURES: Final = (
    "coverage", "b_coverage", "y_coverage", "both_coverage", "longest_run", "explained", "explained_all",
    "top10", "top10_all", "top20_all", "top50_all", "evidence", "evidence_mean", "missing_sites", "error_ppm",
    "error_spread", "hyperscore", "pcc_log", "cosine", "cosine_sqrt", "predicted_missing", "top6_predicted",
    "immonium_unexplained", "b2", "a2", "y1", "y2", "long_gaps", "n_matched", "unexplained_odds", "explained_odds",
    "n_sites", "likelihood", "likelihood_mean",
)  # fmt: skip

_IMMONIUM: Final = np.array([70.0651, 86.0964, 110.0713, 120.0808, 136.0757, 159.0917])
_IMMONIUM_OF: Final = np.array([97.052764, 113.084064, 137.058912, 147.068414, 163.063329, 186.079313])


@njit(cache=True, nogil=True)
def ion_window(x, tolerance):
    """Return the tolerance in Da at an m/z."""
    # Mass errors grow with m/z: the full tolerance from m/z 1333, a third of it below 433 (15 ppm and 6.5 mDa where
    # the tolerance is 0.02 Da; libraries that round to 0.01 still match).
    return tolerance * min(max(x * 7.5e-4, 0.325), 1.0)


@njit(cache=True, nogil=True)
def _mark(mz, used, x, tolerance):
    j = nearest(mz, x, ion_window(x, tolerance))
    if j >= 0 and used[j] == 0:
        used[j] = 2


@njit(cache=True, nogil=True)
def _correlation(a, b, n):
    ma = a[:n].mean()
    mb = b[:n].mean()
    sab = saa = sbb = 0.0
    for i in range(n):
        sab += (a[i] - ma) * (b[i] - mb)
        saa += (a[i] - ma) ** 2
        sbb += (b[i] - mb) ** 2
    return sab / np.sqrt(saa * sbb) if saa > 0 and sbb > 0 else 0.0


@njit(cache=True, nogil=True)
def _likelihood(mz, intensity, order, total, masses, obs, pre, series, tolerance, proton, water):
    # Log-likelihood ratio of seeing and missing each ion: how probable is a peak there, given the predicted intensity
    # and the spectrum's detection limit, against a peak there by chance, given how crowded the neighbourhood is.
    n = mz.size
    limit = np.log10(intensity[order[int(0.9 * (n - 1))]] / total)
    value = 0.0
    prefix = 0.0
    residues = masses.sum()
    k = 0
    for i in range(masses.size - 1):
        prefix += masses[i]
        for c in range(series):
            x = prefix + proton if c % 2 == 0 else residues - prefix + water + proton
            if c > 1:
                x = (x + proton) / 2
            above = np.log10(pre[k] + 1e-4) - limit
            seen = 0.02 + 0.93 / (1 + np.exp(-2.3 * (above + 0.2)))
            low = np.searchsorted(mz, x - 40.0)
            high = np.searchsorted(mz, x + 40.0)
            chance = min(0.5, 0.005 + (high - low) / 80.0 * 2 * tolerance)
            if obs[k] > 0:
                value += np.log(seen / chance)
            else:
                value += np.log((1 - seen) / (1 - chance))
            k += 1
    return value


@njit(cache=True, nogil=True)
def _score(mz, intensity, order, odds, masses, charge, predicted, tolerance, precursor, out, proton, water, ammonia, co,
           isotope, immonium, immonium_of):  # fmt: skip
    n, sites = mz.size, masses.size - 1
    series = 4 if charge >= 3 else 2
    used = np.zeros(n, np.int8)
    total_intensity = intensity.sum()
    residues = masses.sum()
    obs = np.zeros(sites * series)
    pre = np.zeros(sites * series)
    hit = np.zeros((sites, series), np.int8)
    prefix = 0.0
    k = 0
    matched = n_b = n_y = 0
    weight = error = error2 = 0.0
    sum_b = sum_y = evidence = odds_in = 0.0
    biggest = intensity.max()
    for i in range(sites):
        prefix += masses[i]
        suffix = residues - prefix
        site_evidence = -4.0
        for c in range(series):
            if c == 0:
                x = prefix + proton
            elif c == 1:
                x = suffix + water + proton
            elif c == 2:
                x = (prefix + 2 * proton) / 2
            else:
                x = (suffix + water + 2 * proton) / 2
            pre[k] = predicted[i, c]
            j = nearest(mz, x, ion_window(x, tolerance))
            if j >= 0:
                hit[i, c] = 1
                obs[k] = intensity[j] / total_intensity
                if used[j] != 1:
                    used[j] = 1
                    matched += 1
                    odds_in += 1 / (1 + np.exp(-odds[j, c]))
                    if c % 2 == 0:
                        n_b += 1
                        sum_b += intensity[j]
                    else:
                        n_y += 1
                        sum_y += intensity[j]
                    w = np.sqrt(intensity[j])
                    e = (mz[j] - x) / x * 1e6
                    weight += w
                    error += w * e
                    error2 += w * e * e
                    site_evidence = max(site_evidence, -4.0) + max(odds[j, c] + 3.0, 0.0)
            k += 1
        evidence += site_evidence
    n_ions = k
    # Secondary ions: isotopes, a ions, losses, immonium, precursor.
    prefix = 0.0
    for i in range(sites):
        prefix += masses[i]
        b = prefix + proton
        y = residues - prefix + water + proton
        if hit[i, 0]:
            _mark(mz, used, b + isotope, tolerance)
            _mark(mz, used, b - co, tolerance)
            _mark(mz, used, b - water, tolerance)
            _mark(mz, used, b - ammonia, tolerance)
        if hit[i, 1]:
            _mark(mz, used, y + isotope, tolerance)
            _mark(mz, used, y - water, tolerance)
            _mark(mz, used, y - ammonia, tolerance)
        if i == 1:
            _mark(mz, used, b - co, tolerance)
        if series == 4:
            if hit[i, 2]:
                _mark(mz, used, (b + proton) / 2 + isotope / 2, tolerance)
            if hit[i, 3]:
                _mark(mz, used, (y + proton) / 2 + isotope / 2, tolerance)
    for i in range(masses.size):
        _mark(mz, used, masses[i] - co + proton, tolerance)
    for j in range(n):
        if used[j] == 0 and abs(mz[j] - precursor) < 2.5 / charge:
            used[j] = 2
    unexplained_immonium = 0.0
    for a in range(immonium.size):
        j = nearest(mz, immonium[a], 0.01)
        if j >= 0:
            inside = False
            for i in range(masses.size):
                if abs(masses[i] - immonium_of[a]) < 0.02:
                    inside = True
            if not inside:
                unexplained_immonium += np.sqrt(intensity[j] / biggest)
    run = longest = gaps = gap = covered = cov_b = cov_y = both = 0
    for i in range(sites):
        b_hit = hit[i, 0] or (series == 4 and hit[i, 2])
        y_hit = hit[i, 1] or (series == 4 and hit[i, 3])
        cov_b += b_hit
        cov_y += y_hit
        both += b_hit and y_hit
        if b_hit or y_hit:
            covered += 1
            run += 1
            longest = max(longest, run)
            gap = 0
        else:
            run = 0
            gap += 1
            if gap == 2:
                gaps += 1
    explained = explained_all = odds_out = 0.0
    for j in range(n):
        if used[j] == 1:
            explained += intensity[j]
        if used[j] > 0:
            explained_all += intensity[j]
        else:
            odds_out += 1 / (1 + np.exp(-max(odds[j, 0], odds[j, 1])))
    t10 = t10a = t20a = t50a = 0
    for r in range(min(n, 50)):
        u = used[order[r]]
        if r < 10:
            t10 += u == 1
            t10a += u > 0
        if r < 20:
            t20a += u > 0
        t50a += u > 0
    # Observed against predicted intensities.
    dot = oo = pp = dots = os_ = ps = lost = 0.0
    for i in range(n_ions):
        dot += obs[i] * pre[i]
        oo += obs[i] ** 2
        pp += pre[i] ** 2
        dots += np.sqrt(obs[i] * pre[i])
        os_ += obs[i]
        ps += pre[i]
        if obs[i] == 0:
            lost += pre[i]
    # As ms2pip does: shares of the total ion current, 0.001 as the floor, singly charged ions.
    singly = np.zeros(2 * sites, np.int64)
    k = 0
    for i in range(sites):
        singly[2 * i] = k
        singly[2 * i + 1] = k + 1
        k += series
    lo = np.log10(obs[singly] + 1e-3)
    lp = np.log10(pre[singly] + 1e-3)
    likelihood = _likelihood(mz, intensity, order, total_intensity, masses, obs, pre, series, tolerance, proton, water)
    best = np.argsort(-pre[:n_ions])
    six = 0.0
    for r in range(min(6, n_ions)):
        six += obs[best[r]] > 0
    fact = 0.0
    for i in range(2, min(n_b, 20) + 1):
        fact += np.log(i)
    for i in range(2, min(n_y, 20) + 1):
        fact += np.log(i)
    out[0] = covered / sites
    out[1] = cov_b / sites
    out[2] = cov_y / sites
    out[3] = both / sites
    out[4] = longest / sites
    out[5] = explained / total_intensity
    out[6] = explained_all / total_intensity
    out[7] = t10 / min(n, 10)
    out[8] = t10a / min(n, 10)
    out[9] = t20a / min(n, 20)
    out[10] = t50a / min(n, 50)
    out[11] = evidence
    out[12] = evidence / sites
    out[13] = sites - covered
    mean = error / weight if weight > 0 else 0.0
    out[14] = abs(mean)
    out[15] = np.sqrt(max(error2 / weight - mean * mean, 0.0)) if weight > 0 else 20.0
    out[16] = np.log1p(1000 * sum_b / biggest) + np.log1p(1000 * sum_y / biggest) + fact
    out[17] = _correlation(lo, lp, 2 * sites)
    out[18] = dot / np.sqrt(oo * pp) if oo > 0 and pp > 0 else 0.0
    out[19] = dots / np.sqrt(os_ * ps) if os_ > 0 and ps > 0 else 0.0
    out[20] = lost / ps if ps > 0 else 1.0
    out[21] = six / min(6, n_ions)
    out[22] = unexplained_immonium
    b2 = masses[0] + masses[1] + proton
    out[23] = 1.0 if sites > 1 and hit[1, 0] else 0.0
    out[24] = 1.0 if nearest(mz, b2 - co, ion_window(b2, tolerance)) >= 0 else 0.0
    out[25] = hit[sites - 1, 1]
    out[26] = hit[sites - 2, 1] if sites > 1 else 0.0
    out[27] = gaps
    out[28] = matched
    out[29] = odds_out
    out[30] = odds_in
    out[31] = sites
    out[32] = likelihood
    out[33] = likelihood / sites


@njit(cache=True, nogil=True)
def _score_all(mz, intensity, odds, flat, starts, charge, predicted, rows, tolerance, precursor, width, proton, water,
               ammonia, co, isotope, immonium, immonium_of):  # fmt: skip
    n = starts.size - 1
    out = np.zeros((n, width))
    order = np.argsort(-intensity)
    for p in range(n):
        masses = flat[starts[p] : starts[p + 1]]
        if masses.size < 2:
            continue
        _score(mz, intensity, order, odds, masses, charge, predicted[rows[p] : rows[p + 1]], tolerance, precursor,
               out[p], proton, water, ammonia, co, isotope, immonium, immonium_of)  # fmt: skip
    return out


def fragment_features(mz, intensity, odds, residues, charge, predicted, precursor_mz, tolerance=0.02):
    """Score candidates of one spectrum.

    Parameters
    ----------
    mz, intensity
        Shape (n_peaks,), m/z ascending.
    odds
        Log-odds that each peak is b+, y+, b2+, y2+, shape (n_peaks, 4).
    residues
        Residue masses a candidate (terminal modification in the first), list of arrays.
    predicted
        Predicted intensities a candidate, list of arrays of shape (n_sites, 4).

    Returns
    -------
    ndarray
        Shape (n_candidates, 34), columns as in ``FRAGMENT_FEATURES``; candidates of fewer than two residues are zeros.
    """
    sizes = np.array([r.size for r in residues], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rows = np.concatenate([[0], np.cumsum(np.maximum(sizes - 1, 0))]).astype(np.int64)
    return _score_all(
        mz, intensity, odds, np.concatenate(residues), starts, charge,
        np.concatenate(list(predicted)).astype(np.float64).reshape(-1, 4), rows, tolerance, precursor_mz,
        len(FRAGMENT_FEATURES), PROTON, WATER, AMMONIA, CARBON_MONOXIDE, ISOTOPE, _IMMONIUM, _IMMONIUM_OF,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _consensus(flat, starts, weight, tolerance):
    n = starts.size - 1
    out = np.zeros(n)
    for i in range(n):
        total = 0.0
        share = 0.0
        for j in range(n):
            if i == j:
                continue
            a, b = starts[i], starts[j]
            pa, pb = flat[a], flat[b]
            same = 0
            while a < starts[i + 1] - 1 and b < starts[j + 1] - 1:
                if abs(pa - pb) < tolerance:
                    same += 1
                    a += 1
                    b += 1
                    pa += flat[a]
                    pb += flat[b]
                elif pa < pb:
                    a += 1
                    pa += flat[a]
                else:
                    b += 1
                    pb += flat[b]
            share += weight[j] * same / max(starts[i + 1] - starts[i] - 1, 1)
            total += weight[j]
        out[i] = share / total if total > 0 else 0.0
    return out


def consensus(residues, weight, tolerance=0.02):
    """Weighted mean share of a candidate's prefix masses that the other candidates have too, shape (n_candidates,)."""
    sizes = np.array([r.size for r in residues], np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return _consensus(np.concatenate(residues), starts, np.asarray(weight, np.float64), tolerance)


@njit(cache=True, nogil=True)
def _support(mz, masses, charge, tolerance, proton, water):
    sites = masses.size - 1
    out = np.zeros(max(sites, 0))
    total = masses.sum()
    prefix = 0.0
    for i in range(sites):
        prefix += masses[i]
        b = prefix + proton
        y = total - prefix + water + proton
        hit = nearest(mz, b, ion_window(b, tolerance)) >= 0 or nearest(mz, y, ion_window(y, tolerance)) >= 0
        if charge >= 3 and not hit:
            hit = nearest(mz, (b + proton) / 2, tolerance) >= 0 or nearest(mz, (y + proton) / 2, tolerance) >= 0
        out[i] = 1.0 if hit else 0.0
    return out


def site_support(mz, residues, charge, tolerance=0.02):
    """1 for each bond with a b or y ion (doubly charged ones from charge 3), else 0; shape (n_residues - 1,)."""
    return _support(mz, residues, charge, tolerance, PROTON, WATER)

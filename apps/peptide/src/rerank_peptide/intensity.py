"""Predicted fragment intensities: a small network distilled from ms2pip's HCD model, and ms2pip itself when asked for.

ms2pip (Declercq et al., Nucleic Acids Res. 2023; Apache-2.0) predicts b and y intensities with boosted trees. Its
compiled model is an optional extra; the network here was fitted to its predictions on digested public proteins
(``rerank-peptide fit`` with ``task: intensity``) and needs NumPy only, so features and simulator work, and give the
same numbers, with and without the extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from rerank_core.errors import require
from rerank_peptide.masses import is_terminal, to_proforma

SYMBOLS: Final = "_ACDEFGHKLMNPQRSTVWYm"
"""Padding, the residues with I folded into L, and oxidised methionine."""

FLOOR: Final = -9.965784
"""ms2pip's log2 of 'no intensity': log2(0.001)."""

_INDEX: Final = {s: i for i, s in enumerate(SYMBOLS)}


def encode(tokens: Sequence[str]) -> NDArray[np.int64]:
    """Return symbol indices of the residues, shape (n_residues,); deamidated N and Q read as D and E."""
    return np.array([_code(t) for t in tokens if not is_terminal(t)], dtype=np.int64)


@lru_cache(maxsize=4096)
def _code(token: str) -> int:
    if token == "M+15.995":
        return _INDEX["m"]
    if token in {"N+0.984", "Q+0.984"}:
        return _INDEX["D" if token[0] == "N" else "E"]
    return _INDEX["L" if token[0] == "I" else token[0]]


@njit(cache=True, nogil=True)
def _site_inputs(flat, starts, charges, basic_k, basic_r, basic_h, proline, n_sites):
    symbols = np.zeros((n_sites, 12), np.int64)
    s = np.zeros((n_sites, 16), np.float32)
    row = 0
    for p in range(charges.size):
        code = flat[starts[p] : starts[p + 1]]
        n = code.size
        if n < 2:
            continue
        total = k = r = prolines = 0
        for c in code:
            k += c == basic_k
            r += c == basic_r
            total += c in (basic_k, basic_r, basic_h)
            prolines += c == proline
        z = min(max(charges[p], 1), 6)
        left = 0
        for i in range(n - 1):
            left += code[i] in (basic_k, basic_r, basic_h)
            for o in range(8):
                at = i + o - 3
                if 0 <= at < n:
                    symbols[row, o] = code[at]
            symbols[row, 8], symbols[row, 9] = code[0], code[1]
            symbols[row, 10], symbols[row, 11] = code[n - 2], code[n - 1]
            s[row, 0] = (i + 1) / n
            s[row, 1] = (i + 1) / 10
            s[row, 2] = (n - 1 - i) / 10
            s[row, 3] = n / 20
            s[row, 4 + min(z, 4) - 1] = 1
            s[row, 8] = left / 3
            s[row, 9] = (total - left) / 3
            s[row, 10] = (z - total) / 3
            s[row, 11] = prolines / 3
            s[row, 12] = np.exp(-i / 2)
            s[row, 13] = np.exp(-(n - 2 - i) / 2)
            s[row, 14] = k / 2
            s[row, 15] = r / 2
            row += 1
    return symbols, s


def site_inputs(codes: Sequence[NDArray[np.int64]], charges: Sequence[int]) -> tuple[NDArray, NDArray]:
    """Describe every bond of every peptide.

    Returns
    -------
    Symbol indices, shape (n_sites, 12): residues from three before to four after the bond, then the first two and
    last two of the peptide. Scalars, shape (n_sites, 16), float32: place, length, charge, basic residues, prolines.
    """
    starts = np.concatenate([[0], np.cumsum([c.size for c in codes], dtype=np.int64)]).astype(np.int64)
    flat = np.concatenate(codes) if len(codes) else np.zeros(0, np.int64)
    n_sites = int(sum(max(c.size - 1, 0) for c in codes))
    k, r, h, p = (_INDEX[x] for x in "KRHP")
    return _site_inputs(flat, starts, np.asarray(charges, np.int64), k, r, h, p, n_sites)


@dataclass(frozen=True)
class IntensityModel:
    """Weights of the network: one table a window position, then two dense layers.

    Parameters
    ----------
    tables
        Shape (12, n_symbols, hidden); w_scalar (16, hidden); b1 (hidden,); w2 (hidden, hidden2); b2; w3 (hidden2, 4); b3.
    """

    tables: NDArray[np.float32]
    w_scalar: NDArray[np.float32]
    b1: NDArray[np.float32]
    w2: NDArray[np.float32]
    b2: NDArray[np.float32]
    w3: NDArray[np.float32]
    b3: NDArray[np.float32]

    @classmethod
    def load(cls, path: str | Path) -> IntensityModel:
        """Read the safetensors file."""
        from safetensors.numpy import load_file

        return cls(**load_file(str(path)))

    def __call__(self, codes: Sequence[NDArray[np.int64]], charges: Sequence[int]) -> list[NDArray[np.float32]]:
        """Predict relative intensities.

        Parameters
        ----------
        codes
            Symbol indices a peptide, from [`encode`][rerank_peptide.intensity.encode].
        charges
            Precursor charges.

        Returns
        -------
        One array a peptide, shape (n_sites, 4): b+, y+, b2+, y2+ in bond order, linear, at least 0.
        """
        sizes = [max(c.size - 1, 0) for c in codes]
        symbols, scalars = site_inputs(codes, charges)
        out = np.empty((len(symbols), 4), np.float32)
        for start in range(0, len(symbols), 16384):
            s = symbols[start : start + 16384]
            x = scalars[start : start + 16384] @ self.w_scalar + self.b1
            for column in range(12):
                x += self.tables[column][s[:, column]]
            np.maximum(x, 0, out=x)
            x = np.maximum(x @ self.w2 + self.b2, 0)
            y = x @ self.w3 + self.b3
            out[start : start + 16384] = np.clip(np.exp2((np.clip(y, 0, 1.2) - 1) * -FLOOR) - 0.001, 0, None)
        return list(np.split(out, np.cumsum(sizes)[:-1])) if sizes else []


@lru_cache(maxsize=1)
def packaged() -> IntensityModel:
    """Load the network that ships with the package."""
    with resources.as_file(resources.files("rerank_peptide") / "weights" / "intensity.safetensors") as path:
        return IntensityModel.load(path)


def ms2pip_intensities(
    peptides: Sequence[Sequence[str]], charges: Sequence[int], processes: int = 1
) -> list[NDArray[np.float32] | None]:
    """Predict with ms2pip's HCD2019 and 2+ models (extra ``ms2pip``); same layout as the network's.

    None stands for a peptide that ms2pip does not take (a modification without UNIMOD entry, fewer than 3 residues).
    """
    ms2pip = require("ms2pip", "rerank-peptide[ms2pip]", "predicting intensities with ms2pip")
    psm_utils = require("psm_utils", "rerank-peptide[ms2pip]", "predicting intensities with ms2pip")
    usable = [
        i
        for i, p in enumerate(peptides)
        if 3 <= sum(not is_terminal(t) for t in p) <= 98 and "[+" not in to_proforma(p) and "[-" not in to_proforma(p)
    ]
    psms = [psm_utils.PSM(peptidoform=f"{to_proforma(peptides[i])}/{charges[i]}", spectrum_id=str(i)) for i in usable]
    out: list[NDArray[np.float32] | None] = [None] * len(peptides)
    if not psms:
        return out
    results = ms2pip.predict_batch(psm_utils.PSMList(psm_list=psms), model="HCDch2", processes=processes)
    for result in results:
        if result.predicted_intensity:
            p = result.predicted_intensity
            stacked = np.stack([p["b"], p["y"][::-1], p["b2"], p["y2"][::-1]], axis=1)
            out[int(result.psm.spectrum_id)] = np.clip(np.exp2(stacked) - 0.001, 0, None).astype(np.float32)
    return out

"""Named features of candidates: the spectrum's evidence, the peptide's plausibility, the engines' opinion, the list.

Every within-list feature comes in two more forms, the difference to the list's best and the z-score, so that a tree
sees whether a candidate stands out. Engines enter only through ranks, votes and standardised scores: a model
trained on some engines works on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from rerank_core.types import FloatArray, Request
from rerank_peptide import intensity, peaks
from rerank_peptide.fragments import FRAGMENT_FEATURES, consensus, fragment_features
from rerank_peptide.masses import ISOTOPE, peptide_mass, plain, residue_masses
from rerank_peptide.spectra import Spectrum

PEPTIDE_FEATURES: Final = (
    "ppm", "isotope", "length", "tryptic", "missed_cleavages", "language", "language_mean", "charge", "n_terminal",
    "modified",
)  # fmt: skip
LIST_FEATURES: Final = ("rank", "score_z", "score_gap", "votes", "best_rank", "consensus", "n_candidates")
RELATIVE: Final = (
    "coverage", "explained", "explained_all", "top20_all", "evidence", "hyperscore", "pcc_log", "cosine_sqrt",
    "predicted_missing", "unexplained_odds",
    "explained_odds", "language", "error_spread", "consensus", "n_sites", "likelihood", "cosine",
    "both_coverage", "top10_all", "n_matched",
)  # fmt: skip
_ALPHABET: Final = "ACDEFGHKLMNPQRSTVWY"

IntensitySource = Literal["packaged", "ms2pip"]


@lru_cache(maxsize=1)
def _language() -> NDArray[np.float32]:
    from safetensors.numpy import load_file

    with resources.as_file(resources.files("rerank_peptide") / "weights" / "residues.safetensors") as path:
        return load_file(str(path))["trigram"]


_LETTER: Final = {c: i + 1 for i, c in enumerate(_ALPHABET)} | {"I": _ALPHABET.index("L") + 1}


@lru_cache(maxsize=100_000)
def language_score(letters: str) -> float:
    """Log-probability of a residue string under a trigram model of tryptic peptides (natural logarithm)."""
    table = _language()
    at = np.array([0, 0, *(_LETTER[c] for c in letters), 20])
    return float(table[at[:-2], at[1:-1], at[2:]].sum())


def precursor_error(spectrum: Spectrum, tokens: Sequence[str]) -> tuple[float, int]:
    """Return (|error| in ppm, isotope offset 0 or 1 that fits better)."""
    mass = peptide_mass(tokens)
    errors = [abs(spectrum.mass - mass - k * ISOTOPE) / spectrum.mass * 1e6 for k in (0, 1)]
    best = int(np.argmin(errors))
    return errors[best], best


def _peptide_row(spectrum: Spectrum, tokens: Sequence[str]) -> list[float]:
    letters = plain(tokens)
    ppm, isotope = precursor_error(spectrum, tokens)
    language = language_score(letters)
    missed = sum(a in "KR" and b != "P" for a, b in pairwise(letters))
    return [
        min(ppm, 1e4), isotope, len(letters), letters[-1:] in {"K", "R"}, missed, language,
        language / max(len(letters), 1), spectrum.charge, len(tokens) != len(letters),
        sum(len(t) > 1 and t != "C+57.021" for t in tokens),
    ]  # fmt: skip


def predict_intensities(
    peptides: Sequence[Sequence[str]], charges: Sequence[int], source: IntensitySource
) -> list[Any]:
    """Predict b and y intensities of peptides, one array a peptide; see [`rerank_peptide.intensity`][]."""
    own = intensity.packaged()([intensity.encode(p) for p in peptides], charges)
    if source == "packaged":
        return list(own)
    exact = intensity.ms2pip_intensities(peptides, charges)
    return [o if e is None else e for o, e in zip(own, exact, strict=True)]


def spectrum_features(
    spectrum: Spectrum,
    peptides: Sequence[Sequence[str]],
    predicted: Sequence[NDArray] | None = None,
    *,
    tolerance: float = 0.02,
    odds: FloatArray | None = None,
) -> FloatArray:
    """Fragment and peptide features, shape (n_candidates, 44); ``odds`` of `peaks` where they are at hand."""
    if predicted is None:
        predicted = predict_intensities(peptides, [spectrum.charge] * len(peptides), "packaged")
    residues = [residue_masses(p) for p in peptides]
    if odds is None:
        odds = peaks.packaged()(spectrum, tolerance).astype(np.float64)
    fragments = fragment_features(
        spectrum.mz, spectrum.intensity, odds, residues, spectrum.charge, predicted, spectrum.precursor_mz, tolerance
    )
    rows = np.array([_peptide_row(spectrum, p) for p in peptides], dtype=np.float64)
    return np.concatenate([fragments, rows], axis=1)


BASE_NAMES: Final = (*FRAGMENT_FEATURES, *PEPTIDE_FEATURES)


def relative(columns: dict[str, FloatArray], names: Sequence[str] = RELATIVE) -> dict[str, FloatArray]:
    """Add difference to the best and z-score of the named columns."""
    out = dict(columns)
    for name in names:
        if name in columns:
            v = columns[name]
            spread = v.std()
            out[f"{name}.gap"] = v - v.max()
            out[f"{name}.z"] = (v - v.mean()) / spread if spread > 0 else np.zeros_like(v)
    return out


def _list_columns(request: Request[Spectrum, Any], residues: Sequence[FloatArray]) -> dict[str, FloatArray]:
    n = len(request.candidates)
    ranks = [[v for k, v in c.features.items() if k.startswith("rank:")] for c in request.candidates]
    engines = {k for c in request.candidates for k in c.features if k.startswith("rank:")}
    votes = np.array([max(len(r), 1) for r in ranks]) / max(len(engines), 1)
    best_rank = np.array([min(r, default=i + 1.0) for i, r in enumerate(ranks)])
    score = request.first_stage()
    spread = score.std()
    order = np.empty(n)
    order[np.lexsort((np.arange(n), -score))] = np.arange(n)
    return {
        "rank": np.log1p(order),
        "score_z": (score - score.mean()) / spread if spread > 0 else np.zeros(n),
        "score_gap": (score - score.max()) / (np.ptp(score) or 1.0),
        "votes": votes,
        "best_rank": np.log1p(best_rank),
        "consensus": consensus(residues, 1.0 / best_rank),
        "n_candidates": np.full(n, float(n)),
    }


class SpectrumFeatures:
    """Feature extractor of the app: spectrum, peptide and list features of every candidate.

    Parameters
    ----------
    source
        Where predicted intensities come from: the packaged network, or ``ms2pip`` (extra).
    tolerance
        Fragment tolerance in Da.
    """

    def __init__(self, source: IntensitySource = "packaged", tolerance: float = 0.02) -> None:
        self.source, self.tolerance = source, tolerance
        self.__qualname__ = f"SpectrumFeatures({source}, {tolerance})"

    def __call__(self, requests: Sequence[Request[Spectrum, Any]]) -> list[dict[str, FloatArray]]:
        flat = [c.content for r in requests for c in r.candidates]
        charges = [r.query.charge for r in requests for _ in r.candidates]
        predicted = predict_intensities(flat, charges, self.source)
        out: list[dict[str, FloatArray]] = []
        start = 0
        for request in requests:
            peptides = [c.content for c in request.candidates]
            part = predicted[start : start + len(peptides)]
            start += len(peptides)
            if not peptides:
                out.append({})
                continue
            base = spectrum_features(request.query, peptides, part, tolerance=self.tolerance)
            columns = {n: base[:, j] for j, n in enumerate(BASE_NAMES)}
            columns.update(_list_columns(request, [residue_masses(p) for p in peptides]))
            out.append(relative(columns))
        return out


def complete_scores(spectrum: Spectrum, peptides: Sequence[Sequence[str]], path_scores: FloatArray) -> FloatArray:
    """Score complete peptides of the graph engine by their features, shape (n,), higher is better."""
    from rerank_peptide.ranker import packaged_ranker

    if not peptides:
        return np.empty(0)
    return packaged_ranker("features").score_columns(complete_columns(spectrum, peptides, path_scores))


def complete_columns(
    spectrum: Spectrum, peptides: Sequence[Sequence[str]], path_scores: FloatArray
) -> dict[str, FloatArray]:
    """Features of the graph engine's own paths: without any list or engine opinion but the path's score."""
    base = spectrum_features(spectrum, peptides)
    columns = {n: base[:, j] for j, n in enumerate(BASE_NAMES)}
    columns["path"] = path_scores - path_scores.max()
    return relative(columns)

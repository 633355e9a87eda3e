"""The field's measures, on predictions read from a result file and labels read from the spectra.

Definitions are the DeepNovo/Casanovo family's (cumulative 0.5 Da, single residue 0.1 Da), with sums over spectra;
RankNovo's official evaluation swaps prediction and truth and averages batches of unequal size, which is not followed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from rerank_core.calibration import ece
from rerank_core.measures import PerRequest, Row, summarise
from rerank_core.types import FloatArray, Ranking, Request
from rerank_peptide.masses import is_terminal, masses_of
from rerank_peptide.matching import PROTEOBENCH, STANDARD, Tolerance, aa_match
from rerank_peptide.mztab import Prediction


@dataclass(frozen=True)
class Aggregate:
    """A measure over rows of numbers, one row a spectrum: its name and how rows become a value."""

    name: str
    function: Callable[[FloatArray], float]

    def rows(self, gold: Any, rankings: Any, requests: Any) -> dict[str, tuple[float, ...]]:
        """Not used: rows come from predictions."""
        raise NotImplementedError("this measure is computed from predictions")

    def aggregate(self, rows: FloatArray) -> float:
        """Return the value."""
        return self.function(rows)


def _ratio(rows: FloatArray) -> float:
    total = rows[:, 1].sum()
    return float(rows[:, 0].sum() / total) if total else math.nan


def _mean(rows: FloatArray) -> float:
    return float(rows[:, 0].mean()) if len(rows) else math.nan


def precision_coverage_auc(rows: FloatArray) -> float:
    """Area under precision over coverage; rows (match, score, answered).

    Spectra are answered in order of falling score; coverage counts all spectra, so that unanswered ones cost area.
    Ties are answered together.
    """
    answered = rows[rows[:, 2] > 0]
    if not len(answered):
        return 0.0
    order = np.argsort(-answered[:, 1], kind="stable")
    score, match = answered[order, 1], answered[order, 0]
    precision = np.cumsum(match) / np.arange(1, len(match) + 1)
    end = np.searchsorted(-score, -score, side="right") - 1
    coverage = np.concatenate([[0.0], np.arange(1, len(match) + 1) / len(rows)])
    return float(np.trapezoid(np.concatenate([[precision[end][0]], precision[end]]), coverage))


def _calibration_error(rows: FloatArray) -> float:
    known = rows[np.isfinite(rows[:, 0])]
    return ece(known[:, 0], known[:, 1]) if len(known) else math.nan


AGGREGATES: Final[dict[str, Callable[[FloatArray], float]]] = {
    "peptide_recall": _mean, "peptide_precision": _ratio, "aa_precision": _ratio, "aa_recall": _ratio,
    "auc": precision_coverage_auc, "oracle@1": _mean, "oracle@5": _mean, "oracle@20": _mean, "oracle@40": _mean,
    "ECE": _calibration_error, "ptm_recall": _ratio, "ptm_precision": _ratio, "peptide_recall_ppm": _mean,
    "aa_recall_ppm": _ratio, "peptide_recall_answerable": _ratio, "exact_recall": _mean,
}  # fmt: skip


def spectrum_rows(truth: Sequence[str], predictions: Sequence[Prediction]) -> dict[str, tuple[float, ...]]:
    """Judge one spectrum's predictions: measure name -> numbers that its aggregate wants."""
    t = masses_of(truth)
    first = predictions[0] if predictions else None
    flags, match = aa_match(t, masses_of(first.tokens), "best", STANDARD) if first else (np.zeros(0, bool), False)
    strict, strict_match = (
        aa_match(t, masses_of(first.tokens), "best", PROTEOBENCH) if first else (np.zeros(0, bool), False)
    )
    matches = [(p.first_rank, _matches(t, p, STANDARD)) for p in predictions]
    n_correct, n_pred = float(flags.sum()), float(len(first.tokens)) if first else 0.0
    ptm = _modified(truth, first, flags)
    found = any(m for _, m in matches)
    score = -math.inf
    if first:
        score = first.probability if first.probability is not None else first.score
        score = -math.inf if math.isnan(score) else score
    out: dict[str, tuple[float, ...]] = {
        "peptide_recall": (float(match),),
        "peptide_precision": (float(match), float(first is not None)),
        "aa_precision": (n_correct, n_pred),
        "aa_recall": (n_correct, float(len(truth))),
        "auc": (float(match), score, float(first is not None)),
        "ECE": (first.probability if first and first.probability is not None else math.nan, float(match)),
        "ptm_recall": (ptm[0], ptm[1]),
        "ptm_precision": (ptm[0], ptm[2]),
        "peptide_recall_ppm": (float(strict_match),),
        "aa_recall_ppm": (float(strict.sum()), float(len(truth))),
        "peptide_recall_answerable": (float(match), float(found)),
        "exact_recall": (float(bool(first) and _same(truth, first.tokens if first else ())),),
    }
    for k in (1, 5, 20, 40):
        out[f"oracle@{k}"] = (float(any(m for r, m in matches if r <= k)),)
    return out


def _matches(truth: FloatArray, prediction: Prediction, tolerance: Tolerance) -> bool:
    return aa_match(truth, masses_of(prediction.tokens), "best", tolerance)[1]


def _same(a: Sequence[str], b: Sequence[str]) -> bool:
    return "".join(a).replace("I", "L") == "".join(b).replace("I", "L")


def _modified(truth: Sequence[str], first: Prediction | None, flags: np.ndarray) -> tuple[float, float, float]:
    """Correct, true and predicted modified tokens; fixed carbamidomethylation does not count."""

    def at(tokens: Sequence[str]) -> dict[int, str]:
        return {i: t for i, t in enumerate(tokens) if t != "C+57.021" and (len(t) > 1 or is_terminal(t))}

    true = at(truth)
    if first is None:
        return 0.0, float(len(true)), 0.0
    predicted = at(first.tokens)
    # From either end: tokens after an insertion keep their distance from the C-terminus.
    shift = len(first.tokens) - len(truth)
    correct = sum(predicted.get(i) == t or predicted.get(i + shift) == t for i, t in true.items())
    return float(correct), float(len(true)), float(len(predicted))


def judge(
    labels: Mapping[str, Sequence[str]],
    predictions: Mapping[str, Sequence[Prediction]],
    *,
    system: str,
    seed: int = 0,
    n_boot: int = 1000,
    names: Sequence[str] = tuple(AGGREGATES),
) -> list[Row]:
    """Judge a result: every labelled spectrum counts, one without prediction as a miss.

    Parameters
    ----------
    labels
        Spectrum id -> true tokens.
    predictions
        Spectrum id -> predictions by rank.
    """
    rows = {i: spectrum_rows(t, predictions.get(i, ())) for i, t in labels.items()}
    out = []
    for name in names:
        column = {i: r[name] for i, r in rows.items()}
        if name == "ECE":
            column = {i: v for i, v in column.items() if not math.isnan(v[0])}
        if not column:  # a method without probabilities has no calibration error
            out.append(Row(system, name, math.nan, 0, math.nan, math.nan))
            continue
        out.append(summarise(Aggregate(name, AGGREGATES[name]), column, system=system, seed=seed, n_boot=n_boot))
    return out


def strata(
    by: str, labels: Mapping[str, Sequence[str]], missing: Mapping[str, int], charges: Mapping[str, int]
) -> dict[str, list[str]]:
    """Group spectrum ids by ``charge``, ``length`` (7-9, 10-12 ...) or ``missing`` fragmentation sites."""
    groups: dict[str, list[str]] = {}
    for i, tokens in labels.items():
        if by == "charge":
            key = f"charge={charges[i]}"
        elif by == "length":
            low = len(tokens) // 3 * 3
            key = f"length={low}-{low + 2}"
        else:
            key = f"missing={min(missing[i], 5)}{'+' if missing[i] >= 5 else ''}"
        groups.setdefault(key, []).append(i)
    return dict(sorted(groups.items()))


def _first_gain(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
    return gains.get(ranking.items[0].id, 0.0) if ranking.items else 0.0


PEPTIDE_RECALL = PerRequest("peptide_recall", _first_gain)
"""Share of spectra whose first candidate is right; the app's measure in demo and ablations."""

"""``rerank-peptide ablate``: the same spectra with one part of a reranker switched off a row."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.files import atomic_write, write_json
from rerank_core.learning import LambdaRankParams, cross_fit
from rerank_core.statistics import paired_bootstrap
from rerank_core.types import FloatArray
from rerank_peptide.config import AblateConfig, FitAxial, FitBase, read_config
from rerank_peptide.fit import training_table
from rerank_peptide.lists import Example, examples
from rerank_peptide.masses import masses_of
from rerank_peptide.matching import aa_match
from rerank_peptide.measures import precision_coverage_auc

FEATURE_GROUPS: Mapping[str, tuple[str, ...]] = {
    "intensity": ("pcc_log", "cosine", "cosine_sqrt", "predicted_missing", "top6_predicted", "likelihood"),
    "peak network": ("evidence", "unexplained_odds", "explained_odds"),
    "coverage": ("coverage", "b_coverage", "y_coverage", "both_coverage", "longest_run", "missing_sites", "long_gaps"),
    "explained intensity": ("explained", "explained_all", "top10", "top10_all", "top20_all", "top50_all", "hyperscore"),
    "language": ("language",),
    "precursor mass": ("ppm", "isotope"),
}

_LOSSES = {"pmd_weight": 0.0, "rmd_weight": 0.0, "list_weight": 0.0, "match_weight": 0.0}


def _only(**weights: float) -> dict[str, Any]:
    return _LOSSES | weights


WHOLE = "axial, whole"
AXIAL_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    WHOLE: {},
    "axial, no column attention": {"columns": False},
    "axial, no cross-attention to the spectrum": {"cross": False},
    "axial, no evidence": {"evidence": False},
    "axial, neither spectrum nor evidence": {"cross": False, "evidence": False},
    "axial, no match head": {"match_weight": 0.0},
    "axial, PMD only": _only(pmd_weight=1.0),
    "axial, RMD only": _only(rmd_weight=1.0),
    "axial, list-wise only": _only(list_weight=1.0),
    "axial, match only": _only(match_weight=1.0),
    "axial, PMD + RMD, lambda 0.1": _only(pmd_weight=1.0, rmd_weight=0.1),
    "axial, PMD + RMD, lambda 1": _only(pmd_weight=1.0, rmd_weight=1.0),
    "axial, PMD + RMD, lambda 10": _only(pmd_weight=1.0, rmd_weight=10.0),
}


def hits(lists: Sequence[Example], scores: Sequence[FloatArray]) -> dict[str, float]:
    """Whether the best-scored candidate of every list is right."""
    return {e.request.id: float(e.gains()[int(np.argmax(s))]) for e, s in zip(lists, scores, strict=True)}


def row(
    name: str,
    lists: Sequence[Example],
    scores: Sequence[FloatArray],
    base: Mapping[str, float],
    whole: Mapping[str, float] | None,
    seconds: float,
) -> dict[str, Any]:
    """Judge scores of lists: recall, gain over the engine, change against the whole method, amino acids, AUC, seconds."""
    tops = [int(np.argmax(s)) for s in scores]
    hit = hits(lists, scores)
    correct = predicted = true = 0
    for e, t in zip(lists, tops, strict=True):
        flags, _ = aa_match(masses_of(e.truth), masses_of(e.request.candidates[t].content))
        correct, predicted, true = (
            correct + int(flags.sum()),
            predicted + len(e.request.candidates[t].content),
            true + len(e.truth),
        )
    curve = np.array([[hit[e.request.id], s[t], 1.0] for e, s, t in zip(lists, scores, tops, strict=True)])
    diff, low, high, p = paired_bootstrap(hit, base)
    change = (None, None, None) if whole is None else paired_bootstrap(hit, whole)[:3]
    return {
        "row": name, "n": len(lists), "peptide_recall": float(np.mean(list(hit.values()))),
        "aa_precision": correct / predicted, "aa_recall": correct / true, "auc": precision_coverage_auc(curve),
        "gain": diff, "gain_low": low, "gain_high": high, "p": p,
        "change": change[0], "change_low": change[1], "change_high": change[2], "seconds": round(seconds, 2),
    }  # fmt: skip


def ablate(path: Path, out: Path, *, seed: int = 0) -> list[dict[str, Any]]:
    """Run the rows a configuration asks for; writes ``ablation.csv`` and ``ablation.json``."""
    config: AblateConfig = read_config(path, AblateConfig)
    data = FitBase(real=config.real, simulated=config.simulated, seed=seed, folds=config.folds)
    if not data.real and data.simulated is None:
        raise InputError("names no data; give real, simulated or both", path)
    kinds = ("engines",) if any(r.candidates for r in config.real) else ("graph",)
    lists = [e for e in examples(data, kinds) if e.request.candidates]
    if not lists:
        raise InputError("the data give no candidate lists", path)
    base = {e.request.id: float(e.gains()[int(np.argmax(e.request.first_stage()))]) for e in lists}
    rows: list[dict[str, Any]] = []
    whole: dict[str, dict[str, float]] = {}

    def add(name: str, score: Callable[[], Sequence[FloatArray]]) -> None:
        start = time.process_time()
        scores = score()
        seconds = time.process_time() - start
        # The first row of a family ("axial, ...") is the whole that the others are a part of.
        family = name.split(",")[0]
        rows.append(row(name, lists, scores, base, whole.get(family), seconds))
        whole.setdefault(family, hits(lists, scores))
        print(f"{name}: {rows[-1]['peptide_recall']:.3f}", file=sys.stderr, flush=True)

    _methods(config, lists, add)
    if config.features:
        _features(config, lists, add, seed)
    if config.axial is not None:
        _axial(config.axial, lists, add, out, config.k)
    rows.append(_oracle(lists, base))
    write_json(out / "ablation.json", rows)
    with atomic_write(out / "ablation.csv") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return rows


_Add = Callable[[str, Callable[[], Sequence[FloatArray]]], None]


def _methods(config: AblateConfig, lists: Sequence[Example], add: _Add) -> None:
    from rerank_peptide.domain import domain

    requests = [e.request for e in lists]
    for name in config.methods:
        reranker = domain.method(name)

        def score(reranker: Any = reranker) -> list[FloatArray]:
            out = []
            for request, ranking in zip(requests, reranker.rerank(requests), strict=True):
                by_id = {x.id: -np.inf if x.score is None else x.score for x in ranking.items}
                out.append(np.array([by_id[c.id] for c in request.candidates]))
            return out

        add(name, score)
    if "features" in config.methods:
        _depths(config.k, "features", lists, lambda cut: domain.method("features").rerank(cut), add)


def _depths(
    depths: Sequence[int],
    name: str,
    lists: Sequence[Example],
    rerank: Callable[[Sequence[Any]], Sequence[Any]],
    add: _Add,
) -> None:
    """Rerank the first K candidates of every list."""
    for k in depths:

        def first(k: int = k) -> list[FloatArray]:
            cut = [e.request.take(e.request.ids[:k]) for e in lists]
            out = []
            for e, ranking in zip(lists, rerank(cut), strict=True):
                by_id = {x.id: x.score for x in ranking.items}
                out.append(np.array([by_id.get(i, -1e9) for i in e.request.ids], dtype=np.float64))
            return out

        add(f"{name}, K={k}", first)


def _features(config: AblateConfig, lists: Sequence[Example], add: _Add, seed: int) -> None:
    table, gains = training_table(lists)
    groups = [e.group for e in lists]
    params = LambdaRankParams(n_estimators=100, learning_rate=0.06, min_child_samples=20, colsample_bytree=0.5)
    folds = min(config.folds, len(set(groups)))

    def without(dropped: Sequence[str]) -> list[FloatArray]:
        names = [n for n in table.names if n.partition(".")[0] not in dropped]
        return table.split(cross_fit(table.aligned(names), gains, groups, folds, params, seed))

    add("cross-fitted features, whole", lambda: without(()))
    for name, columns in FEATURE_GROUPS.items():
        add(f"cross-fitted features, without {name}", lambda columns=columns: without(columns))  # type: ignore[misc]


def _axial(config: FitAxial, lists: Sequence[Example], add: _Add, out: Path, depths: Sequence[int]) -> None:
    """Train each variant on the configuration's own data, then score the same lists; the whole one at every depth too."""
    from rerank_peptide.axial_fit import train_axial
    from rerank_peptide.axial_rerank import AxialRanker
    from rerank_peptide.shards import ListStore

    tested = {e.group for e in lists}
    kept = [e for e in examples(config, config.lists) if e.group not in tested]
    if not kept:
        raise InputError("every group of the axial training data is among the tested spectra")
    training = ListStore.of(kept, config.max_peaks)
    for name, change in AXIAL_VARIANTS.items():
        folder = _folder(out, name)

        def score(change: Mapping[str, Any] = change, folder: Path = folder) -> list[FloatArray]:
            varied = config.model_copy(update=dict(change))
            train_axial(varied, training, None, folder)
            ranker = AxialRanker(str(folder), device=config.device)
            scores = ranker.scores([e.request for e in lists])
            if varied.match_weight or varied.pmd_weight or varied.list_weight:
                return scores
            # Where only the residues were trained, a candidate's mean |RMD| stands in.
            return [
                np.array([-np.mean(np.abs(ranker.residue_deviation[e.request.id, c.id])) for c in e.request.candidates])
                for e in lists
            ]

        add(name, score)
    ranker = AxialRanker(str(_folder(out, WHOLE)), device=config.device)
    _depths(depths, "axial", lists, ranker.rerank, add)


def _folder(out: Path, name: str) -> Path:
    return out / name.replace(", ", "-").replace(" ", "_").replace("+", "and")


def _oracle(lists: Sequence[Example], base: Mapping[str, float]) -> dict[str, Any]:
    return row("oracle", lists, [e.gains() for e in lists], base, None, 0.0)

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

AXIAL_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "axial, PMD + RMD + list-wise": {},
    "axial, PMD only": {"rmd_weight": 0.0, "list_weight": 0.0},
    "axial, RMD only": {"pmd_weight": 0.0, "list_weight": 0.0},
    "axial, PMD + RMD": {"list_weight": 0.0},
    "axial, list-wise only": {"pmd_weight": 0.0, "rmd_weight": 0.0},
    "axial, lambda 0.1": {"rmd_weight": 0.1, "list_weight": 0.0},
    "axial, lambda 10": {"rmd_weight": 10.0, "list_weight": 0.0},
    "axial, no column attention": {"columns": False},
    "axial, no spectrum": {"cross": False},
    "axial, no evidence": {"evidence": False},
}


def row(
    name: str, lists: Sequence[Example], scores: Sequence[FloatArray], base: Mapping[str, float], seconds: float
) -> dict[str, Any]:
    """Judge scores of lists: recall with its paired interval against the engine, amino acids, AUC, seconds."""
    tops = [int(np.argmax(s)) for s in scores]
    hit = {e.request.id: float(e.gains()[t]) for e, t in zip(lists, tops, strict=True)}
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
    return {
        "row": name, "n": len(lists), "peptide_recall": float(np.mean(list(hit.values()))),
        "aa_precision": correct / predicted, "aa_recall": correct / true, "auc": precision_coverage_auc(curve),
        "gain": diff, "gain_low": low, "gain_high": high, "p": p, "seconds": round(seconds, 2),
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

    def add(name: str, score: Callable[[], Sequence[FloatArray]]) -> None:
        start = time.process_time()
        rows.append(row(name, lists, score(), base, time.process_time() - start))
        print(f"{name}: {rows[-1]['peptide_recall']:.3f}", file=sys.stderr, flush=True)

    _methods(config, lists, add)
    if config.features:
        _features(config, lists, add, seed)
    if config.axial is not None:
        _axial(config.axial, lists, add, out)
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
    best = "features" if "features" in config.methods else config.methods[-1]
    reranker = domain.method(best)
    for k in config.k:

        def first(k: int = k) -> list[FloatArray]:
            cut = [e.request.take(e.request.ids[:k]) for e in lists]
            out = []
            for e, ranking in zip(lists, reranker.rerank(cut), strict=True):
                by_id = {x.id: x.score for x in ranking.items}
                out.append(np.array([by_id.get(i, -1e9) for i in e.request.ids], dtype=np.float64))
            return out

        add(f"{best}, K={k}", first)


def _features(config: AblateConfig, lists: Sequence[Example], add: _Add, seed: int) -> None:
    table, gains = training_table(lists)
    groups = [e.group for e in lists]
    params = LambdaRankParams(n_estimators=100, learning_rate=0.06, min_child_samples=20, colsample_bytree=0.5)
    folds = min(config.folds, len(set(groups)))

    def without(dropped: Sequence[str]) -> list[FloatArray]:
        names = [n for n in table.names if n.partition(".")[0] not in dropped]
        return table.split(cross_fit(table.aligned(names), gains, groups, folds, params, seed))

    add("features, cross-fitted", lambda: without(()))
    for name, columns in FEATURE_GROUPS.items():
        add(f"features without {name}", lambda columns=columns: without(columns))  # type: ignore[misc]


def _axial(config: FitAxial, lists: Sequence[Example], add: _Add, out: Path) -> None:
    """Train each variant on the configuration's own data, then score the same lists."""
    from rerank_peptide.axial_fit import train_axial
    from rerank_peptide.axial_rerank import AxialRanker
    from rerank_peptide.shards import ListStore

    tested = {e.group for e in lists}
    kept = [e for e in examples(config, config.lists) if e.group not in tested]
    if not kept:
        raise InputError("every group of the axial training data is among the tested spectra")
    training = ListStore.of(kept, config.max_peaks)
    for name, change in AXIAL_VARIANTS.items():
        folder = out / name.replace(", ", "-").replace(" ", "_").replace("+", "and")

        def score(change: Mapping[str, Any] = change, folder: Path = folder) -> list[FloatArray]:
            varied = config.model_copy(update=dict(change))
            train_axial(varied, training, None, folder)
            ranker = AxialRanker(str(folder), device=config.device)
            scores = ranker.scores([e.request for e in lists])
            if varied.pmd_weight or varied.list_weight:
                return scores
            # Without a PMD head the mean |RMD| of a candidate stands in.
            return [
                np.array([-np.mean(np.abs(ranker.residue_deviation[e.request.id, c.id])) for c in e.request.candidates])
                for e in lists
            ]

        add(name, score)


def _oracle(lists: Sequence[Example], base: Mapping[str, float]) -> dict[str, Any]:
    return row("oracle", lists, [e.gains() for e in lists], base, 0.0)

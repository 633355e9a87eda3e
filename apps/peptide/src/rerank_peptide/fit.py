"""``rerank-peptide fit``: LambdaRank over features, the axial network, the small transformer engine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.files import write_json
from rerank_core.learning import FeatureTable, LambdaRank, LambdaRankParams, feature_table
from rerank_core.types import FloatArray
from rerank_peptide.config import FitAxial, FitConfig, FitFeatures, FitTransformer, read_config
from rerank_peptide.features import SpectrumFeatures
from rerank_peptide.lists import Example, examples
from rerank_peptide.probabilities import calibrate


def fit(path: Path, out: Path, *, resume: bool = True) -> None:
    """Fit what a configuration names into a folder.

    Raises
    ------
    InputError
        When the configuration or its data cannot be used.
    """
    config = read_config(path, FitConfig)
    if not config.real and config.simulated is None:
        raise InputError("names no data; give real, simulated or both", path)
    if isinstance(config, FitFeatures):
        fit_features(config, out)
    elif isinstance(config, FitAxial):
        from rerank_peptide.axial_fit import fit_axial

        fit_axial(config, out, resume=resume)
    elif isinstance(config, FitTransformer):
        from rerank_peptide.engines.transformer import fit_transformer

        fit_transformer(config, out, resume=resume)


# What the list itself tells (agreement, rank, number) depends on how a training list was made; a model that has to
# work on any engine's lists learns from spectrum and peptide only.
LIST_ONLY = (
    "rank", "score_z", "score_gap", "votes", "best_rank", "consensus", "consensus.gap", "consensus.z", "n_candidates",
)  # fmt: skip


def training_table(lists: Sequence[Example], intensity: Any = "packaged") -> tuple[FeatureTable, FloatArray]:
    """Features and gains of lists, in their order."""
    requests = [e.request for e in lists]
    found = SpectrumFeatures(intensity)(requests)
    bare = [replace(r, candidates=tuple(replace(c, features={}) for c in r.candidates)) for r in requests]
    table = feature_table(bare, lambda _: found)
    names = tuple(n for n in table.names if n not in LIST_ONLY)
    return table.aligned(names), np.concatenate([e.gains() for e in lists])


def fit_features(config: FitFeatures, out: Path) -> None:
    """Fit LambdaRank, cross-fit by group for honest scores, calibrate on those, save."""
    lists = examples(config, config.lists)
    if not lists:
        raise InputError("the data give no list of two candidates")
    table, gains = training_table(lists, config.intensity)
    params = LambdaRankParams(
        n_estimators=config.trees, learning_rate=config.learning_rate, num_leaves=config.leaves,
        min_child_samples=30, colsample_bytree=0.5, truncation_level=5,
    )  # fmt: skip
    save_ranker(out, table, gains, lists, params, config.folds, config.seed)


def save_ranker(
    out: Path,
    table: FeatureTable,
    gains: FloatArray,
    lists: Sequence[Example],
    params: LambdaRankParams,
    folds: int,
    seed: int,
) -> None:
    """Fit on all lists, cross-fit for calibration on lists an engine made, and write the folder."""
    groups = [e.group for e in lists]
    folds = min(folds, len(set(groups)))
    honest = out_of_fold(table, gains, groups, folds, params, seed)
    natural = [i for i, e in enumerate(lists) if e.kind != "mutated"] or list(range(len(lists)))
    calibration, figures = calibrate(
        [table.split(honest)[i] for i in natural], [table.split(gains)[i] for i in natural]
    )
    LambdaRank(params).fit(table, gains, seed).save(out)
    write_json(out / "calibration.json", {"knots": calibration.knots, "values": calibration.values})
    write_json(out / "fit.json", {"lists": len(lists), "groups": len(set(groups)), "folds": folds, **figures})
    print(f"{len(lists)} lists, {len(set(groups))} groups; out of fold: {figures} -> {out}", file=sys.stderr)


def out_of_fold(
    table: FeatureTable, gains: FloatArray, groups: Sequence[str], folds: int, params: LambdaRankParams, seed: int
) -> FloatArray:
    """Scores of every list by a model that saw nothing of its group, shape (n_rows,)."""
    from rerank_core.learning import cross_fit

    return cross_fit(table, gains, groups, folds, params, seed)

"""The work behind ``rerank-summary fit``: fit, save, and judge out of fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError
from rerank_summary.data import Record
from rerank_summary.evaluate import evaluate
from rerank_summary.importers import read
from rerank_summary.learned import TARGETS, LearnedReranker, fit
from rerank_summary.rouge import flavour


def fit_and_judge(
    files: Sequence[Path], out: Path, targets: Mapping[str, float] | None = None, folds: int = 5, seed: int = 0
) -> list[dict[str, Any]]:
    """Fit on all files together, save, and evaluate each file out of fold.

    Raises
    ------
    InputError
        When a file gives no target for any document, or there are too few documents.
    """
    per_file: dict[str, list[Record]] = {str(p): list(read(p)) for p in files}
    for name, records in per_file.items():
        if not any(r.references or r.human for r in records):
            raise InputError("has neither references nor human scores to learn from", name)
    ensemble = fit([r for rs in per_file.values() for r in rs], targets=targets or TARGETS, folds=folds, seed=seed)
    ensemble.save(out)
    rows: list[dict[str, Any]] = []
    for name, records in per_file.items():
        judged = [r for r in records if r.references or r.human]
        systems = {
            "learned (out of fold)": LearnedReranker("learned", ensemble),
            "default (out of fold)": LearnedReranker("default", ensemble, 0.5),
        }
        rankings = {k: {x.id: x for x in v.rerank([r.request for r in judged])} for k, v in systems.items()}
        found = [f.as_dict() for f in evaluate(judged, rankings, flavour(), seed=seed)]
        rows += [{**row, "subset": Path(name).name} for row in found] if len(per_file) > 1 else found
    return rows

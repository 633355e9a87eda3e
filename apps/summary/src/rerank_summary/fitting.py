"""The work behind ``rerank-summary fit`` and ``train``: fit, save, and judge out of fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError, UsageError
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


def train_files(
    kind: str,
    files: Sequence[Path],
    out: Path,
    model: str | None,
    updates: int,
    config: Mapping[str, Any],
    seed: int = 0,
) -> Iterator[str]:
    """Train a scorer and save it into a folder; yields lines that say how it goes.

    Raises
    ------
    UsageError
        For an unknown kind or setting, a missing base model, or a folder that is there already.
    """
    if kind not in ("brio", "simcls", "experts"):
        raise UsageError(f"unknown kind {kind!r}; known: brio, simcls, experts")
    if out.exists():
        raise UsageError(f"{out} exists already; name a new folder")
    records = [r for p in files for r in read(p)]
    if kind == "experts":
        from rerank_summary.experts import ExpertParams, fit_experts

        settings = {**config, **({"tasks": tuple(config["tasks"])} if "tasks" in config else {})}
        fit_experts(records, _params(ExpertParams, settings), seed).save(out)
        yield f"experts -> {out}"
        return
    if not model:
        raise UsageError(f"training {kind} starts from a model: --model FOLDER_OR_HUB_NAME")
    from rerank_summary import training

    examples = training.examples_of(records)
    if kind == "brio":
        from rerank_summary.likelihood import Seq2Seq

        scorer = Seq2Seq.load(model)
        brio = _params(training.BrioParams, config)
        history = training.train(
            scorer.model, lambda e: training.brio_step(scorer, e, brio), examples, brio, updates=updates, seed=seed
        )
        saved: Any = scorer
    else:
        from rerank_summary.simcls import SimCls

        encoder = SimCls.load(model)
        simcls = _params(training.SimClsParams, config)
        history = training.train(
            encoder.model,
            lambda e: training.simcls_step(encoder, e, simcls),
            examples,
            simcls,
            updates=updates,
            seed=seed,
        )
        saved = encoder
    yield (
        f"{len(history.loss)} updates: loss {history.loss[0]:.3f} -> {history.loss[-1]:.3f}, "
        f"tau with ROUGE {history.tau[0]:+.2f} -> {history.tau[-1]:+.2f}"
    )
    if history.collapsed:
        yield f"collapsed: {history.collapsed}"
    saved.model.save_pretrained(out)
    saved.tokenizer.save_pretrained(out)
    yield f"{kind} -> {out}"


def _params(kind: type[Any], config: Mapping[str, Any]) -> Any:
    try:
        return kind(**config)
    except TypeError as error:
        known = ", ".join(kind.__dataclass_fields__)
        raise UsageError(f"{error}; settings: {known}") from None

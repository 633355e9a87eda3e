"""Training of the axial network: resumable, clipped, warmed up, on one device or several processes.

RankNovo's training code is not public. Its labels are (PMD and RMD, real-valued) and its optimiser's settings are;
the form of the loss is our choice: SmoothL1 on both, plus an optional list-wise term that compares softmax(-PMD)
of prediction and label, plus, for the match head, the cross-entropy of "this candidate" or "none of these".
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from os import environ
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rerank_core.files import atomic_path, read_json, write_json
from rerank_core.reranker import digest
from rerank_core.types import FloatArray
from rerank_lm.training.parallel import Processes, processes
from rerank_peptide import axial_predict
from rerank_peptide.axial import AxialModel, AxialParams, Prediction, parameter_count
from rerank_peptide.axial_io import load_model, save_model
from rerank_peptide.axial_rerank import pick_device
from rerank_peptide.config import FitAxial
from rerank_peptide.probabilities import calibrate, posterior
from rerank_peptide.shards import Arrays, ListStore, prepare

Batch = dict[str, Tensor]


def axial_loss(said: Prediction, batch: Batch, config: FitAxial) -> Tensor:
    """Loss of a batch.

    Parameters
    ----------
    said
        The network's output.
    batch
        Labels ``pmd``, ``match`` (batch, rows) and ``rmd`` (batch, rows, columns); ``is_row`` and ``is_residue`` say
        where they exist.
    """
    rows, residues, pmd = batch["is_row"], batch["is_residue"], batch["pmd"]
    smooth = torch.nn.functional.smooth_l1_loss
    total = said.pmd.new_zeros(())
    if config.pmd_weight:
        total = total + config.pmd_weight * smooth(said.pmd[rows], pmd[rows])
    if config.rmd_weight:
        total = total + config.rmd_weight * smooth(said.rmd[residues], batch["rmd"][residues])
    if config.list_weight:
        target = (-pmd / config.temperature).masked_fill(~rows, -math.inf).softmax(dim=1)
        log_said = (-said.pmd).masked_fill(~rows, -1e4).log_softmax(dim=1)
        total = total - config.list_weight * (target * log_said).sum(dim=1).mean()
    if said.match is not None and config.match_weight:
        none = said.match.new_zeros(len(rows), 1)
        log_said = torch.cat([none, said.match.masked_fill(~rows, -1e4)], dim=1).log_softmax(dim=1)
        right = batch["match"]
        target = torch.cat([(right.sum(dim=1, keepdim=True) == 0).to(right), right], dim=1)
        target = target / target.sum(dim=1, keepdim=True)
        total = total - config.match_weight * (target * log_said).sum(dim=1).mean()
    return total


def _rate(step: int, config: FitAxial) -> float:
    warm = max(1, int(config.warmup * config.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, config.steps - warm))))


class _Steps(torch.utils.data.Dataset[Arrays]):
    """Batch of every step: what is drawn depends on seed and step only, so that a resumed run agrees."""

    def __init__(self, store: ListStore, config: FitAxial, rank: int = 0, size: int = 1) -> None:
        self.store, self.config, self.rank, self.size = store, config, rank, size

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Arrays:
        n, size, seed = len(self.store), min(self.config.batch_size, len(self.store)), self.config.seed
        epoch, at = divmod(step, max(1, n // size))
        order = np.random.default_rng([seed, epoch]).permutation(n)
        chosen = order[at * size : (at + 1) * size][self.rank :: self.size]
        return self.store.batch(chosen, self.config.rows, np.random.default_rng([seed, 7, step, self.rank]))


def _loader(steps: _Steps, start: int, workers: int) -> Iterator[Batch]:
    loader = torch.utils.data.DataLoader(
        steps, batch_size=None, sampler=range(start, len(steps)), num_workers=workers if workers > 1 else 0,
        collate_fn=lambda arrays: {k: torch.from_numpy(v) for k, v in arrays.items()},
        multiprocessing_context="fork" if workers > 1 else None,
    )  # fmt: skip
    return iter(loader)


def fit_axial(config: FitAxial, out: Path, *, resume: bool = True) -> None:
    """Make the lists, train, checkpoint, calibrate and save ``axial.safetensors``.

    An interrupted run goes on from its last checkpoint and draws the batches it would have drawn; a checkpoint of
    another configuration is left alone and reported. One group in ten is held out to calibrate on; with
    ``config.cross_fit`` every list is scored by a model that saw nothing of its group, and the final model sees all.
    """
    with processes() as team:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(environ.get("LOCAL_RANK", "0")))
        if team.first:
            prepare(config, out / "lists", config.lists)
        team.wait()
        store = ListStore.open(out / "lists")
        fold = store.column("group").astype(np.int64) % (config.folds if config.cross_fit else 10)
        if config.cross_fit:
            _cross_fit(config, store, fold, out, resume, team)
        else:
            train_axial(config, store.select(fold != 0), store.select(fold == 0), out, resume=resume, team=team)


def _cross_fit(
    config: FitAxial, store: ListStore, fold: NDArray[np.int64], out: Path, resume: bool, team: Processes
) -> None:
    scores: list[FloatArray] = [np.empty(0)] * len(store)
    matches = [np.empty(0)] * len(store)
    for k in range(config.folds):
        model = train_axial(config, store.select(fold != k), None, out / f"fold{k}", resume=resume, team=team)
        held = np.flatnonzero(fold == k)
        for i, (pmd, match) in zip(held, predict(model, store.select(held), config.device), strict=True):
            scores[i], matches[i] = -pmd, match
    train_axial(config, store, None, out, resume=resume, team=team)
    if team.first:
        np.savez(
            out / "out_of_fold.npz", pmd=np.concatenate(scores), match=np.concatenate(matches),
            sizes=np.array([len(s) for s in scores]), kind=store.column("kind"), fold=fold,
        )  # fmt: skip
        _calibrated(out, store, scores, matches, config)


def _model(config: FitAxial, train: ListStore) -> AxialModel:
    if config.start is not None:
        return load_model(config.start)[0]
    model = AxialModel(
        AxialParams(
            config.dim, config.heads, config.feedforward, config.encoder_layers, config.decoder_layers, config.dropout,
            columns=config.columns, cross=config.cross, max_peaks=config.max_peaks, evidence=config.evidence,
            match=config.match_weight > 0,
        )
    )  # fmt: skip
    if model.evidence is not None:
        mean, scale = train.moments()
        model.evidence.mean.copy_(torch.from_numpy(mean))
        model.evidence.scale.copy_(torch.from_numpy(scale))
    return model


def train_axial(
    config: FitAxial,
    train: ListStore,
    held: ListStore | None,
    out: Path,
    *,
    resume: bool = True,
    team: Processes = Processes(),
) -> AxialModel:
    """Train on lists, alone or as one of several processes that share every batch; ``held`` calibrates."""
    torch.manual_seed(config.seed)
    device = pick_device(config.device)
    model = _model(config, train).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    start = _restore(out, model, optimiser, config, device) if resume else 0
    if team.first:
        print(f"{len(train)} lists, {parameter_count(model):,} parameters, {device}, step {start}", file=sys.stderr)
    begun = time.monotonic()
    half = config.precision == "bfloat16" or (config.precision == "auto" and device == "cuda")
    model.train()
    step = start
    for step, arrays in enumerate(_loader(_Steps(train, config, team.rank, team.size), start, config.workers), start):
        late = config.minutes is not None and _any(time.monotonic() - begun > 60 * config.minutes, team)
        if team.first and step > start and (late or step % config.checkpoint_every == 0):
            _checkpoint(out, model, optimiser, step, config)
        if late:
            break
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config)
        # Dropout too must not depend on where a run was interrupted.
        torch.manual_seed(config.seed * 1_000_003 + step)
        batch = {k: v.to(device, non_blocking=True) for k, v in arrays.items()}
        with torch.autocast(device, torch.bfloat16, enabled=half):
            said = model(*_inputs(batch))
        loss = axial_loss(_float(said), batch, config)
        optimiser.zero_grad()
        loss.backward()
        _average(model, team)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        if torch.isfinite(norm):  # as in the official configuration: a step with NaN gradients is left out
            optimiser.step()
        if team.first and step % 50 == 0:
            print(
                _progress(step, float(loss.detach()), time.monotonic() - begun, start, config),
                file=sys.stderr,
                flush=True,
            )
    else:
        if team.first and config.steps > start:
            _checkpoint(out, model, optimiser, config.steps, config)
    model.eval()
    if team.first:
        _save(out, model, config)
        if held is not None and len(held):
            said_held = predict(model, held, config.device)
            _calibrated(out, held, [-p for p, _ in said_held], [m for _, m in said_held], config)
    return model


def _progress(step: int, loss: float, seconds: float, start: int, config: FitAxial) -> str:
    left = seconds / max(1, step - start) * (config.steps - step)
    return f"step {step}/{config.steps} loss {loss:.4f} ({seconds:.0f} s, {left:.0f} s left)"


def _inputs(batch: Batch) -> tuple[Tensor, ...]:
    return tuple(batch[k] for k in ("peaks", "mass", "charge", "tokens", "sites", "summary"))


def _float(said: Prediction) -> Prediction:
    return replace(
        said, pmd=said.pmd.float(), rmd=said.rmd.float(), match=None if said.match is None else said.match.float()
    )


def _average(model: AxialModel, team: Processes) -> None:
    team.add_up(model.parameters(), 0.0)
    if team.size > 1:
        for p in model.parameters():
            if p.grad is not None:
                p.grad /= team.size


def _any(here: bool, team: Processes) -> bool:
    """Whether any process says so: all of them stop at the same step."""
    return team.add_up((), float(here)) > 0


def predict(
    model: AxialModel, store: ListStore, device: str = "auto", batch_size: int = 64
) -> list[tuple[FloatArray, FloatArray]]:
    """Return predicted PMD and match logits (empty without that head) of every list's candidates, in their order."""
    device = pick_device(device)
    model.eval().to(device)
    out: list[tuple[FloatArray, FloatArray]] = []
    for begin in range(0, len(store), batch_size):
        chosen = list(range(begin, min(begin + batch_size, len(store))))
        arrays = store.batch(chosen, 10**6, None)
        with torch.inference_mode():
            said = axial_predict.predict(
                model, *_inputs({k: torch.from_numpy(v).to(device) for k, v in arrays.items()})
            )
        pmd = said.pmd.float().cpu().numpy().astype(np.float64)
        match = None if said.match is None else said.match.float().cpu().numpy().astype(np.float64)
        for row, there in enumerate(arrays["is_row"]):
            out.append((pmd[row][there], np.empty(0) if match is None else match[row][there]))
    return out


def _portable(value: Any) -> Any:
    """Leave the file names of a configuration's paths: a checkpoint is passed on, folders are nobody's business."""
    if isinstance(value, dict):
        return {k: _portable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_portable(v) for v in value]
    return Path(value).name if isinstance(value, str) and "/" in value else value


def _save(out: Path, model: AxialModel, config: FitAxial, extra: dict[str, str] | None = None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "axial.safetensors") as path:
        save_model(path, model, {"config": json.dumps(_portable(config.model_dump(mode="json"))), **(extra or {})})


def _calibrated(
    out: Path, store: ListStore, scores: list[FloatArray], matches: list[FloatArray], config: FitAxial
) -> None:
    """Fit probabilities on lists that an engine made, and write them into the checkpoint."""
    mutated = config.lists.index("mutated") if "mutated" in config.lists else -1
    natural = [i for i, k in enumerate(store.column("kind")) if k != mutated]
    if len(natural) < 20:
        return
    gains = [store.gains(i) for i in natural]
    calibration, figures = calibrate([scores[i] for i in natural], gains)
    extra = {"calibration": json.dumps({"knots": calibration.knots, "values": calibration.values})}
    report: dict[str, Any] = {"held_out_lists": len(natural), **figures}
    if matches[natural[0]].size:
        at = [matches[i] for i in natural]
        by_match, said = calibrate(at, gains, posterior)
        extra["match_calibration"] = json.dumps({"knots": by_match.knots, "values": by_match.values})
        report |= {f"match_{k}": v for k, v in said.items()}
    model, _ = load_model(out / "axial.safetensors")
    _save(out, model, config, extra)
    write_json(out / "fit.json", report | {"params": asdict(model.params)})
    print(f"held out: {report} -> {out / 'axial.safetensors'}", file=sys.stderr)


def _fingerprint(config: FitAxial) -> str:
    return digest(config.model_dump(mode="json", exclude={"minutes", "checkpoint_every", "workers"}))


def _checkpoint(out: Path, model: AxialModel, optimiser: Any, step: int, config: FitAxial) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "last.pt") as path:
        torch.save({"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, path)
    write_json(out / "last.json", {"step": step, "configuration": _fingerprint(config)})


def _restore(out: Path, model: AxialModel, optimiser: Any, config: FitAxial, device: str) -> int:
    if not (out / "last.pt").is_file() or not (out / "last.json").is_file():
        return 0
    if read_json(out / "last.json").get("configuration") != _fingerprint(config):
        print(f"note: {out / 'last.pt'} is another configuration's; starting afresh", file=sys.stderr)
        return 0
    state = torch.load(out / "last.pt", map_location=device, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])

"""Training of the axial network: resumable, clipped, warmed up, on one device or several.

RankNovo's training code is not public. Its labels are (PMD and RMD, real-valued) and its optimiser's settings are;
the form of the loss is our choice: SmoothL1 on both, plus an optional list-wise term that compares softmax(-PMD)
of prediction and label.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rerank_core.files import atomic_path, read_json, write_json
from rerank_core.learning import group_folds
from rerank_core.reranker import digest
from rerank_peptide.axial import (
    AxialModel,
    AxialParams,
    Prediction,
    collate,
    deviations,
    parameter_count,
    preprocess,
    save_model,
    tokenise,
)
from rerank_peptide.axial_rerank import AxialRanker, pick_device
from rerank_peptide.config import FitAxial
from rerank_peptide.lists import Example, examples


def axial_loss(said: Prediction, pmd: Tensor, rmd: Tensor, rows: Tensor, residues: Tensor, config: FitAxial) -> Tensor:
    """Loss of a batch.

    Parameters
    ----------
    said
        The network's output.
    pmd, rmd
        Labels: (batch, rows) and (batch, rows, columns).
    rows, residues
        Where labels exist: candidates that are no padding, residue columns that are no gap.
    """
    smooth = torch.nn.functional.smooth_l1_loss
    total = said.pmd.new_zeros(())
    if config.pmd_weight:
        total = total + config.pmd_weight * smooth(said.pmd[rows], pmd[rows])
    if config.rmd_weight:
        total = total + config.rmd_weight * smooth(said.rmd[residues], rmd[residues])
    if config.list_weight:
        target = (-pmd / config.temperature).masked_fill(~rows, -math.inf).softmax(dim=1)
        log_said = (-said.pmd).masked_fill(~rows, -1e4).log_softmax(dim=1)
        total = total - config.list_weight * (target * log_said).sum(dim=1).mean()
    return total


class _Prepared:
    """Tensors and labels of a list, made once."""

    def __init__(self, example: Example, max_peaks: int) -> None:
        spectrum = example.request.query
        self.peaks = preprocess(spectrum, max_peaks)
        self.mass, self.charge = spectrum.mass, spectrum.charge
        self.candidates = [c.content for c in example.request.candidates]
        labels = [deviations(c, example.truth) for c in self.candidates]
        self.pmd = np.array([p for p, _ in labels], dtype=np.float32)
        self.rmd = [r.astype(np.float32) for _, r in labels]

    def draw(self, rows: int, rng: np.random.Generator) -> list[int]:
        """Choose candidates: the best one always, others at random."""
        if len(self.candidates) <= rows:
            return list(rng.permutation(len(self.candidates)))
        best = int(self.pmd.argmin())
        others = [i for i in range(len(self.candidates)) if i != best]
        chosen = [best, *rng.choice(others, rows - 1, replace=False).tolist()]
        return [chosen[i] for i in rng.permutation(rows)]


def _batch(
    items: Sequence[_Prepared], rows: int, rng: np.random.Generator
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    picks = [x.draw(rows, rng) for x in items]
    inputs = collate(
        [x.peaks for x in items],
        [x.mass for x in items],
        [x.charge for x in items],
        [tokenise([x.candidates[i] for i in p]) for x, p in zip(items, picks, strict=True)],
    )
    shape = inputs[3].shape
    pmd, rmd = torch.zeros(shape[:2]), torch.zeros(shape)
    row_mask, residue_mask = torch.zeros(shape[:2], dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    for b, (x, p) in enumerate(zip(items, picks, strict=True)):
        row_mask[b, : len(p)] = True
        for r, i in enumerate(p):
            pmd[b, r] = float(x.pmd[i])
            n = len(x.rmd[i])
            rmd[b, r, 1 : n + 1] = torch.from_numpy(x.rmd[i])
            residue_mask[b, r, 1 : n + 1] = True
    return inputs, (pmd, rmd, row_mask, residue_mask)


def _rate(step: int, config: FitAxial) -> float:
    warm = max(1, int(config.warmup * config.steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, config.steps - warm))))


def _batches(n: int, size: int, start: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (step, indices) from a step on: the order depends on seed and step only, so that a resumed run agrees."""
    a_pass = max(1, n // size)
    step = start
    while True:
        epoch, at = divmod(step, a_pass)
        order = np.random.default_rng([seed, epoch]).permutation(n)
        yield step, order[at * size : (at + 1) * size]
        step += 1


def fit_axial(config: FitAxial, out: Path, *, resume: bool = True) -> None:
    """Train, checkpoint, calibrate and save ``axial.safetensors``.

    An interrupted run goes on from its last checkpoint and draws the batches it would have drawn; a checkpoint of
    another configuration is left alone and reported.
    """
    lists = [e for e in examples(config, ("graph", "engines", "mutated")) if e.request.candidates]
    fold = group_folds([e.group for e in lists], 10, config.seed) if len({e.group for e in lists}) >= 10 else None
    train = [e for i, e in enumerate(lists) if fold is None or fold[i] != 0]
    held = [e for i, e in enumerate(lists) if fold is not None and fold[i] == 0]
    train_axial(config, train, held, out, resume=resume)


def train_axial(
    config: FitAxial, train: Sequence[Example], held: Sequence[Example], out: Path, *, resume: bool = True
) -> AxialModel:
    """Train on lists; ``held`` calibrates."""
    torch.manual_seed(config.seed)
    device = pick_device(config.device)
    params = AxialParams(
        config.dim, config.heads, config.feedforward, config.encoder_layers, config.decoder_layers, config.dropout,
        columns=config.columns, cross=config.cross, max_peaks=config.max_peaks,
    )  # fmt: skip
    model = AxialModel(params).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    start = _restore(out, model, optimiser, config, device) if resume else 0
    prepared = [_Prepared(e, config.max_peaks) for e in train]
    print(f"{len(train)} lists, {parameter_count(model):,} parameters, {device}, from step {start}", file=sys.stderr)
    begun = time.monotonic()
    half = config.precision == "bfloat16" or (config.precision == "auto" and device == "cuda")
    model.train()
    for step, chosen in _batches(len(prepared), min(config.batch_size, len(prepared)), start, config.seed):
        done = step >= config.steps
        late = config.minutes is not None and time.monotonic() - begun > 60 * config.minutes
        if step > start and (done or late or step % config.checkpoint_every == 0):
            _checkpoint(out, model, optimiser, step, config)
        if done or late:
            break
        inputs, labels = _batch(
            [prepared[i] for i in chosen], config.rows, np.random.default_rng([config.seed, 7, step])
        )
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * _rate(step, config)
        # Dropout too must not depend on where a run was interrupted.
        torch.manual_seed(config.seed * 1_000_003 + step)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            said = model(*(x.to(device) for x in inputs))
            pmd, rmd, rows, residues = (x.to(device) for x in labels)
            loss = axial_loss(said, pmd, rmd, rows, residues, config)
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        if torch.isfinite(norm):  # as in the official configuration: a step with NaN gradients is left out
            optimiser.step()
        if step % 50 == 0:
            print(f"step {step} loss {float(loss):.4f} ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
    model.eval().to("cpu")
    _save(out, model, held, config)
    return model


def _save(out: Path, model: AxialModel, held: Sequence[Example], config: FitAxial) -> None:
    from rerank_peptide.probabilities import calibrate

    target = out / "axial.safetensors"
    extra = {"config": config.model_dump_json()}
    with atomic_path(target) as path:
        save_model(path, model, extra)
    natural = [e for e in held if e.kind != "mutated"]
    if len(natural) < 20:
        return
    scores = AxialRanker(str(target), device="cpu").scores([e.request for e in natural])
    calibration, figures = calibrate(scores, [e.gains() for e in natural])
    extra["calibration"] = json.dumps({"knots": calibration.knots, "values": calibration.values})
    with atomic_path(target) as path:
        save_model(path, model, extra)
    write_json(out / "fit.json", {"held_out_lists": len(natural), "params": asdict(model.params), **figures})
    print(f"held out: {figures} -> {target}", file=sys.stderr)


def _fingerprint(config: FitAxial) -> str:
    return digest(config.model_dump(mode="json", exclude={"minutes", "checkpoint_every"}))


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

"""The training loop: every step is a function of the recipe, the seed and the step's number.

Nothing random is carried from step to step: which lists, which of their candidates, and dropout are all drawn from
the seed and the step. So a run that was killed goes on to exactly the weights of one that was not.
"""

from __future__ import annotations

import csv
import json
import math
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rerank_core.errors import InputError, RerankError
from rerank_core.files import atomic_path
from rerank_core.measures import evaluate, parse
from rerank_core.types import Ranking
from rerank_lm.training.card import write_card
from rerank_lm.training.data import Labelled, Lists, load_lists, sampled, taught
from rerank_lm.training.making import make_task
from rerank_lm.training.outcome import Outcome
from rerank_lm.training.parallel import Processes, processes
from rerank_lm.training.recipe import Recipe
from rerank_lm.training.tasks import Task, trainable

Say = Callable[[str], None]


class TrainingError(RerankError):
    """Training cannot go on; the text says at which step, why, and what is left on disk."""


@dataclass
class Progress:
    """Where a run is; all of it is in the checkpoint."""

    step: int = 0
    best: float = -math.inf
    best_step: int = -1
    without_gain: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    resume: bool = False,
    say: Say = lambda _: None,
    lists: Lists | None = None,
    stop_after: int | None = None,
) -> Outcome:
    """Train a recipe into a folder.

    Parameters
    ----------
    resume
        Go on from the folder's checkpoint; without one, start.
    lists
        Data to use instead of the recipe's.
    stop_after
        End this call after so many steps, leaving only the checkpoint.

    Raises
    ------
    InputError
        When the folder holds a checkpoint of another recipe, or one and ``resume`` is not set.
    TrainingError
        When the loss is not finite or the disk is full.
    """
    out = Path(out)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists() and not resume:
        raise InputError("holds a checkpoint already; go on with --resume, or choose another folder", out)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    data = lists if lists is not None else load_lists(recipe.data, recipe.train.seed)
    if recipe.data.teacher:
        say(f"scoring {len(data.train)} lists with the teacher {recipe.data.teacher}")
        data = Lists(
            tuple(taught(data.train, recipe.data.teacher)), data.held, data.dropped, data.instruction, data.name
        )
    task = make_task(recipe)
    out.mkdir(parents=True, exist_ok=True)
    with processes() as together:
        run = _Run(recipe, task, data, out, say if together.first else _silent, together)
        if checkpoint.exists():
            run.load(checkpoint)
            run.say(f"resuming at step {run.progress.step}")
        try:
            return run.go(stop_after)
        except OSError as error:
            raise TrainingError(
                f"step {run.progress.step}: cannot write ({error.strerror or error}); the last complete checkpoint stays "
                f"in {out}; make room and go on with --resume"
            ) from error


def _silent(line: str) -> None:
    """Say nothing: another process says it."""


class _Run:
    def __init__(
        self, recipe: Recipe, task: Task, data: Lists, out: Path, say: Say, together: Processes | None = None
    ) -> None:
        self.recipe, self.task, self.data, self.out, self.say = recipe, task, data, out, say
        self.together = together or Processes()
        t = recipe.train
        self.parameters = dict(trainable(task))
        self.device = next(task.module.parameters()).device
        decays = [p for p in self.parameters.values() if p.dim() > 1]
        flat = [p for p in self.parameters.values() if p.dim() <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": decays, "weight_decay": t.weight_decay}, {"params": flat, "weight_decay": 0.0}],
            lr=t.learning_rate,
        )
        self.per_epoch = max(1, math.ceil(len(data.train) / (t.batch * t.accumulate)))
        steps = self.per_epoch * t.epochs
        self.steps = min(steps, t.max_steps) if t.max_steps else steps
        self.progress = Progress()
        self.start: tuple[float, float, float] | None = None
        self._board: Any = None

    # ---- one step

    def batches(self, step: int) -> list[list[Labelled]]:
        """Lists of a step, as ``accumulate`` batches."""
        t, n = self.recipe.train, len(self.data.train)
        epoch, place = divmod(step, self.per_epoch)
        order = np.random.default_rng([t.seed, epoch]).permutation(n)
        chosen = order[place * t.batch * t.accumulate : (place + 1) * t.batch * t.accumulate]
        drawn = [sampled(self.data.train[i], self.recipe.data.list_size, [t.seed, epoch, int(i)]) for i in chosen]
        useful = [x for x in drawn if len(set(x.gains)) > 1]
        return [useful[i : i + t.batch] for i in range(0, len(useful), t.batch)]

    def rate(self, step: int) -> float:
        """Linear warm-up, then linear decay to 0."""
        warm = max(1, round(self.recipe.train.warmup * self.steps))
        if step < warm:
            return (step + 1) / warm
        return max(0.0, (self.steps - step) / max(1, self.steps - warm))

    def step(self) -> dict[str, float]:
        """Take one optimiser step."""
        t, number = self.recipe.train, self.progress.step
        self.task.module.train()
        self.task.log.clear()
        batches = self.batches(number)
        total = 0.0
        for place, batch in self.together.share(batches):
            # Dropout of this batch, whatever came before and whichever process has it.
            torch.manual_seed(((t.seed * 1_000_003 + number) * 1_009 + place) % 2**63)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=t.autocast):
                loss = self.task.loss(batch, number) / len(batches)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"the loss is not finite at step {number}; the checkpoint before it stays in {self.out}; "
                    "lower the learning rate or check the data"
                )
            if loss.requires_grad:
                loss.backward()
            total += float(loss.detach())
        total = self.together.add_up(self.parameters.values(), total)
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), t.clip)
        if not torch.isfinite(norm):
            raise TrainingError(f"the gradient is not finite at step {number}; lower the learning rate")
        for group in self.optimiser.param_groups:
            group["lr"] = t.learning_rate * self.rate(number)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.progress.step += 1
        return {
            "step": float(number),
            "loss": total,
            "learning_rate": t.learning_rate * self.rate(number),
            **self.task.log,
        }

    # ---- the loop

    def go(self, stop_after: int | None) -> Outcome:
        t, begun, first = self.recipe.train, time.monotonic(), self.progress.step
        shown_best = self.out / "best.pt"
        if self.data.held and self.progress.step == 0:
            self.start = self.measure()
            self.progress.best = self.start[0]
            self.progress.history.append(
                {"step": 0.0, "held_out": self.start[0], "low": self.start[1], "high": self.start[2]}
            )
            self.say(f"held-out nDCG@10 before training {self.start[0]:.4f} (n = {len(self.data.held)})")
        elif self.data.held:
            row = next(h for h in self.progress.history if "held_out" in h)
            self.start = row["held_out"], row["low"], row["high"]
        stopped = "all steps done"
        while self.progress.step < self.steps:
            row = self.step()
            self.progress.history.append(row)
            self.log(row)
            done, left = self.progress.step - first, self.steps - self.progress.step
            remaining = left * (time.monotonic() - begun) / done
            self.say(f"step {self.progress.step}/{self.steps} loss {row['loss']:.4f}, {remaining:.0f} s left")
            due = self.progress.step % t.evaluate_every == 0 or self.progress.step == self.steps
            if self.data.held and due and self.early_stop(shown_best):
                stopped = f"no gain in {t.patience} evaluations"
                break
            if self.progress.step % t.save_every == 0:
                self.save()
            if stop_after is not None and done >= stop_after and left:
                self.save()
                return self.outcome("interrupted", None)
        self.save()
        self.together.wait()
        if shown_best.exists() and self.progress.best_step >= 0:
            self.restore(torch.load(shown_best, weights_only=True, map_location="cpu"))
        end = self.measure() if self.data.held else None
        outcome = self.outcome(stopped, end)
        self.together.wait()  # all have read the best weights, which the first one now removes
        if self.together.first:
            self.finish(outcome)
        return outcome

    def early_stop(self, path: Path) -> bool:
        value, low, high = self.measure()
        step = float(self.progress.step)
        self.progress.history.append({"step": step, "held_out": value, "low": low, "high": high})
        self.say(f"step {self.progress.step}: held-out nDCG@10 {value:.4f} [{low:.4f}, {high:.4f}]")
        if value > self.progress.best:
            self.progress.best, self.progress.best_step, self.progress.without_gain = value, self.progress.step, 0
            if self.together.first:
                _save_tensors(path, {k: p.detach() for k, p in self.parameters.items()})
        else:
            self.progress.without_gain += 1
        return self.progress.without_gain >= self.recipe.train.patience

    def measure(self) -> tuple[float, float, float]:
        """nDCG@10 on the held-out lists with its bootstrap interval."""
        self.task.module.eval()
        scores = self.task.score(self.data.held)
        requests = [x.request() for x in self.data.held]
        rankings = [Ranking.from_scores(r, s) for r, s in zip(requests, scores, strict=True)]
        gold = {x.id: {i.id: g for i, g in zip(x.question.items, x.gains, strict=True)} for x in self.data.held}
        [row] = evaluate([parse("nDCG@10")], gold, rankings, requests, system=self.recipe.name)
        return float(row.value), float(row.ci_low), float(row.ci_high)

    def outcome(self, stopped: str, end: tuple[float, float, float] | None) -> Outcome:
        values = tuple(h["loss"] for h in self.progress.history if "loss" in h)
        return Outcome(
            self.out, self.progress.step, stopped, values, self.start, end,
            len(self.data.train), len(self.data.held), self.data.dropped,
        )  # fmt: skip

    # ---- files

    def save(self) -> None:
        if not self.together.first:
            return
        state = {
            "recipe": self.recipe.fingerprint(),
            "progress": json.dumps(asdict(self.progress)),
            "parameters": {k: p.detach() for k, p in self.parameters.items()},
            "optimiser": self.optimiser.state_dict(),
        }
        _save_tensors(self.out / "checkpoint.pt", state)
        write_history(self.out / "metrics.csv", self.progress.history)

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
        except Exception as error:  # a damaged file can raise anything; it is the file's fault
            raise InputError(
                f"not a readable checkpoint ({type(error).__name__}); remove it to start again", path
            ) from error
        if state["recipe"] != self.recipe.fingerprint():
            raise InputError("is a checkpoint of another recipe; use that recipe, or another folder", path)
        self.restore(state["parameters"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**json.loads(state["progress"]))

    def restore(self, parameters: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in parameters.items():
                self.parameters[name].copy_(value)

    def log(self, row: dict[str, float]) -> None:
        if not self.together.first:
            return
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError:  # tensorboard comes with the extra "train"; metrics.csv is always written
                self._board = False
            else:
                self._board = SummaryWriter(str(self.out / "tensorboard"))
        if self._board:
            for key, value in row.items():
                if key != "step":
                    self._board.add_scalar(key, value, int(row["step"]))

    def finish(self, outcome: Outcome) -> None:
        if self._board:
            self._board.close()
        self.task.module.eval()
        self.task.save(self.out)
        (self.out / "recipe.json").write_text(self.recipe.model_dump_json(indent=1), encoding="utf-8")
        write_card(self.recipe, outcome, self.data)
        (self.out / "best.pt").unlink(missing_ok=True)


def _save_tensors(path: Path, state: Any) -> None:
    needed = 2 * sum(v.numel() * v.element_size() for v in _tensors(state))
    if shutil.disk_usage(path.parent).free < needed:
        raise OSError(28, "no space left on the disk for a checkpoint")
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [t for v in value.values() for t in _tensors(v)]
    return [t for v in value for t in _tensors(v)] if isinstance(value, (list, tuple)) else []


def write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the metrics of every step as CSV."""
    columns = list(dict.fromkeys(k for row in history for k in row))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(history)


@dataclass(frozen=True)
class Estimate:
    """What a run would take."""

    parameters: int
    trainable: int
    lists: int
    held: int
    dropped: int
    steps: int
    seconds_a_step: float
    peak_gb: float

    def lines(self) -> list[str]:
        """The estimate in words."""
        minutes = self.steps * self.seconds_a_step / 60
        return [
            f"parameters {self.parameters / 1e6:.1f} M, of them trained {self.trainable / 1e6:.2f} M",
            f"lists {self.lists} to train, {self.held} held out, {self.dropped} without a better order left out",
            f"steps {self.steps}, about {self.seconds_a_step:.1f} s each: {minutes:.1f} minutes (without evaluation)",
            f"peak memory about {self.peak_gb:.1f} GB",
        ]


def estimate(recipe: Recipe, lists: Lists | None = None) -> Estimate:
    """Take a step in memory (a second one where the first, which warms up, was short), write nothing, and extrapolate."""
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    data = lists if lists is not None else load_lists(recipe.data, recipe.train.seed)
    if recipe.data.teacher:
        few = tuple(taught(data.train[: recipe.train.batch * recipe.train.accumulate], recipe.data.teacher))
        few += tuple(Labelled(x.id, x.group, x.question, x.gains, x.gains) for x in data.train[len(few) :])
        data = Lists(few, data.held, data.dropped, data.instruction, data.name)
    task = make_task(recipe)
    run = _Run(recipe, task, data, Path(), lambda _: None)
    seconds = math.inf
    for _ in range(2 if run.steps > 1 else 1):
        begun = time.monotonic()
        run.step()
        seconds = min(seconds, time.monotonic() - begun)
        if seconds > 20:
            break
    scale = 1e6 if sys.platform != "darwin" else 1e9
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    if run.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(run.device) / 1e9
    return Estimate(
        sum(p.numel() for p in task.module.parameters()),
        sum(p.numel() for p in run.parameters.values()),
        len(data.train),
        len(data.held),
        data.dropped,
        run.steps,
        seconds,
        peak,
    )

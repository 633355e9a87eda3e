"""Training scorers to order candidates by quality: BRIO over a seq2seq model, SimCLS over an encoder.

Sources: BRIO, Liu et al., ACL 2022; SimCLS, Liu and Liu, ACL 2021, and their released code. Where they depart from the
papers we follow the code, and say so at the parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rerank_core.errors import UsageError
from rerank_core.types import FloatArray
from rerank_lm.losses import brio_rank_gap
from rerank_summary.data import Record
from rerank_summary.likelihood import Seq2Seq, candidate_scores, pad_rows
from rerank_summary.losses import pair_margin, smoothed_nll
from rerank_summary.rouge import Rouge, combine, flavour
from rerank_summary.text import sentence_lines

if TYPE_CHECKING:
    from rerank_summary.simcls import SimCls


@dataclass(frozen=True)
class Example:
    """A document, its reference, and its candidates from best to worst by ``qualities``."""

    source: str
    reference: str
    candidates: tuple[str, ...]
    qualities: tuple[float, ...]


def examples_of(records: Iterable[Record], how: str = "mean") -> list[Example]:
    """Sort each document's distinct candidates by quality.

    Parameters
    ----------
    how
        ``mean`` is (R1 + R2 + RLsum) / 3 (CNN/DM, NYT), ``harmonic`` 2 R1 R2 / (R1 + R2) (XSum; 0 where both are 0).
    """
    rouge = Rouge(flavour(), ("rouge1", "rouge2", "rougeLsum"))
    out = []
    for record in records:
        if not record.references:
            continue
        texts = list(dict.fromkeys(c.content for c in record.request.candidates))
        reference = record.references[0]
        found = rouge.score_batch([sentence_lines(reference)] * len(texts), [sentence_lines(t) for t in texts])
        worth = [combine({m: s[m].f for m in rouge.measures}, how) for s in found]
        order = sorted(range(len(texts)), key=lambda i: -worth[i])
        out.append(
            Example(record.request.query, reference, tuple(texts[i] for i in order), tuple(worth[i] for i in order))
        )
    return out


@dataclass(frozen=True)
class BrioParams:
    """BRIO's training, with the released CNN/DM values.

    Parameters
    ----------
    loss
        ``official``: mean over the pairs of each rank gap, summed over gaps; ``pairs``: the paper's sum over pairs.
    scale
        Multiplies scores before the ranking loss (XSum 0.01, CNN/DM 1); see `suggest_scale`.
    rank_weight, mle_weight
        10 and 0.1: the released ratio of 100.
    """

    loss: str = "official"
    margin: float = 0.001
    gold_margin: float = 0.0
    gold_weight: float = 0.0
    rank_weight: float = 10.0
    mle_weight: float = 0.1
    smoothing: float = 0.1
    length_penalty: float = 2.0
    scale: float = 1.0
    max_lr: float = 2e-3
    warmup: int = 10_000
    accumulate: int = 8
    max_candidate: int = 120


@dataclass(frozen=True)
class SimClsParams:
    """SimCLS's training, with the released values."""

    margin: float = 0.01
    gold_margin: float = 0.0
    gold_weight: float = 1.0
    max_lr: float = 2e-3
    warmup: int = 10_000
    accumulate: int = 12


def learning_rate(step: int, max_lr: float, warmup: int) -> float:
    """``max_lr * min(t ** -0.5, t * warmup ** -1.5)``, t from 1."""
    return float(max_lr * min(step**-0.5, step * warmup**-1.5))


def rank_loss(scores: Tensor, gold: Tensor | None, params: BrioParams | SimClsParams) -> Tensor:
    """The ranking loss that the parameters name; scores are best first, shape (batch, n_candidates)."""
    kind = getattr(params, "loss", "official")
    if kind == "official":
        return brio_rank_gap(
            scores, gold, margin=params.margin, gold_margin=params.gold_margin, gold_weight=params.gold_weight
        )
    if kind == "pairs":
        loss = pair_margin(scores, params.margin)
        if gold is not None and params.gold_weight:
            loss = loss + params.gold_weight * (scores - gold[:, None] + params.gold_margin).clamp(min=0).mean()
        return loss
    raise UsageError(f"unknown ranking loss {kind!r}; known: official, pairs")


def brio_step(scorer: Seq2Seq, example: Example, params: BrioParams) -> tuple[Tensor, Tensor]:
    """Loss of one example and its candidates' scores, shape (n_candidates,). The gold is slot 0."""
    source = pad_rows([scorer.source_ids(example.source)[0]], scorer.pad)
    texts = [example.reference, *example.candidates]
    targets = pad_rows([scorer.target_ids(t, params.max_candidate) for t in texts], scorer.pad).unsqueeze(0)
    device = scorer.model.device
    logits = scorer.logits(source.to(device), targets.to(device))
    targets = targets.to(device)
    scores = params.scale * candidate_scores(logits, targets, scorer.pad, length_penalty=params.length_penalty)
    loss = params.rank_weight * rank_loss(scores[:, 1:], scores[:, 0], params)
    if params.mle_weight:
        nll = smoothed_nll(logits[:, 0, :-1], targets[:, 0, 1:], ignore=scorer.pad, epsilon=params.smoothing)
        loss = loss + params.mle_weight * nll
    return loss, scores[0, 1:]


def simcls_step(scorer: SimCls, example: Example, params: SimClsParams) -> tuple[Tensor, Tensor]:
    """Loss of one example and its candidates' cosines, shape (n_candidates,)."""
    cosines = scorer.cosines(example.source, [example.reference, *example.candidates])
    return rank_loss(cosines[None, 1:], cosines[None, 0], params), cosines[1:]


@dataclass
class History:
    """What happened, one entry an update: loss, score spread inside lists, Kendall tau with the true order."""

    loss: list[float] = field(default_factory=list)
    spread: list[float] = field(default_factory=list)
    tau: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    collapsed: str | None = None


def collapse(
    spread: Sequence[float], lengths: Sequence[float] = (), *, window: int = 10, flat: float = 0.02, drift: float = 0.5
) -> str | None:
    """Say why training has collapsed, or None.

    Contrastive training can flatten all scores or teach a generator to write a single full stop. Both show early:

    Parameters
    ----------
    spread
        Standard deviation of the scores inside a list, update by update.
    lengths
        Mean length of generated text, evaluation by evaluation.
    flat
        The last ``window`` spreads' mean below this share of the first ``window``'s is a collapse.
    drift
        A last length below this share of the first, or above its inverse, is a collapse.
    """
    if not all(np.isfinite(spread)):
        return "scores are not finite: lower the learning rate"
    if len(spread) >= 2 * window:
        before, now = float(np.mean(spread[:window])), float(np.mean(spread[-window:]))
        if now < flat * before:
            return f"score spread fell from {before:.2g} to {now:.2g}: scores are flat; raise mle_weight or scale"
    if len(lengths) >= 2 and lengths[0] > 0:
        ratio = lengths[-1] / lengths[0]
        if not drift <= ratio <= 1 / drift:
            return f"generated length went from {lengths[0]:.0f} to {lengths[-1]:.0f}: raise mle_weight"
    return None


def suggest_scale(scores: Sequence[FloatArray], margin: float) -> float:
    """A ``scale`` for a new task: the margin should be of the size of the gaps that scores really have.

    margin / median gap between neighbours of the sorted untrained scores. CNN/DM's released pair (0.001, 1) and XSum's
    (0.001, 0.01) both make a margin that is small beside the gaps yet not nothing.
    """
    gaps = np.concatenate([np.diff(np.sort(s)) for s in scores if len(s) > 1] or [np.zeros(0)])
    gaps = gaps[gaps > 0]
    return float(margin / np.median(gaps)) if len(gaps) else 1.0


def selection_loss(rouge1: float, rouge2: float, rouge_lsum: float, how: str = "mean") -> float:
    """What model selection minimises, from ROUGE in 0 ... 1.

    ``mean``: 1 - (R1 + R2 + RLsum) / 3. ``legacy``: the released code's 1 - (R1 * R2 + RLsum) / 3, a slip of the pen.
    ``harmonic`` (XSum): 1 - 2 R1 R2 / (R1 + R2).
    """
    if how == "legacy":
        return 1 - (rouge1 * rouge2 + rouge_lsum) / 3
    return 1 - combine({"rouge1": rouge1, "rouge2": rouge2, "rougeLsum": rouge_lsum}, how)


def train(
    module: torch.nn.Module,
    step: Callable[[Example], tuple[Tensor, Tensor]],
    examples: Sequence[Example],
    params: BrioParams | SimClsParams,
    *,
    updates: int,
    seed: int = 0,
    on_update: Callable[[int, History], Any] | None = None,
) -> History:
    """Train with Adam under the papers' schedule; stops where training collapses.

    Parameters
    ----------
    step
        ``step(example)`` -> loss and candidate scores; see `brio_step` and `simcls_step`.
    updates
        Optimiser updates of ``params.accumulate`` examples each.

    Raises
    ------
    UsageError
        Without an example that has two candidates.
    """
    usable = [e for e in examples if len(e.candidates) > 1]
    if not usable:
        raise UsageError("training needs documents with a reference and at least two different candidates")
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.0)
    history = History()
    queue: list[int] = []
    module.train()
    for update in range(1, updates + 1):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(update, params.max_lr, params.warmup)
        optimiser.zero_grad()
        losses, spreads, taus = [], [], []
        for _ in range(params.accumulate):
            if not queue:
                queue = [int(i) for i in rng.permutation(len(usable))]
            example = usable[queue.pop()]
            loss, scores = step(example)
            (loss / params.accumulate).backward()
            losses.append(loss.item())
            values = scores.detach().double().cpu().numpy()
            spreads.append(float(values.std()))
            taus.append(_tau(values, example.qualities))
        optimiser.step()
        history.loss.append(float(np.mean(losses)))
        history.spread.append(float(np.mean(spreads)))
        history.tau.append(float(np.mean(taus)))
        if on_update is not None:
            on_update(update, history)
        history.collapsed = collapse(history.spread, history.lengths)
        if history.collapsed:
            break
    module.eval()
    return history


def _tau(scores: FloatArray, qualities: Sequence[float]) -> float:
    from rerank_core.statistics import kendall_tau

    tau = kendall_tau(list(scores), list(qualities))
    return 0.0 if np.isnan(tau) else tau

"""Plan-guided abstraction: the source keeps markers around the plan's units only, and the model writes what they say.

Source: G. Adams et al., ACL 2023, and its released code. Loss = mle * NLL(reference | no markers) + like * NLL(reference
| oracle markers) + unlike * unlikelihood(reference | corrupted markers), all label-smoothed; the paper tunes the
weights, the code's defaults are 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rerank_core.errors import UsageError
from rerank_summary.beam import BeamParams, Seq2SeqStepper, group_beam_search
from rerank_summary.edu import Units, marked
from rerank_summary.likelihood import Seq2Seq, pad_rows
from rerank_summary.losses import smoothed_nll, unlikelihood
from rerank_summary.plan_model import PlanGenerator, unit_vectors

BEGIN, END = "<e>", "</e>"


@dataclass(frozen=True)
class AbstractorParams:
    """Weights of the three terms, corruption and smoothing."""

    mle: float = 1.0
    like: float = 1.0
    unlike: float = 1.0
    corruption: str = "random"
    smoothing: float = 0.1


def add_markers(scorer: Seq2Seq) -> None:
    """Add the two marker tokens to tokenizer and model, where they are missing."""
    if scorer.tokenizer.add_special_tokens({"additional_special_tokens": [BEGIN, END]}):
        scorer.model.resize_token_embeddings(len(scorer.tokenizer))


def corrupt(plan: Sequence[int], n_units: int, how: str, rng: np.random.Generator) -> tuple[int, ...]:
    """A wrong plan.

    ``random`` replaces it by as many random units outside it (as many as there are), ``swap`` replaces one unit.
    """
    others = [i for i in range(n_units) if i not in set(plan)]
    if not others or not len(plan):
        return tuple(plan)
    if how == "random":
        return tuple(sorted(int(i) for i in rng.choice(others, min(len(plan), len(others)), replace=False)))
    if how == "swap":
        out = list(plan)
        out[int(rng.integers(len(out)))] = int(rng.choice(others))
        return tuple(sorted(out))
    raise UsageError(f"unknown corruption {how!r}; known: random, swap")


def guided_loss(
    scorer: Seq2Seq,
    units: Units,
    plan: Sequence[int],
    reference: str,
    params: AbstractorParams,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """The three terms and their weighted ``total`` for one document."""
    wrong = corrupt(plan, len(units), params.corruption, rng)
    inputs = [" ".join(units.texts), marked(units, plan), marked(units, wrong)]
    target = scorer.target_ids(reference)
    source = pad_rows([scorer.source_ids(t)[0] for t in inputs], scorer.pad)
    targets = pad_rows([target], scorer.pad).expand(3, 1, -1)
    logits = scorer.logits(source, targets)[:, 0, :-1]
    gold = torch.tensor([target[1:]])
    out = {
        "mle": smoothed_nll(logits[0:1], gold, ignore=-100, epsilon=params.smoothing),
        "like": smoothed_nll(logits[1:2], gold, ignore=-100, epsilon=params.smoothing),
        "unlike": unlikelihood(logits[2:3], gold, epsilon=params.smoothing),
    }
    if wrong == tuple(plan):  # nothing to corrupt with: the oracle must not be punished
        out["unlike"] = out["unlike"] * 0.0
    out["total"] = params.mle * out["mle"] + params.like * out["like"] + params.unlike * out["unlike"]
    return out


def realise(scorer: Seq2Seq, units: Units, plans: Sequence[Sequence[int]], params: BeamParams) -> list[str]:
    """One summary a plan: the top beam of an ordinary beam search over the source with that plan's markers."""
    config = scorer.model.generation_config
    texts = []
    for plan in plans:
        source, _ = scorer.source_ids(marked(units, plan))
        best = group_beam_search(
            Seq2SeqStepper(scorer, source),
            params,
            start=scorer.start,
            eos=int(scorer.model.config.eos_token_id),
            forced_first=getattr(config, "forced_bos_token_id", None),
            forced_last=getattr(config, "forced_eos_token_id", None),
        )
        texts.append(scorer.tokenizer.decode(best[0].ids, skip_special_tokens=True).strip() if best else "")
    return texts


def document_vectors(scorer: Seq2Seq, units: Units) -> tuple[Tensor, Tensor]:
    """Document and unit vectors for the plan generator, shapes (d,) and (n_units that fit, d)."""
    ids, _ = scorer.source_ids(marked(units))
    begin, end = scorer.tokenizer.convert_tokens_to_ids([BEGIN, END])
    spans, opened = [], None
    for at, token in enumerate(ids):
        if token == begin:
            opened = at
        elif token == end and opened is not None:
            spans.append((opened, at))
            opened = None
    states = scorer.model.get_encoder()(input_ids=torch.tensor([ids])).last_hidden_state[0]
    vectors = unit_vectors(states, spans) if spans else states.new_zeros((0, states.shape[1]))
    return states[0], vectors


def plan_guided(
    scorer: Seq2Seq, planner: PlanGenerator, units: Units, params: BeamParams
) -> tuple[list[tuple[int, ...]], list[str]]:
    """Plans of the planner, and one summary for each."""
    with torch.inference_mode():
        plans = planner.plans(*document_vectors(scorer, units))
    return plans, realise(scorer, units, plans, params)

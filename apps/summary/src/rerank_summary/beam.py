"""Group (diverse) beam search, since transformers 5 keeps it no longer.

Source: A. Vijayakumar et al., "Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models", AAAI 2018.
Beams are split into groups; at each step a group pays ``penalty`` for every token that an earlier group chose at the
same step (Hamming diversity). Finished hypotheses score ``sum log p / length ** length_penalty``, length counting the
generated tokens with EOS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from rerank_core.errors import UsageError
from rerank_summary.likelihood import Seq2Seq


@dataclass(frozen=True)
class BeamParams:
    """Settings of a search; the defaults are those of BRIO's CNN/DM candidates.

    Parameters
    ----------
    min_length
        Fewest generated tokens, EOS among them.
    max_length
        Most tokens with the start token, as transformers counts.
    """

    beams: int = 16
    groups: int = 16
    penalty: float = 1.0
    length_penalty: float = 2.0
    min_length: int = 56
    max_length: int = 142
    no_repeat: int = 3
    early_stopping: bool = True

    def __post_init__(self) -> None:
        if self.groups < 1 or self.beams % self.groups:
            raise UsageError(f"{self.beams} beams do not split into {self.groups} groups")
        if not 0 <= self.min_length < self.max_length:
            raise UsageError("0 <= min_length < max_length must hold")


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A finished sequence without the start token; EOS is its last token where it has one."""

    ids: tuple[int, ...]
    score: float
    group: int


class Stepper(Protocol):
    """Gives the next token's log-probabilities for all alive sequences."""

    def step(self, sequences: Tensor, parents: Tensor) -> Tensor:
        """Return shape (n, vocabulary).

        ``sequences`` has shape (n, t), start token first; row i continues row ``parents[i]`` of the step before.
        """
        ...


class Seq2SeqStepper:
    """Steps a seq2seq model over one source, keeping the decoder's cache."""

    def __init__(self, scorer: Seq2Seq, source: Sequence[int]) -> None:
        self.model = scorer.model
        ids = torch.tensor([list(source)], device=scorer.model.device)
        self._mask = torch.ones_like(ids)
        self._states = scorer.model.get_encoder()(input_ids=ids, attention_mask=self._mask).last_hidden_state
        self._cache: Any = None

    def step(self, sequences: Tensor, parents: Tensor) -> Tensor:
        """Return log-probabilities, shape (n, vocabulary)."""
        n = len(sequences)
        if self._cache is not None:
            self._cache.reorder_cache(parents)
        out = self.model(
            encoder_outputs=(self._states.expand(n, -1, -1),),
            attention_mask=self._mask.expand(n, -1),
            decoder_input_ids=sequences if self._cache is None else sequences[:, -1:],
            cache=self._cache,
            use_cache=True,
        )
        self._cache = out.past_key_values
        return out.logits[:, -1].log_softmax(-1)


def banned(sequence: Sequence[int], n: int) -> list[int]:
    """Tokens that would repeat an n-gram of the sequence."""
    if n < 1 or len(sequence) < n:
        return []
    tail = tuple(sequence[len(sequence) - n + 1 :])
    return [sequence[i + n - 1] for i in range(len(sequence) - n + 1) if tuple(sequence[i : i + n - 1]) == tail]


@torch.inference_mode()
def group_beam_search(
    stepper: Stepper,
    params: BeamParams,
    *,
    start: int,
    eos: int,
    forced_first: int | None = None,
    forced_last: int | None = None,
) -> list[Hypothesis]:
    """Search one source.

    Parameters
    ----------
    start, eos
        Token ids.
    forced_first, forced_last
        Token that must come first, or at ``max_length`` (BART forces its BOS and EOS).

    Returns
    -------
    ``params.beams`` hypotheses at most, group by group in the groups' order, best first inside a group.
    """
    width = params.beams // params.groups
    alive = torch.full((params.beams, 1), start, dtype=torch.long)
    scores = torch.full((params.beams,), -1e9, dtype=torch.float64)
    scores[::width] = 0.0  # all rows of a group are the same at first: only one may branch
    parents = torch.arange(params.beams)
    done: list[list[Hypothesis]] = [[] for _ in range(params.groups)]
    closed = [False] * params.groups
    for length in range(1, params.max_length):
        logs = stepper.step(alive, parents).double().cpu()
        logs = _constrained(logs, alive, params, length, eos, forced_first, forced_last)
        following, picked, origin = [], torch.zeros(logs.shape[1], dtype=torch.float64), []
        for g in range(params.groups):
            rows = slice(g * width, (g + 1) * width)
            kept = _advance(
                logs[rows] - params.penalty * picked, logs[rows], scores[rows], alive[rows], width, length, eos, params,
                g, done[g],
            )  # fmt: skip
            closed[g] = closed[g] or _closed(done[g], kept, width, length, params)
            for row, token, score in kept:
                following.append((torch.cat([alive[rows][row], torch.tensor([token])]), score))
                origin.append(g * width + row)
                if not closed[g]:
                    picked[token] += 1
        alive = torch.stack([s for s, _ in following])
        scores = torch.tensor([s for _, s in following], dtype=torch.float64)
        parents = torch.tensor(origin)
        if all(closed):
            break
    for g in range(params.groups):
        if len(done[g]) < width:
            _finish_rest(
                alive[g * width : (g + 1) * width], scores[g * width : (g + 1) * width], done[g], width, g, params
            )
    return [h for g in done for h in sorted(g, key=lambda h: -h.score)[:width]]


def _constrained(
    logs: Tensor, alive: Tensor, params: BeamParams, length: int, eos: int, first: int | None, last: int | None
) -> Tensor:
    low = -1e9
    logs = logs.clone()
    if length == 1 and first is not None:
        logs[:] = low
        logs[:, first] = 0.0
        return logs
    if length == params.max_length - 1 and last is not None:
        logs[:] = low
        logs[:, last] = 0.0
        return logs
    if length < params.min_length:
        logs[:, eos] = low
    if params.no_repeat:
        for row, sequence in zip(logs, alive.tolist(), strict=True):
            row[banned(sequence, params.no_repeat)] = low
    return logs


def _advance(
    ranked: Tensor, logs: Tensor, scores: Tensor, alive: Tensor, width: int, length: int, eos: int,
    params: BeamParams, group: int, done: list[Hypothesis],
) -> list[tuple[int, int, float]]:  # fmt: skip
    """Pick a group's next beams by penalised score; as in the released search the penalty stays in the score."""
    total = (scores[:, None] + ranked).reshape(-1)
    best, where = total.topk(min(2 * width, len(total)))
    kept: list[tuple[int, int, float]] = []
    for place, (score, index) in enumerate(zip(best.tolist(), where.tolist(), strict=True)):
        row, token = divmod(index, logs.shape[1])
        if token == eos:
            if place < width and score > -1e8:
                ids = (*alive[row, 1:].tolist(), token)
                done.append(Hypothesis(ids, score / length**params.length_penalty, group))
        elif len(kept) < width:
            kept.append((row, token, score))
    while len(kept) < width:  # a tiny vocabulary
        kept.append((0, eos, -1e9))
    return kept


def _closed(
    done: list[Hypothesis], kept: list[tuple[int, int, float]], width: int, length: int, params: BeamParams
) -> bool:
    if len(done) < width:
        return False
    if params.early_stopping:
        return True
    worst = sorted((h.score for h in done), reverse=True)[width - 1]
    return max(s for _, _, s in kept) / length**params.length_penalty <= worst


def _finish_rest(
    alive: Tensor, scores: Tensor, done: list[Hypothesis], width: int, group: int, params: BeamParams
) -> None:
    for sequence, score in sorted(zip(alive.tolist(), scores.tolist(), strict=True), key=lambda x: -x[1]):
        if len(done) >= width or score <= -1e8:
            break
        ids = tuple(sequence[1:])
        done.append(Hypothesis(ids, score / max(1, len(ids)) ** params.length_penalty, group))


def generate(scorer: Seq2Seq, text: str, params: BeamParams) -> list[str]:
    """Diverse candidates of one text, distinct texts only, in the groups' order."""
    config = scorer.model.generation_config
    source, _ = scorer.source_ids(text)
    found = group_beam_search(
        Seq2SeqStepper(scorer, source),
        params,
        start=scorer.start,
        eos=int(scorer.model.config.eos_token_id),
        forced_first=getattr(config, "forced_bos_token_id", None),
        forced_last=getattr(config, "forced_eos_token_id", None),
    )
    texts = [scorer.tokenizer.decode(h.ids, skip_special_tokens=True).strip() for h in found]
    return list(dict.fromkeys(texts))

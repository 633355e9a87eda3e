"""Judges that write: a permutation of the window (with or without reasoning), or a score for each of a group."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from rerank_core.strategies.judges import Group, Order
from rerank_core.types import FloatArray, Status
from rerank_lm import prompts
from rerank_lm.backends.base import Capability, Completion, Prompt, Sampling
from rerank_lm.judges.base import Example, Options, TextJudge, best_first, task_of, text_of, texts
from rerank_lm.parsing import label_names, parse_permutation, parse_scores

Insert = Literal["none", "raw", "minmax100", "rank"]


@dataclass(frozen=True)
class PermutationOptions(Options):
    """How the ranking is asked for and read.

    Parameters
    ----------
    reasoning
        ReasonRank, DeAR stage 2: ``<think>`` then ``<answer>``.
    turns
        One message a candidate (RankGPT, DeAR).
    insert_scores
        InsertRank: the first stage's score in front of each candidate, raw, scaled to 0-100 in the window, or as rank.
    official_parser
        Read as RankLLM does.
    max_tokens
        0: enough for the ranking itself (and 1,024 more for reasoning).
    """

    reasoning: bool = False
    turns: bool = False
    insert_scores: Insert = "none"
    official_parser: bool = False
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 0


class Permutation(TextJudge):
    """A written ranking such as ``[3] > [1] > [2]``.

    Source: RankGPT (Sun et al., EMNLP 2023), RankZephyr (2023); with ``reasoning`` ReasonRank (2025), with
    ``reasoning`` and ``turns`` DeAR's second stage (2025). Answers are mended, never trusted: the status says how.
    """

    name = "permutation"
    needs = (Capability.GENERATE,)
    options_type: ClassVar[type[Options]] = PermutationOptions

    def _prompt(self, group: Group) -> tuple[Prompt, bool]:
        o, query, task = self.options, text_of(group.query, self.name), task_of(group)
        labels, notes = label_names(len(group.items), "numbers"), _notes(group, o.insert_scores)
        return self._fit(
            lambda c: prompts.permutation(task, query, labels, c, reasoning=o.reasoning, turns=o.turns, notes=notes),
            texts(group, self.name),
            reserve=self._room(len(labels)),
        )

    def _room(self, n: int) -> int:
        if self.options.max_tokens:
            return int(self.options.max_tokens)
        return 6 * n + 8 + (1024 if self.options.reasoning else 0)

    def order(self, groups: Sequence[Group]) -> list[Order]:
        """Return one order a window; what the answer left out follows in the given order."""
        o = self.options
        asked = [(i, *self._prompt(g)) for i, g in enumerate(groups) if len(g.items) > 1]
        out = [Order(tuple(range(len(g.items)))) for g in groups]
        if not asked:
            return out
        room = max(self._room(len(groups[i].items)) for i, _, _ in asked)
        sampling = Sampling(room, o.temperature, o.seed)
        answers = self._spent(self.backend.generate([p for _, p, _ in asked], sampling))
        for (i, _, cut), answer in zip(asked, answers, strict=True):
            out[i] = self._read(answer, len(groups[i].items), cut)
        return out

    def _read(self, answer: Completion, n: int, cut: bool) -> Order:
        parsed = parse_permutation(answer.text, n, cut=answer.finish == "length", official=self.options.official_parser)
        status = parsed.status
        if answer.finish in ("error", "refusal"):
            self.report[answer.finish] += 1
            status = status.worst(Status.FALLBACK) if not parsed.found else status
        status = status.worst(Status.TRUNCATED) if cut else status
        self.report[status.value] += 1
        for flag in parsed.flags:
            self.report[flag] += 1
        return Order(parsed.permutation, status, None, answer.cost)

    def example(self, group: Group, gains: Sequence[float]) -> Example:
        """Return the training example: the gold permutation in words."""
        labels = label_names(len(group.items), "numbers")
        written = " > ".join(f"[{labels[i]}]" for i in best_first(np.asarray(gains, dtype=np.float64)))
        target = f"<answer>{written}</answer>" if self.options.reasoning else written
        return Example(self._prompt(group)[0], target, (), tuple(gains))


class InsertRank(Permutation):
    """A written ranking with each candidate's first-stage score in the prompt.

    Source: InsertRank (2025): all candidates in one prompt; raw, 0-1 and 0-100 scales all help there.
    """

    name = "insertrank"
    options_type: ClassVar[type[Options]] = PermutationOptions


def _notes(group: Group, kind: Insert) -> list[str] | None:
    if kind == "none":
        return None
    if kind == "rank":
        return [f"rank {item.rank + 1}" for item in group.items]
    scores = [item.score for item in group.items]
    known = [s for s in scores if s is not None and np.isfinite(s)]
    if kind == "raw":
        return ["" if s is None else f"score {s:.2f}" for s in scores]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = high - low
    return ["" if s is None else f"score {100 * (s - low) / span if span > 0 else 100:.0f}" for s in scores]


@dataclass(frozen=True)
class GroupwiseOptions(Options):
    """Scale of the scores and how they are written."""

    low: int = 0
    high: int = 10
    reasoning: bool = False
    temperature: float = 0.0
    seed: int = 0
    max_tokens: int = 0


class Groupwise(TextJudge):
    """One whole-number score for each candidate of a group, in one answer; groups are independent.

    Source: GroupRank (2025). Its code is not public: prompt and JSON form are ours. An answer that does not score
    every candidate exactly once is unusable (all NaN), and the strategy asks again in halves.
    """

    name = "groupwise"
    needs = (Capability.GENERATE,)
    options_type: ClassVar[type[Options]] = GroupwiseOptions

    def _room(self, n: int) -> int:
        return int(self.options.max_tokens) or 10 * n + 24 + (1024 if self.options.reasoning else 0)

    def _prompt(self, group: Group) -> Prompt:
        o, query, task = self.options, text_of(group.query, self.name), task_of(group)
        return self._fit(
            lambda c: prompts.groupwise(task, query, c, o.low, o.high, reasoning=o.reasoning),
            texts(group, self.name),
            reserve=self._room(len(group.items)),
        )[0]

    def score_groups(self, groups: Sequence[Group]) -> list[FloatArray]:
        """Return one array a group, or all NaN."""
        o = self.options
        full = [i for i, g in enumerate(groups) if g.items]
        out: list[FloatArray] = [np.empty(0) for _ in groups]
        if not full:
            return out
        room = max(self._room(len(groups[i].items)) for i in full)
        properties = {str(k + 1): {"type": "integer", "minimum": o.low, "maximum": o.high} for k in range(1000)}
        schema = ""
        if not o.reasoning and len({len(groups[i].items) for i in full}) == 1:
            named = {k: properties[k] for k in list(properties)[: len(groups[full[0]].items)]}
            schema = json.dumps(
                {"type": "object", "properties": named, "required": list(named), "additionalProperties": False}
            )
        sampling = Sampling(room, o.temperature, o.seed, schema=schema)
        answers = self._spent(self.backend.generate([self._prompt(groups[i]) for i in full], sampling))
        for i, answer in zip(full, answers, strict=True):
            out[i] = parse_scores(answer.text, len(groups[i].items), o.low, o.high)
            self.report["fallback" if np.isnan(out[i]).any() else "ok"] += 1
        return out

    def example(self, group: Group, gains: Sequence[float]) -> Example:
        """Return the training example: gains spread over the scale, as JSON."""
        o, top = self.options, max([*gains, 1e-9])
        grades = {str(i + 1): round(o.low + (o.high - o.low) * g / top) for i, g in enumerate(gains)}
        return Example(self._prompt(group), json.dumps(grades), (), tuple(gains))

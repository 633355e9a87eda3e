"""Judges that rank a whole window with one forward pass: FIRST and the letter-logit scorer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from rerank_core.strategies.judges import Group, Order
from rerank_core.types import Cost, FloatArray
from rerank_lm import prompts
from rerank_lm.backends.base import Capability, Prompt
from rerank_lm.judges.base import Example, Options, TextJudge, best_first, by_size, status_of, task_of, text_of, texts
from rerank_lm.parsing import label_names


@dataclass(frozen=True)
class FirstOptions(Options):
    """Labels: letters, or digits (windows of at most 9) for tokenizers in which letters are not single tokens."""

    labels: Literal["letters", "numbers"] = "letters"


class First(TextJudge):
    """The logits of all labels at the first position of the answer order the window: one forward a window.

    Source: FIRST (Reddy et al., EMNLP 2024), Early-FIRST (2024). The released code reads the served model's top 120
    alternatives and loses labels outside them; locally we read every label's exact logit.
    """

    name = "first"
    needs = (Capability.NEXT_TOKEN,)
    options_type: ClassVar[type[Options]] = FirstOptions

    def _build(self, group: Group, labels: Sequence[str], contents: Sequence[str]) -> Prompt:
        return prompts.first(task_of(group), text_of(group.query, self.name), labels, contents)

    def _prompt(self, group: Group) -> tuple[Prompt, bool]:
        labels = label_names(len(group.items), self.options.labels)
        return self._fit(lambda c: self._build(group, labels, c), texts(group, self.name))

    def _scores(self, groups: Sequence[Group]) -> list[tuple[FloatArray, bool, Cost]]:
        out: list[tuple[FloatArray, bool, Cost]] = [(np.empty(0), False, Cost())] * len(groups)
        for n, members in by_size(groups).items():
            if n < 2:
                for i in members:
                    out[i] = np.zeros(n), False, Cost()
                continue
            asked = [self._prompt(groups[i]) for i in members]
            answers = self._spent(self.backend.next_token([p for p, _ in asked], label_names(n, self.options.labels)))
            for i, answer, (_, cut) in zip(members, answers, asked, strict=True):
                out[i] = self._filled(answer.values), cut, answer.cost
        return out

    def order(self, groups: Sequence[Group]) -> list[Order]:
        """Return one order a window, with the labels' logits as scores."""
        out = []
        for scores, cut, cost in self._scores(groups):
            broken = len(scores) > 0 and bool(np.isnan(scores).all())
            values = -np.arange(len(scores), dtype=np.float64) if broken else scores
            out.append(Order(best_first(values), status_of(cut, broken), None if broken else tuple(scores), cost))
        return out

    def score_groups(self, groups: Sequence[Group]) -> list[FloatArray]:
        """Return the labels' log-probabilities among themselves, one array a group."""
        return [_log_softmax(scores) for scores, _, _ in self._scores(groups)]

    def example(self, group: Group, gains: Sequence[float]) -> Example:
        """Return the training example: the written gold permutation, which begins with the first label's token."""
        labels = label_names(len(group.items), self.options.labels)
        order = best_first(np.asarray(gains, dtype=np.float64))
        prompt, _ = self._prompt(group)
        written = " > ".join(f"[{labels[i]}]" for i in order)
        return Example(prompt, written.removeprefix(prompt.prefill), tuple(labels), tuple(gains))


class Letters(First):
    """The next-token probabilities of the candidates' letters, asked for the one most suitable: a list in one pass.

    Source: KALM4Rec (2025), local-model variant. No parsing, nothing outside the list.
    """

    name = "letters"

    def _build(self, group: Group, labels: Sequence[str], contents: Sequence[str]) -> Prompt:
        return prompts.letters(task_of(group), text_of(group.query, self.name), labels, contents)


def _log_softmax(scores: FloatArray) -> FloatArray:
    if not scores.size or np.isnan(scores).all():
        return scores
    shifted = scores - scores.max()
    return shifted - np.log(np.exp(shifted).sum())

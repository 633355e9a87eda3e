"""Judges that compare: the better of two, the best of a few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from rerank_core.strategies.judges import Group, Triple
from rerank_core.types import FloatArray
from rerank_lm import prompts
from rerank_lm.backends.base import Capability, Prompt, Sampling
from rerank_lm.judges.base import Example, Options, TextJudge, by_size, task_of, text_of, texts
from rerank_lm.parsing import Labels, label_names, parse_label


class Pairwise(TextJudge):
    """P(first is better) from the logits of the labels A and B.

    Source: pairwise ranking prompting (Qin et al., NAACL 2024). One order only; wrap in ``PositionBalanced`` for both.
    """

    name = "pairwise"
    needs = (Capability.NEXT_TOKEN,)

    def _prompt(self, triple: Triple) -> Prompt:
        query, task = text_of(triple.query, self.name), task_of(triple)
        both = [text_of(triple.first.content, self.name), text_of(triple.second.content, self.name)]
        return self._fit(lambda c: prompts.pairwise(task, query, c[0], c[1]), both)[0]

    def prefer(self, triples: Sequence[Triple]) -> FloatArray:
        """Return P(first is better), shape (n_triples,); 0.5 where the answer was unusable."""
        if not triples:
            return np.empty(0)
        rows = self._next([self._prompt(t) for t in triples], ("A", "B"))
        odds = np.array([row[0] - row[1] for row in rows], dtype=np.float64)
        return np.where(np.isnan(odds), 0.5, 1.0 / (1.0 + np.exp(-np.clip(odds, -700, 700))))

    def example(self, triple: Triple, gains: tuple[float, float]) -> Example:
        """Return the training example of two labelled candidates."""
        return Example(self._prompt(triple), "A" if gains[0] >= gains[1] else "B", ("A", "B"), gains)


@dataclass(frozen=True)
class SetwiseOptions(Options):
    """How the label is read.

    Parameters
    ----------
    way
        ``logits``: the label with the largest next-token logit; ``generate``: the written label.
    reasoning
        Rank-R1: reason, then ``<answer>[3]</answer>`` with number labels; implies ``generate``.
    """

    way: Literal["logits", "generate"] = "logits"
    reasoning: bool = False
    max_tokens: int = 16
    temperature: float = 0.0

    @property
    def labels(self) -> Labels:
        """Numbers for Rank-R1, letters otherwise."""
        return "numbers" if self.reasoning else "letters"


class Setwise(TextJudge):
    """The best of a few by its label.

    Source: Setwise (Zhuang et al., SIGIR 2024); with ``reasoning`` Rank-R1 (2025), whose released comparison shuffles
    without a seed: ours asks in the order given, and ``Shuffled`` draws with one.
    """

    name = "setwise"
    options_type: ClassVar[type[Options]] = SetwiseOptions

    def required(self) -> tuple[Capability, ...]:
        """Return next-token logits, or writing."""
        writes = self.options.way == "generate" or self.options.reasoning
        return (Capability.GENERATE if writes else Capability.NEXT_TOKEN,)

    def _prompt(self, group: Group) -> Prompt:
        o, query, task = self.options, text_of(group.query, self.name), task_of(group)
        labels = label_names(len(group.items), o.labels)
        return self._fit(
            lambda c: prompts.setwise(task, query, labels, c, reasoning=o.reasoning),
            texts(group, self.name),
            reserve=o.max_tokens,
        )[0]

    def choose(self, groups: Sequence[Group]) -> NDArray[np.int64]:
        """Return the best item's position, shape (n_groups,); -1 where the answer was unusable."""
        o, out = self.options, np.full(len(groups), -1, dtype=np.int64)
        if Capability.NEXT_TOKEN in self.required():
            for n, members in by_size(groups).items():
                if n == 0:
                    continue
                rows = self._next([self._prompt(groups[i]) for i in members], label_names(n, o.labels))
                for i, row in zip(members, rows, strict=True):
                    out[i] = -1 if np.isnan(row).all() else int(np.argmax(row))
            return out
        answers = self._spent(
            self.backend.generate([self._prompt(g) for g in groups], Sampling(o.max_tokens, o.temperature))
        )
        for i, (group, answer) in enumerate(zip(groups, answers, strict=True)):
            out[i] = parse_label(answer.text, len(group.items), labels=o.labels)
        self.report["fallback"] += int((out < 0).sum())
        return out

    def example(self, group: Group, gains: Sequence[float]) -> Example:
        """Return the training example: the label of the (first) best candidate."""
        labels = label_names(len(group.items), self.options.labels)
        best = labels[int(np.argmax(gains))]
        target = f"<answer>[{best}]</answer>" if self.options.reasoning else best
        return Example(self._prompt(group), target, tuple(labels), tuple(gains))

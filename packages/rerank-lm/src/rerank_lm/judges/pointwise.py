"""Judges that look at one candidate at a time: yes/no, binary logit, expected grade, query likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from rerank_core.strategies.judges import Pair
from rerank_core.types import FloatArray
from rerank_lm import prompts
from rerank_lm.backends.base import Capability, Prompt, Sampling
from rerank_lm.judges.base import Example, Options, TextJudge, task_of, text_of
from rerank_lm.parsing import parse_grade


@dataclass(frozen=True)
class YesNoOptions(Options):
    """The two answers, as single tokens."""

    yes: str = "Yes"
    no: str = "No"


class YesNo(TextJudge):
    """``logit(Yes) - logit(No)`` after the prompt: the log-odds of a positive answer; one forward a candidate.

    Source: pointwise relevance generation (Liang et al., HELM 2022; Qin et al., NAACL 2024) and GMR's score, whose
    SFT form ``e^yes / (e^yes + e^no)`` is the sigmoid of this one.
    """

    name = "yes-no"
    needs = (Capability.NEXT_TOKEN,)
    options_type: ClassVar[type[Options]] = YesNoOptions

    def _tokens(self) -> tuple[str, str]:
        return self.options.yes, self.options.no

    def _prompt(self, pair: Pair) -> Prompt:
        query, task = text_of(pair.query, self.name), task_of(pair)
        return self._fit(lambda c: prompts.yes_no(task, query, c[0]), [text_of(pair.item.content, self.name)])[0]

    def score(self, pairs: Sequence[Pair]) -> FloatArray:
        """Return log-odds, shape (n_pairs,)."""
        if not pairs:
            return np.empty(0)
        rows = self._next([self._prompt(p) for p in pairs], self._tokens())
        return np.array([row[0] - row[1] for row in rows], dtype=np.float64)

    def example(self, pair: Pair, gain: float) -> Example:
        """Return the training example of a labelled pair."""
        yes, no = self._tokens()
        return Example(self._prompt(pair), yes if gain > 0 else no, (yes, no), (gain,))


@dataclass(frozen=True)
class BinaryOptions(Options):
    """The two answers."""

    yes: str = "1"
    no: str = "0"


class BinaryLogit(YesNo):
    """``logit("1") - logit("0")``: ProRank's fine-grained score (equivalently mxbai-rerank-v2), no new layer."""

    name = "binary"
    options_type = BinaryOptions

    def _prompt(self, pair: Pair) -> Prompt:
        query, task = text_of(pair.query, self.name), task_of(pair)
        return self._fit(lambda c: prompts.binary(task, query, c[0]), [text_of(pair.item.content, self.name)])[0]


@dataclass(frozen=True)
class GradedOptions(Options):
    """Scale and way of grading.

    Parameters
    ----------
    low, high
        Grades; with ``logits`` every grade must be a single token, hence 0 to 9 (ERank writes 0 to 10).
    way
        ``logits``: expectation over the grade tokens' distribution; ``generate``: write (after reasoning) and read.
    """

    low: int = 0
    high: int = 9
    way: Literal["logits", "generate"] = "logits"
    reasoning: bool = False
    max_tokens: int = 512
    temperature: float = 0.0


class Graded(TextJudge):
    """Expected grade ``sum_k k P(k)``: finer than the integer that would be written (ERank).

    Source: ERank (2025), whose models write 0 to 10 after reasoning (``way="generate", reasoning=True, high=10``).
    Whether its card means the expectation or ``k P(k)`` of the written grade is open; we take the expectation.
    """

    name = "graded"
    options_type: ClassVar[type[Options]] = GradedOptions

    def required(self) -> tuple[Capability, ...]:
        """Return next-token logits, or writing."""
        return (Capability.NEXT_TOKEN if self.options.way == "logits" else Capability.GENERATE,)

    def _prompt(self, pair: Pair) -> Prompt:
        o, query, task = self.options, text_of(pair.query, self.name), task_of(pair)
        reserve = 8 if o.way == "logits" else o.max_tokens
        content = text_of(pair.item.content, self.name)
        return self._fit(
            lambda c: prompts.graded(task, query, c[0], o.low, o.high, reasoning=o.reasoning),
            [content],
            reserve=reserve,
        )[0]

    def score(self, pairs: Sequence[Pair]) -> FloatArray:
        """Return grades, shape (n_pairs,); NaN where an answer named none."""
        o = self.options
        if not pairs:
            return np.empty(0)
        asked = [self._prompt(p) for p in pairs]
        if o.way == "logits":
            grades = np.arange(o.low, o.high + 1)
            return np.array([_expectation(row, grades) for row in self._next(asked, [str(k) for k in grades])])
        answers = self._spent(self.backend.generate(asked, Sampling(o.max_tokens, o.temperature)))
        values = np.array([parse_grade(a.text, o.low, o.high) for a in answers], dtype=np.float64)
        self.report["fallback"] += int(np.isnan(values).sum())
        return values

    def example(self, pair: Pair, gain: float) -> Example:
        """Return the training example: the gain, read as a grade of this scale."""
        o = self.options
        grade = int(np.clip(round(gain), o.low, o.high))
        return Example(self._prompt(pair), str(grade), tuple(str(k) for k in range(o.low, o.high + 1)), (gain,))


def _expectation(logits: FloatArray, grades: np.ndarray) -> float:
    weights = np.exp(logits - np.max(logits))
    return float((weights * grades).sum() / weights.sum())


class QueryLikelihood(TextJudge):
    """Mean log-probability of the query's tokens after its candidate.

    Source: unsupervised passage reranking (Sachan et al., EMNLP 2022). Within one query the mean orders as the sum.
    """

    name = "query-likelihood"
    needs = (Capability.LOG_PROBS,)

    def score(self, pairs: Sequence[Pair]) -> FloatArray:
        """Return mean log-probabilities, shape (n_pairs,)."""
        if not pairs:
            return np.empty(0)
        asked, queries = [], []
        for pair in pairs:
            task, query = task_of(pair), text_of(pair.query, self.name)
            content = text_of(pair.item.content, self.name)
            reserve = self.backend.count(query) + 8
            asked.append(self._fit(lambda c, t=task: prompts.query_likelihood(t, c[0]), [content], reserve=reserve)[0])  # type: ignore[misc]
            queries.append(query)
        answers = self._spent(self.backend.log_probs(asked, queries))
        return np.array([a.values.mean() if a.values.size else np.nan for a in answers], dtype=np.float64)

    def example(self, pair: Pair, gain: float) -> Example:
        """Return the training example: the query after a relevant candidate."""
        task, content = task_of(pair), text_of(pair.item.content, self.name)
        prompt = self._fit(lambda c: prompts.query_likelihood(task, c[0]), [content])[0]
        return Example(prompt, text_of(pair.query, self.name), (), (gain,))

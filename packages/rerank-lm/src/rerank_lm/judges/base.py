"""What the text judges share: a back end, a running cost, a report, and how long texts are fitted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from rerank_core.reranker import digest
from rerank_core.strategies.judges import Content, Group, Pair, Picture
from rerank_core.types import Cost, FloatArray, Status
from rerank_lm import prompts
from rerank_lm.backends.base import BackEnd, Capability, Prompt, TokenScores, Unsupported, need

A = TypeVar("A")


@dataclass(frozen=True)
class Options:
    """Settings every text judge has; each judge adds its own.

    Parameters
    ----------
    words
        Most words of a candidate (RankGPT's 300); what is longer is cut and the status says ``truncated``.
    """

    words: int = 300


@dataclass(frozen=True)
class Example:
    """A labelled question as a training example: what the judge asks, and what the answer should be.

    Parameters
    ----------
    target
        Text the model should write; empty where only token scores are trained.
    tokens
        Tokens whose logits after the prompt are the scores, one a candidate (or yes/no).
    gains
        The candidates' gains in the order in which the prompt shows them.
    """

    prompt: Prompt
    target: str = ""
    tokens: tuple[str, ...] = ()
    gains: tuple[float, ...] = ()


class TextJudge:
    """Base of judges that ask a back end in words."""

    name: ClassVar[str] = ""
    needs: ClassVar[tuple[Capability, ...]] = ()
    options_type: ClassVar[type[Options]] = Options

    def __init__(self, backend: BackEnd, options: Any = None, **settings: Any) -> None:
        self.options: Any = options if options is not None else self.options_type(**settings)
        for capability in self.required():
            need(backend, self.name, capability)
        self.backend = backend
        self._cost = Cost()
        self.report: Counter[str] = Counter()
        """How many answers had which status or parser flag."""

    def required(self) -> tuple[Capability, ...]:
        """Return what the back end must be able to do with these options."""
        return self.needs

    @property
    def cost(self) -> Cost:
        """Calls and tokens since the judge was made."""
        return self._cost

    def fingerprint(self) -> str:
        """Return the digest of judge, options and back end."""
        return digest("judge", self.name, self.options, self.backend.fingerprint())

    def _spent(self, answers: Sequence[A]) -> Sequence[A]:
        for answer in answers:
            self._cost = self._cost + answer.cost  # type: ignore[attr-defined]
        return answers

    def _fit(
        self, build: Callable[[Sequence[str]], Prompt], contents: Sequence[str], *, reserve: int = 8
    ) -> tuple[Prompt, bool]:
        context = self.backend.context
        prompt, cut = prompts.fit(
            build,
            contents,
            words=self.options.words,
            limit=None if context is None else context - reserve,
            count=self.backend.count,
        )
        if cut:
            self.report["truncated"] += 1
        return prompt, cut

    def _next(self, asked: Sequence[Prompt], tokens: Sequence[str]) -> list[FloatArray]:
        answers: Sequence[TokenScores] = self._spent(self.backend.next_token(asked, tokens))
        return [self._filled(a.values) for a in answers]

    def _filled(self, values: FloatArray) -> FloatArray:
        """Put what an endpoint did not list below what it did; all NaN stays."""
        missing = np.isnan(values)
        if missing.all():
            self.report["fallback"] += 1
            return values
        if missing.any():
            self.report["repaired"] += 1
            values = np.where(missing, np.nanmin(values) - 1.0, values)
        return values


def text_of(content: Content, judge: str) -> str:
    """Return a content's text; a picture is read through its caption.

    Raises
    ------
    Unsupported
        For a picture without a caption.
    """
    if isinstance(content, Picture):
        if content.caption:
            return content.caption
        raise Unsupported(f"judge {judge!r} reads text, and a picture here has no caption; use mm-r5 or gmr")
    return content or "(empty)"


def texts(group: Group, judge: str) -> list[str]:
    """Return the texts of a group's items."""
    return [text_of(item.content, judge) for item in group.items]


def task_of(question: Pair | Group | Any) -> str:
    """Return the question's instruction, or a general one."""
    return str(question.instruction) or "Judge how relevant candidates are to a query."


def by_size(groups: Sequence[Group]) -> dict[int, list[int]]:
    """Return positions of groups by their number of items, so that label sets can be asked together."""
    found: dict[int, list[int]] = {}
    for i, group in enumerate(groups):
        found.setdefault(len(group.items), []).append(i)
    return found


def best_first(scores: FloatArray) -> tuple[int, ...]:
    """Return positions by falling score, ties in the given order."""
    return tuple(int(i) for i in np.lexsort((np.arange(len(scores)), -scores)))


def status_of(cut: bool, broken: bool = False) -> Status:
    """Return the status of an answer from scores."""
    return Status.FALLBACK if broken else Status.TRUNCATED if cut else Status.OK

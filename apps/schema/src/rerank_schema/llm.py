"""A language model on top of another matcher's candidates.

Scores of a language model are coarse and do not compare between source columns, which costs Recall@GT where they
replace the first stage's (0.66 to 0.51 on Valentine's OpenData in Magneto's own figures). So they are added to the
first stage's score, in units of its spread, and "none of the above" lowers a whole column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rerank_core.budget import Budget, Meter
from rerank_core.reranker import digest
from rerank_core.types import Cost
from rerank_schema import prompts
from rerank_schema.scored import Matcher, Scored
from rerank_schema.structure import affinity, table_positions
from rerank_schema.tables import Column

if TYPE_CHECKING:
    from rerank_lm.backends.base import BackEnd, Prompt

BATCH = 8


@dataclass(frozen=True)
class LlmParams:
    """How a language model is asked.

    Parameters
    ----------
    style
        ``score``, ``table`` or ``choice``; see [`rerank_schema.prompts`][].
    topk
        Candidates shown of a source column.
    tables
        Target tables shown for a source table (``table`` only).
    weight
        How much a full point of the model's score is worth, in deviations of the first stage's scores.
    max_tokens
        Longest answer.
    """

    style: str = "score"
    topk: int = 20
    tables: int = 3
    weight: float = 4.0
    max_tokens: int = 1024

    def __post_init__(self) -> None:
        if self.style not in prompts.STYLES:
            raise ValueError(f"unknown style {self.style!r}; styles: {', '.join(prompts.STYLES)}")
        if not 1 <= self.topk <= len(prompts.LETTERS) - 1:
            raise ValueError(f"topk must lie between 1 and {len(prompts.LETTERS) - 1}")


@dataclass
class Tally:
    """What a run asked and got."""

    cost: Cost = field(default_factory=Cost)
    unusable: int = 0
    invented: int = 0
    missing: int = 0
    unasked: int = 0


@dataclass(frozen=True, eq=False)
class Question:
    """One prompt, and how its answer turns into (source, target, score) triples and "none" confidences."""

    text: str
    read: Callable[[str], Answered | None]


@dataclass(frozen=True)
class Answered:
    """What an answer says."""

    scores: dict[tuple[int, int], float]
    none: dict[int, float]
    invented: int = 0
    missing: int = 0


class LlmMatcher:
    """Reranks another matcher's candidates with a language model, within a budget.

    Parameters
    ----------
    backend
        A back end of rerank-lm: an OpenAI-compatible endpoint or a local model, with or without cache.
    budget
        Questions and seconds; source columns beyond it keep the first stage's order. A question that the back end
        tries again after an error counts once.
    """

    name = "llm"

    def __init__(
        self, base: Matcher, backend: BackEnd, params: LlmParams = LlmParams(), budget: Budget | None = None
    ) -> None:
        self.base, self.backend, self.params, self.budget = base, backend, params, budget
        self.tally = Tally()

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest(self.name, self.base.fingerprint(), self.backend.fingerprint(), self.params)

    def score(self, sources: Sequence[Column], targets: Sequence[Column]) -> Scored:
        """Score all pairs; what the model was not asked about keeps its score."""
        scored = self.base.score(sources, targets)
        asked = questions(sources, targets, scored, self.params)
        answers = self._ask(asked)
        return fuse(scored, answers, self.params.weight)

    def _ask(self, asked: Sequence[Question]) -> list[Answered]:
        from rerank_lm.backends.base import Sampling

        meter, out = Meter(self.budget), []
        sampling = Sampling(max_tokens=self.params.max_tokens)
        at = 0
        while at < len(asked):
            left = meter.left()
            if self.budget is not None and left.spent:
                break
            size = BATCH if left.calls is None else min(BATCH, left.calls)
            part = asked[at : at + size]
            for question, completion in zip(
                part, self.backend.generate([as_prompt(q) for q in part], sampling), strict=True
            ):
                # An answer from the cache costs nothing and uses no budget.
                meter.add(completion.cost)
                answer = question.read(completion.text) if not completion.error else None
                if answer is None:
                    self.tally.unusable += 1
                else:
                    self.tally.invented += answer.invented
                    self.tally.missing += answer.missing
                    out.append(answer)
            at += len(part)
        self.tally.unasked += len(asked) - at
        self.tally.cost = self.tally.cost + meter.cost
        return out


def as_prompt(question: Question) -> Prompt:
    """Return the question as a conversation."""
    from rerank_lm.backends.base import Prompt

    return Prompt.user(question.text, system=prompts.SYSTEM)


def questions(
    sources: Sequence[Column], targets: Sequence[Column], scored: Scored, params: LlmParams
) -> list[Question]:
    """Write the questions, one a source column (one a source table for ``table``)."""
    if params.style == "table":
        return _table_questions(sources, targets, scored, params)
    ask, read = (
        (prompts.ask_scores, prompts.read_scores)
        if params.style == "score"
        else (prompts.ask_choice, prompts.read_choice)
    )
    out = []
    for s, places in enumerate(scored.top(params.topk)):
        if places:
            candidates = [targets[t] for t in places]
            out.append(Question(ask(sources[s], candidates), _reader(s, places, candidates, read)))
    return out


def _reader(
    source: int,
    places: Sequence[int],
    candidates: Sequence[Column],
    read: Callable[[str, Sequence[Column]], prompts.Reading | None],
) -> Callable[[str], Answered | None]:
    def answered(text: str) -> Answered | None:
        reading = read(text, candidates)
        if reading is None:
            return None
        scores = {(source, places[i]): score for i, score in reading.scores.items()}
        none = {} if reading.none is None else {source: reading.none}
        return Answered(scores, none, reading.invented, reading.missing)

    return answered


def _table_questions(
    sources: Sequence[Column], targets: Sequence[Column], scored: Scored, params: LlmParams
) -> list[Question]:
    if not sources or not targets:
        return []
    source_tables, n_source = table_positions(sources)
    target_tables, _ = table_positions(targets)
    near = affinity(np.nan_to_num(np.asarray(scored.scores, dtype=np.float32), nan=-1.0), source_tables, target_tables)
    out = []
    for table in range(n_source):
        rows = np.flatnonzero(source_tables == table).tolist()
        nearest = np.argsort(-near[table], kind="stable")[: params.tables]
        columns = np.flatnonzero(np.isin(target_tables, nearest)).tolist()
        text = prompts.ask_table([sources[s] for s in rows], [targets[t] for t in columns])
        out.append(Question(text, _table_reader(rows, columns)))
    return out


def _table_reader(rows: Sequence[int], columns: Sequence[int]) -> Callable[[str], Answered | None]:
    def answered(text: str) -> Answered | None:
        reading = prompts.read_table(text, len(rows), len(columns))
        if reading is None:
            return None
        scores = {
            (rows[i], columns[j]): 1.0 / (1 + place)
            for i, targets in reading.items()
            for place, j in enumerate(targets)
        }
        none = {rows[i]: 1.0 for i, targets in reading.items() if not targets}
        return Answered(scores, none, 0, len(rows) - len(reading))

    return answered


def fuse(scored: Scored, answers: Sequence[Answered], weight: float) -> Scored:
    """Add the model's scores to the first stage's."""
    scores: NDArray[np.float64] = np.array(scored.scores, dtype=np.float64)
    finite = scores[np.isfinite(scores)]
    unit = weight * (float(finite.std()) or 1.0) if len(finite) else weight
    said: dict[tuple[int, int], float] = {}
    for answer in answers:
        for (s, t), score in answer.scores.items():
            said[s, t] = score
            scores[s, t] = np.nan_to_num(scores[s, t]) + unit * score
        for s, none in answer.none.items():
            scores[s] -= unit * none

    def evidence(s: int, t: int) -> dict[str, float]:
        found = dict(scored.evidence(s, t))
        return found | {"model": said[s, t]} if (s, t) in said else found

    return Scored(scores, evidence, dict(scored.words) | {"model": "language model says"})

"""Learn from a reviewer's answers on one table pair: reorder what is still open, and keep the model for other pairs.

Only answered columns teach, only open ones are reordered. What is reported was measured on answered columns that the
ranker had not seen (cross-fitting over columns), and a ranker that does not help there is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import UsageError
from rerank_core.learning import FeatureTable, LambdaRank, LambdaRankParams, cross_fit
from rerank_schema.decide import Decider, decide, packaged_decider
from rerank_schema.features import pair_table
from rerank_schema.gold import GoldPairs, Name
from rerank_schema.learned import POOL, WEIGHT, combine, decider_examples, right_pairs, save_learned
from rerank_schema.matching import match_scored
from rerank_schema.review.state import Review
from rerank_schema.scored import Matcher, Scored
from rerank_schema.tables import Schema

LEAST = 5
"""Fewest source columns with an accepted target that are learned from."""
FOLDS = 5
PARAMS = LambdaRankParams(n_estimators=80, learning_rate=0.05, num_leaves=7, min_child_samples=10)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What answers taught.

    Parameters
    ----------
    columns
        Answered source columns that the ranker learned from.
    before, after
        MRR of those columns by the default and by rankers that had not seen them.
    ranker, decider
        Fitted on all answers; the decision is the packaged one where the answers do not suffice.
    scored
        Scores of the table pair; the default's where the ranker does not help.
    """

    columns: int
    before: float
    after: float
    ranker: LambdaRank
    decider: Decider
    scored: Scored

    @property
    def helps(self) -> bool:
        """Whether answered columns that were left out are ranked at least as well as before."""
        return self.after >= self.before


def learn(source: Schema, target: Schema, answers: Mapping[Name, Sequence[Name]], base: Matcher) -> Lesson:
    """Fit a ranker on the answered columns of a table pair.

    Parameters
    ----------
    answers
        Source column -> its targets; an empty sequence says "no match".
    base
        The matcher whose candidates are reordered.

    Raises
    ------
    UsageError
        When fewer than five answered columns have their target among the candidates.
    """
    scored = base.score(source.columns, target.columns)
    tops = scored.top(POOL)
    right = right_pairs(source, target, GoldPairs(tuple((s, t) for s, ts in answers.items() for t in ts)))
    table = pair_table(source.columns, target.columns, scored, tops)
    gains = np.array([float((s, t) in right) for s, row in enumerate(tops) for t in row])
    taught = [i for i, part in enumerate(table.split(gains)) if part.any() and not part.all()]
    if len(taught) < LEAST:
        raise UsageError(f"{len(taught)} answered columns have their target among the candidates; {LEAST} are needed")
    ranker = LambdaRank(PARAMS).fit(table.take(taught), gains[table.rows(taught)])
    lifted = combine(scored, tops, _predict(table, gains, taught, ranker), WEIGHT)
    before, after = (_mrr(s, right, taught) for s in (scored, lifted))
    used = lifted if after >= before else scored
    known = {i for i, c in enumerate(source.columns) if (c.table, c.name) in answers}
    return Lesson(len(taught), before, after, ranker, _decider(used, right, known), used)


def _predict(
    table: FeatureTable, gains: NDArray[np.float64], taught: Sequence[int], ranker: LambdaRank
) -> NDArray[np.float64]:
    """Predict open columns by the ranker and answered ones by rankers that did not see them."""
    out = ranker.predict(table)
    rows = table.rows(taught)
    names = [str(i) for i in taught]
    out[rows] = cross_fit(table.take(taught), gains[rows], names, min(FOLDS, len(taught)), PARAMS)
    return out


def _mrr(scored: Scored, right: set[tuple[int, int]], columns: Sequence[int]) -> float:
    ranks = []
    for s, row in enumerate(scored.top(POOL)):
        if s in columns:
            places = [rank for rank, t in enumerate(row, start=1) if (s, t) in right]
            ranks.append(1 / places[0] if places else 0.0)
    return float(np.mean(ranks))


def _decider(scored: Scored, right: set[tuple[int, int]], known: set[int]) -> Decider:
    """Fit the decision on answered columns, where they hold enough of both outcomes."""
    tops = [row if s in known else [] for s, row in enumerate(scored.top(20))]
    x, y = decider_examples(scored, tops, right)
    return Decider.fit(x, y) if y.sum() >= 2 * LEAST else packaged_decider()


def trainer(source: Schema, target: Schema, base: Matcher, folder: Path) -> Callable[[Review], str]:
    """Return what the review page's button does: learn, keep what helps, reorder open columns, say what it is worth."""

    def train(review: Review) -> str:
        lesson = learn(source, target, {s: a.targets for s, a in review.answers.items()}, base)
        worth = f"answered columns left out: MRR {lesson.before:.3f} before, {lesson.after:.3f} after"
        if not lesson.helps:
            return f"learning from {lesson.columns} columns does not help ({worth}); the order stays, no model is kept"
        save(lesson, folder, source.name)
        decision = lambda s, tops: decide(s, tops, lesson.decider)  # noqa: E731
        review.reorder(match_scored(source, target, lesson.scored, decision))
        return f"learned from {lesson.columns} columns ({worth}); model in {folder}"

    return train


def save(lesson: Lesson, folder: Path, pair: str) -> None:
    """Write a model folder for ``match --method``."""
    about = {
        "weight": WEIGHT, "pool": POOL, "pairs": [pair], "columns": lesson.columns,
        "MRR": {"default": lesson.before, "learned, columns left out": lesson.after},
    }  # fmt: skip
    save_learned(folder, lesson.ranker, lesson.decider, about)

"""E2Rank: one embedding model retrieves and reranks, with a query that has read the first documents.

Source: E2Rank (2025). Score = cosine(pseudo-query, document); the pseudo-query is the embedding of a listwise prompt
over the first stage's top documents, so a reranking costs one forward where document vectors exist already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rerank_core.strategies.judges import Group, Order
from rerank_core.types import FloatArray
from rerank_lm import prompts
from rerank_lm.backends.base import Capability, Prompt, Vector
from rerank_lm.judges.base import Options, TextJudge, best_first, task_of, text_of, texts


@dataclass(frozen=True)
class E2RankOptions(Options):
    """Depth of feedback and the token that ends what is embedded.

    Parameters
    ----------
    feedback
        First-stage documents in the pseudo-query.
    feedback_words
        Most words of each of them.
    end
        Appended to documents, not to the pseudo-query (as in the released code).
    """

    words: int = 1024
    feedback: int = 20
    feedback_words: int = 1024
    end: str = ""


class E2Rank(TextJudge):
    """Cosine of every candidate with the pseudo-query."""

    name = "e2rank"
    needs = (Capability.EMBED,)
    options_type: ClassVar[type[Options]] = E2RankOptions

    def score_groups(self, groups: Sequence[Group]) -> list[FloatArray]:
        """Return one array a group; the items' first-stage ranks say which are feedback."""
        if not groups:
            return []
        asked: list[Prompt] = []
        for group in groups:
            asked.append(self._pseudo_query(group))
            asked += [
                Prompt.plain(prompts.shorten(t, self.options.words) + self.options.end) for t in texts(group, self.name)
            ]
        vectors: Sequence[Vector] = self._spent(self.backend.embed(asked))
        out, at = [], 0
        for group in groups:
            n = len(group.items)
            query = vectors[at].values.astype(np.float64)
            documents = [v.values.astype(np.float64) for v in vectors[at + 1 : at + 1 + n]]
            out.append(np.array([float(query @ d) for d in documents]))
            at += 1 + n
        return out

    def order(self, groups: Sequence[Group]) -> list[Order]:
        """Return the groups by cosine."""
        return [Order(best_first(s), scores=tuple(s)) for s in self.score_groups(groups)]

    def _pseudo_query(self, group: Group) -> Prompt:
        o, task, query = self.options, task_of(group), text_of(group.query, self.name)
        first = sorted(group.items, key=lambda i: i.rank)[: o.feedback]
        contents = [text_of(i.content, self.name) for i in first]
        context = self.backend.context
        prompt, cut = prompts.fit(
            lambda c: prompts.pseudo_query(task, query, c),
            contents,
            words=o.feedback_words,
            limit=context,
            count=self.backend.count,
        )
        self.report["truncated"] += int(cut)
        return prompt

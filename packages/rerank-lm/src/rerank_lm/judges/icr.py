"""In-context reranking: candidates ranked by the attention they get from the query.

Source: Chen et al., "Attention in Large Language Models Yields Efficient Zero-Shot Re-Rankers" (ICLR 2025). Two
forward passes whatever the number of candidates, and the second (query ``N/A``) only over the suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from rerank_core.strategies.judges import Group, Order
from rerank_core.types import Cost, FloatArray
from rerank_lm import prompts
from rerank_lm.backends.base import Capability
from rerank_lm.judges.base import Options, TextJudge, best_first, status_of, text_of, texts


@dataclass(frozen=True)
class IcrOptions(Options):
    """How the paragraphs are laid out.

    Parameters
    ----------
    reverse
        Show the candidates best last, as the official code does.
    kind
        ``find`` (retrieval) or ``answer`` (question answering): the task sentence after the paragraphs.
    calibrate
        Subtract what a query ``N/A`` attends to and drop tokens far below their document's mean.
    """

    reverse: bool = True
    kind: Literal["find", "answer"] = "find"
    calibrate: bool = True
    blank: str = "N/A"


class Icr(TextJudge):
    """Attention from query to candidate, calibrated by a content-free query.

    The query region is everything after the last candidate (instruction, query and the turn's end), as in the
    official code; the paper's text reads as if it were the query alone.
    """

    name = "icr"
    needs = (Capability.ATTENTION,)
    options_type: ClassVar[type[Options]] = IcrOptions

    def score_groups(self, groups: Sequence[Group]) -> list[FloatArray]:
        """Return one array a group."""
        return [self._score(g)[0] for g in groups]

    def order(self, groups: Sequence[Group]) -> list[Order]:
        """Return the groups by attention."""
        out = []
        for group in groups:
            scores, cut, cost = self._score(group)
            out.append(Order(best_first(scores), status_of(cut), tuple(scores), cost))
        return out

    def _score(self, group: Group) -> tuple[FloatArray, bool, Cost]:
        if not group.items:
            return np.empty(0), False, Cost()
        o, query = self.options, text_of(group.query, self.name)
        before, after = self.backend.turn()
        n = len(group.items)
        shown = list(range(n))[::-1] if o.reverse else list(range(n))
        contents, cut = self._shortened([texts(group, self.name)[i] for i in shown], query)
        body, spans = prompts.icr_context(contents, [str(i + 1) for i in range(n)])
        moved = [(a + len(before), b + len(before)) for a, b in spans]
        asked = [query, o.blank] if o.calibrate else [query]
        task = prompts.ICR_INSTRUCTIONS[o.kind]
        suffixes = [prompts.icr_suffix(q, task) + after for q in asked]
        answers = self._spent(self.backend.attention(before + body, moved, suffixes))
        if o.calibrate:
            values = [calibrated(a, b) for a, b in zip(answers[0].spans, answers[1].spans, strict=True)]
        else:
            values = [float(a.sum()) for a in answers[0].spans]
        scores = np.empty(n)
        scores[shown] = values
        return scores, cut, sum((a.cost for a in answers), Cost())

    def _shortened(self, contents: list[str], query: str) -> tuple[list[str], bool]:
        """Cut to the words that fit, with a reserve for labels and separators."""
        context = self.backend.context
        overhead = 8 * len(contents) + 96
        kept: list[str] = []

        def build(shorter: Sequence[str]) -> prompts.Prompt:
            kept[:] = shorter
            return prompts.Prompt.plain("\n".join([*shorter, query]))

        _, cut = prompts.fit(
            build,
            contents,
            words=self.options.words,
            limit=None if context is None else context - overhead,
            count=self.backend.count,
        )
        if cut:
            self.report["truncated"] += 1
        return list(kept), cut


def calibrated(query: FloatArray, blank: FloatArray) -> float:
    """Sum over a document's tokens of attention difference, without tokens below mean - 2 standard deviations.

    Only abnormally negative tokens are dropped; the deviation is the unbiased one.
    """
    gap = query - blank
    if gap.size < 2:
        return float(gap.sum())
    return float(gap[gap > gap.mean() - 2 * gap.std(ddof=1)].sum())

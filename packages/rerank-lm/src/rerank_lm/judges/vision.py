"""Judges that see: MM-R5's ranking of page pictures and GMR's yes/no score over text and pictures.

Sources: MM-R5 (arXiv 2506.12364), a Qwen2.5-VL that reasons and then lists image numbers; GMR / lychee-rerank-mm
(arXiv 2510.14824), whose score is ``e^yes / (e^yes + e^no)`` from the output rows of the two tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rerank_core.strategies.judges import Content, Group, Order, Pair
from rerank_core.types import FloatArray, Status
from rerank_lm.backends.base import Capability, Message, Prompt, Sampling
from rerank_lm.judges.base import Options, TextJudge, task_of
from rerank_lm.parsing import parse_image_order_official, parse_permutation


@dataclass(frozen=True)
class MmR5Options(Options):
    """Decoding and parsing; the released settings sample at 0.3 with up to 8,192 tokens."""

    temperature: float = 0.3
    seed: int = 0
    max_tokens: int = 8192
    official_parser: bool = False


class MmR5(TextJudge):
    """One call over all candidates: reasoning, then ``<answer>[2, 1, 3]</answer>``.

    The released parser keeps repeated ids and gives up at one entry that is no number; ours drops doubles, keeps the
    good ids and says so in the status.
    """

    name = "mm-r5"
    needs = (Capability.GENERATE, Capability.IMAGES)
    options_type: ClassVar[type[Options]] = MmR5Options

    def prompt(self, group: Group) -> Prompt:
        """Return the question with the candidates interleaved."""
        n = len(group.items)
        example = ", ".join(str(i) for i in [*range(2, n + 1), 1]) if n > 1 else "1"
        parts: list[Content] = [
            f"{task_of(group)}\nRank the {n} images below by how much they help to answer the question. Examine each one "
            f"inside <think></think>, then list all numbers from 1 to {n}, most helpful first, like "
            f"<answer>[{example}]</answer>.\nQuestion: ",
            group.query,
            f"\nNumber of images: {n}\n",
        ]
        for i, item in enumerate(group.items):
            parts += [f"\nImage {i + 1}: ", item.content]
        system = Message("system", "Reason between think tags first, then answer between answer tags.")
        return Prompt((system, Message("user", tuple(parts))))

    def order(self, groups: Sequence[Group]) -> list[Order]:
        """Return one order a group."""
        o = self.options
        full = [i for i, g in enumerate(groups) if len(g.items) > 1]
        out = [Order(tuple(range(len(g.items)))) for g in groups]
        sampling = Sampling(o.max_tokens, o.temperature, o.seed)
        answers = self._spent(self.backend.generate([self.prompt(groups[i]) for i in full], sampling)) if full else []
        for i, answer in zip(full, answers, strict=True):
            n = len(groups[i].items)
            if o.official_parser:
                order = list(dict.fromkeys(parse_image_order_official(answer.text, n)))
                out[i] = Order(tuple(order), Status.OK, None, answer.cost)
                continue
            parsed = parse_permutation(answer.text, n, cut=answer.finish == "length")
            self.report[parsed.status.value] += 1
            out[i] = Order(parsed.permutation, parsed.status, None, answer.cost)
        return out


@dataclass(frozen=True)
class GmrOptions(Options):
    """The two answers, and which score: ``sft`` is the yes/no log-odds, ``contrastive`` the yes logit alone."""

    yes: str = "yes"
    no: str = "no"
    contrastive: bool = False


class Gmr(TextJudge):
    """Yes/no logits over an (instruction, query, document) triplet of text and pictures."""

    name = "gmr"
    needs = (Capability.NEXT_TOKEN,)
    options_type: ClassVar[type[Options]] = GmrOptions

    def prompt(self, pair: Pair) -> Prompt:
        """Return the question."""
        parts: tuple[Content, ...] = (
            f"Instruction: {task_of(pair)}\nQuery: ",
            pair.query,
            "\nDocument: ",
            pair.item.content,
            "\nDoes the document meet the instruction for the query? Reply yes or no.",
        )
        return Prompt((Message("user", parts),))

    def score(self, pairs: Sequence[Pair]) -> FloatArray:
        """Return log-odds (or yes logits), shape (n_pairs,)."""
        if not pairs:
            return np.empty(0)
        rows = self._next([self.prompt(p) for p in pairs], (self.options.yes, self.options.no))
        return np.array([r[0] if self.options.contrastive else r[0] - r[1] for r in rows], dtype=np.float64)

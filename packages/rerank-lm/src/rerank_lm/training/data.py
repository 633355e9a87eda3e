"""From a domain's labelled dataset to training lists; groups are never split, labels never leave this module."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError, UsageError
from rerank_core.strategies import Group, Item, Pair, Picture
from rerank_core.types import Candidate, Dataset, Request
from rerank_lm.prompts import shorten
from rerank_lm.training.recipe import Data


@dataclass(frozen=True)
class Labelled:
    """A rendered list with its truth.

    Parameters
    ----------
    question
        Query and candidates as judges see them.
    gains, teacher
        One a candidate; the teacher's scores where there is one.
    """

    id: str
    group: str
    question: Group
    gains: tuple[float, ...]
    teacher: tuple[float, ...] = ()

    @property
    def pairs(self) -> list[Pair]:
        """The candidates one by one."""
        return [Pair(self.question.query, item, self.question.instruction) for item in self.question.items]

    def take(self, positions: Sequence[int]) -> Labelled:
        """Return the list with some candidates only, in that order."""
        items = tuple(self.question.items[i] for i in positions)
        return replace(
            self,
            question=replace(self.question, items=items),
            gains=tuple(self.gains[i] for i in positions),
            teacher=tuple(self.teacher[i] for i in positions) if self.teacher else (),
        )

    def request(self) -> Request[str, str]:
        """The list as a request of texts, without labels."""
        items = self.question.items
        return Request(
            self.id, str(self.question.query), tuple(Candidate(i.id, str(i.content), i.score) for i in items)
        )


@dataclass(frozen=True)
class Lists:
    """Lists to learn from and lists to stop by."""

    train: tuple[Labelled, ...]
    held: tuple[Labelled, ...]
    dropped: int
    instruction: str
    name: str


def load_lists(data: Data, seed: int) -> Lists:
    """Read, render, split by group, and leave out lists that teach nothing.

    Raises
    ------
    UsageError
        When the domain cannot be rendered or has no loader for a folder.
    InputError
        When no list has candidates of different gain.
    """
    from rerank_core.domain import load

    domain = load(data.domain)
    if domain.rendering is None:
        raise UsageError(f"domain {data.domain!r} has no text rendering to train on")
    if data.folder is None:
        dataset = domain.sample()
    elif domain.load is None:
        raise UsageError(f"domain {data.domain!r} cannot load a folder")
    else:
        dataset = domain.load(Path(data.folder).expanduser())
    return lists_of(dataset, domain.rendering, data, seed)


def lists_of(dataset: Dataset[Any, Any], rendering: Any, data: Data, seed: int) -> Lists:
    """Turn a dataset into lists; see [`load_lists`][]."""
    everything, dropped = [], 0
    for request in list(dataset.requests)[: data.limit]:
        labelled = _render(request, dataset, rendering, data)
        if len(set(labelled.gains)) < 2:
            dropped += 1  # no positive, or all alike: there is no better order to learn
        else:
            everything.append(labelled)
    if not everything:
        raise InputError(
            f"none of {dropped} lists has candidates of different gain within the first {data.depth}: nothing to learn"
        )
    groups = sorted({x.group for x in everything})
    order = np.random.default_rng(seed).permutation(len(groups))
    n_held = min(len(groups) - 1, round(data.held_out * len(groups)))
    held = {groups[i] for i in order[:n_held]}
    train = [x for x in everything if x.group not in held]
    if data.rewrite_terms:
        train = rewritten(train, data.rewrite_terms)
    return Lists(
        tuple(train), tuple(x for x in everything if x.group in held), dropped, rendering.instruction, dataset.name
    )


def _render(request: Request[Any, Any], dataset: Dataset[Any, Any], rendering: Any, data: Data) -> Labelled:
    gold = dataset.gold.get(request.id, {})
    candidates = request.candidates[: data.depth]
    items = tuple(
        Item(shorten(_words(rendering.candidate(c)), data.words), c.id, c.score, rank)
        for rank, c in enumerate(candidates)
    )
    question = Group(_words(rendering.query(request.query)), items, rendering.instruction)
    grades = [float(gold.get(c.id, 0.0)) for c in candidates]
    gains = tuple(g if g >= data.least_gain else 0.0 for g in grades)
    return Labelled(request.id, dataset.group_of(request.id), question, gains)


def _words(content: str | Picture) -> str:
    if isinstance(content, Picture):
        if not content.caption:
            raise UsageError("this domain shows pictures; text recipes need captions")
        return content.caption
    return content


def sampled(labelled: Labelled, size: int, seed: Sequence[int]) -> Labelled:
    """Draw a list of at most ``size``: positives first (at most half), the rest at random, then shuffled."""
    n = len(labelled.gains)
    if n <= size:
        chosen = np.arange(n)
    else:
        rng = np.random.default_rng(list(seed))
        gains = np.array(labelled.gains)
        positives = rng.permutation(np.flatnonzero(gains > 0))[: max(1, size // 2)]
        others = rng.permutation(np.setdiff1d(np.arange(n), positives))
        # What is left may hold further positives: they are candidates like any other.
        chosen = np.concatenate([positives, others])[:size]
    rng = np.random.default_rng([*seed, 1])
    return labelled.take(rng.permutation(chosen).tolist())


_TOKEN = re.compile(r"[^\W_]+")


def rewritten(lists: Sequence[Labelled], n_terms: int) -> list[Labelled]:
    """CAR: add to each training query the terms that set a relevant candidate apart.

    Source: "Context-aware query rewriting for improving users' search experience" line of work (CAR): a language model
    rewrites an ambiguous training query given the query and a relevant document; test queries stay untouched. Without
    such a model this extractive stand-in takes the terms with the highest tf-idf among the list's candidates.
    """
    out = []
    for labelled in lists:
        documents = [Counter(_TOKEN.findall(str(i.content).lower())) for i in labelled.question.items]
        frequency = Counter(t for d in documents for t in d)
        best = documents[int(np.argmax(labelled.gains))]
        known = set(_TOKEN.findall(str(labelled.question.query).lower()))
        weight = {t: c * math.log((1 + len(documents)) / frequency[t]) for t, c in best.items() if t not in known}
        terms = sorted((t for t in weight if len(t) > 2), key=lambda t: (-weight[t], t))[:n_terms]
        query = " ".join([str(labelled.question.query), *terms])
        out.append(replace(labelled, question=replace(labelled.question, query=query)))
    return out


def taught(lists: Sequence[Labelled], teacher: str) -> list[Labelled]:
    """Score every candidate with a teacher cross-encoder."""
    from rerank_lm.encoders import CrossEncoder

    model = CrossEncoder.load(teacher)
    pairs = [(str(x.question.query), str(i.content)) for x in lists for i in x.question.items]
    scores = iter(model.score(pairs).tolist())
    return [replace(x, teacher=tuple(float(next(scores)) for _ in x.gains)) for x in lists]

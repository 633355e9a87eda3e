"""The rerankers that need nothing but the candidates and the data they run on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

from rerank_core.reranker import digest
from rerank_core.types import Cost, Ranking, Request, Status
from rerank_programs import equality
from rerank_programs.data import Program, Task
from rerank_programs.execution import Executor
from rerank_programs.expectation import Expectation
from rerank_programs.results import Outcome
from rerank_programs.semantic import VOTE, Cluster, Picked, SemanticConfig, base_scores, pick

_TOKEN = re.compile(r"[^\W\d]\w*|\d+(?:\.\d+)?|[^\w\s]")


@dataclass(frozen=True)
class Evidence:
    """A request, what its candidates did and how they are ordered: all that an explanation needs."""

    request: Request[Task, Program]
    outcomes: tuple[Outcome, ...]
    picked: Picked
    mode: str

    @cached_property
    def ranking(self) -> Ranking:
        """The order as a ranking; each candidate's reason says where it stands."""
        ids = self.request.ids
        order = [ids[i] for i in self.picked.order]
        status = Status.FALLBACK if self.picked.all_failed else Status.OK
        return Ranking.from_order(
            self.request,
            order,
            scores={ids[i]: s for i, s in zip(self.picked.order, self.picked.scores, strict=True)},
            status=status,
            cost=Cost(calls=len(ids)),
            reasons=reasons(self),
        )


class OutcomeScorer(Protocol):
    """Orders one request's candidates, given what they did."""

    @property
    def name(self) -> str: ...

    def picks(
        self, requests: Sequence[Request[Task, Program]], outcomes: Sequence[Sequence[Outcome]]
    ) -> list[Picked]: ...

    def fingerprint(self) -> str: ...


@dataclass
class ByOutcome:
    """Runs the candidates and lets a scorer order them: the frame of every executing method.

    Parameters
    ----------
    scorer
        How to order.
    executor
        How to run.
    mode
        How results were compared, for the outputs.
    """

    scorer: OutcomeScorer
    executor: Executor = field(default_factory=Executor)
    mode: str = "spider"

    @property
    def name(self) -> str:
        """The scorer's name."""
        return self.scorer.name

    def evidence(self, requests: Sequence[Request[Task, Program]]) -> list[Evidence]:
        """Run and order, keeping everything that was seen."""
        outcomes = self.executor.outcomes(requests)
        picks = self.scorer.picks(requests, outcomes)
        label = equality.MODES[self.mode].label
        return [
            Evidence(request, tuple(seen), picked, label)
            for request, seen, picked in zip(requests, outcomes, picks, strict=True)
        ]

    def rerank(self, requests: Sequence[Request[Task, Program]]) -> list[Ranking]:
        """Run and order."""
        return [e.ranking for e in self.evidence(requests)]

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("programs", self.scorer.fingerprint(), self.executor.limits.key(), self.mode)


@dataclass(frozen=True)
class Semantic:
    """Semantic reranking and, with its tuning switched off, plain voting on results.

    Parameters
    ----------
    expected
        Predicted outputs by request id; the others are guessed from the question.
    """

    config: SemanticConfig = field(default_factory=SemanticConfig)
    name: str = "semantic"
    expected: dict[str, Expectation] = field(default_factory=dict)

    def picks(self, requests: Sequence[Request[Task, Program]], outcomes: Sequence[Sequence[Outcome]]) -> list[Picked]:
        """Order each request; see [`rerank_programs.semantic.pick`][]."""
        return [
            pick(r, seen, _for_language(self.config, r.query.language), self.expected.get(r.id))
            for r, seen in zip(requests, outcomes, strict=True)
        ]

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("semantic", repr(self.config), repr(sorted(self.expected.items())))


def _for_language(config: SemanticConfig, language: str) -> SemanticConfig:
    """Compare frames as frames: their row order and labels are part of the answer."""
    if language in ("pandas", "python") and config.mode == "spider":
        return replace(config, mode="frame")
    return config


def vote(mode: str = "spider") -> Semantic:
    """Return the scorer of plain voting on results."""
    return Semantic(replace(VOTE, mode=mode), "vote")


@dataclass(frozen=True)
class MbrExec:
    """MBR-exec (Shi et al., EMNLP 2022), as its code: most agreeing results, ties by log-probability.

    key(x) = how many samples that ran gave x's result, itself included; samples count as often as they were drawn.
    The published selector keeps the first maximum of an unordered set; here the first in the given order. Nothing is
    interleaved: members of the leading cluster follow one another.
    """

    mode: str = "spider"
    name: str = "mbr-exec"

    def picks(self, requests: Sequence[Request[Task, Program]], outcomes: Sequence[Sequence[Outcome]]) -> list[Picked]:
        """Order each request."""
        return [self._pick(r, seen) for r, seen in zip(requests, outcomes, strict=True)]

    def _pick(self, request: Request[Task, Program], outcomes: Sequence[Outcome]) -> Picked:
        config = replace(VOTE, mode=_for_language(SemanticConfig(mode=self.mode), request.query.language).mode)
        counts = [c.content.count for c in request.candidates]
        groups = equality.clusters(outcomes, config.mode)
        if not groups:
            return pick(request, outcomes, config)
        total = sum(counts[i] for g in groups for i in g)
        support = {i: sum(counts[j] for j in g) for g in groups for i in g}
        likely = base_scores(request.candidates)
        ran = sorted(support, key=lambda i: (-support[i], -likely[i], i))
        failed = [i for i in range(len(outcomes)) if i not in support]
        clusters = [
            Cluster(tuple(sorted(g, key=ran.index)), support[g[0]] / total, support[g[0]] / total)
            for g in sorted(groups, key=lambda g: min(ran.index(i) for i in g))
        ]
        scores = [support[i] / total - 1e-6 * place for place, i in enumerate(ran)]
        tail = [-1.0 - k for k in range(len(failed))]
        return Picked((*ran, *failed), (*scores, *tail), tuple(clusters), clusters[0].mass, all_failed=False)

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("mbr-exec", self.mode)


@dataclass(frozen=True)
class NGram:
    """Overlap of n-grams with the other candidates; for when nothing can run.

    After "Lightweight reranking for language model generations" (Jain et al. 2023, arXiv:2307.06857, abstract only):
    a candidate's score is its mean similarity to all others. Here similarity is the cosine of n-gram presence vectors,
    n = 1..``order``, over lower-cased tokens; samples count as often as they were drawn.
    """

    order: int = 3
    name: str = "ngram"

    def scores(self, request: Request[Task, Program]) -> list[float]:
        """Return one score a candidate, in [0, 1]."""
        grams = [_ngrams(c.content.text, self.order) for c in request.candidates]
        counts = [c.content.count for c in request.candidates]
        others = max(sum(counts) - 1, 1)
        out = []
        for i, a in enumerate(grams):
            total = sum(w * _cosine(a, b) for b, w in zip(grams, counts, strict=True)) - 1.0
            out.append(max(total, 0.0) / others if counts[i] else 0.0)
        return out

    def rerank(self, requests: Sequence[Request[Task, Program]]) -> list[Ranking]:
        """Order each request; nothing is run."""
        return [Ranking.from_scores(r, self.scores(r)) for r in requests]

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("ngram", self.order)


def _ngrams(text: str, order: int) -> frozenset[tuple[str, ...]]:
    tokens = tokenize(text)
    return frozenset(tuple(tokens[i : i + n]) for n in range(1, order + 1) for i in range(len(tokens) - n + 1))


def tokenize(text: str) -> list[str]:
    """Split a program into lower-cased words, numbers and single marks."""
    return [t.lower() for t in _TOKEN.findall(text)]


def _cosine(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / (len(a) * len(b)) ** 0.5 if a and b else 0.0


def reasons(evidence: Evidence) -> dict[str, str]:
    """Say for every candidate why it stands where it stands."""
    ids = evidence.request.ids
    out: dict[str, str] = {}
    n = len(evidence.picked.clusters)
    for rank, cluster in enumerate(evidence.picked.clusters, 1):
        lints = (
            f"; {', '.join(f'{k} x{v}' if v > 1 else k for k, v in Counter(cluster.lints).items())}"
            if cluster.lints
            else ""
        )
        for i in cluster.members:
            out[ids[i]] = f"result {rank} of {n}, share {cluster.mass:.3f}{lints}"
    for i, outcome in enumerate(evidence.outcomes):
        if not outcome.ok:
            out[ids[i]] = f"{outcome.verdict}: {outcome.message}"
    return out

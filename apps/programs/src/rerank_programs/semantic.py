"""Semantic reranking: cluster candidates by what they do, weigh the clusters, show one member of each first.

Follows "From Words to Code" (Khatry et al. 2023): semantic filtering, well-formedness and output-based score tuning,
semantic interleaving, temperature mixing. Only its abstract could be read; every constant is ours and a setting.

Why interleave: if being right depends on the cluster only and exactly one cluster is right with probability equal to
its mass, the chance that one of the first k shown is right is the mass of the *distinct* clusters among them. A second
member of a cluster adds nothing, so showing the heaviest clusters first is optimal for every k at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rerank_core.types import Candidate, Request
from rerank_programs import equality
from rerank_programs.data import Program, Task
from rerank_programs.expectation import Expectation, agreement, guess
from rerank_programs.lints import LintConfig, lint, penalty
from rerank_programs.results import Outcome


@dataclass(frozen=True)
class SemanticConfig:
    """Settings of semantic reranking.

    Parameters
    ----------
    mode
        How results are compared ([`rerank_programs.equality`][]).
    lints
        Penalties, or None for none.
    expectation_weight
        λ of the output-based tuning; 0 switches it off.
    interleave
        Show one member of every cluster before any second member.
    order
        Clusters by ``mass`` or by their ``best`` member's score.
    use_scores
        Let log-probabilities and sample counts weigh the votes; else one candidate, one vote.
    """

    mode: str = "spider"
    lints: LintConfig | None = field(default_factory=LintConfig)
    expectation_weight: float = 0.1
    interleave: bool = True
    order: str = "mass"
    use_scores: bool = True

    def __post_init__(self) -> None:
        if self.mode not in equality.MODES:
            raise ValueError(f"unknown comparison mode {self.mode!r}; known: {', '.join(equality.MODES)}")
        if self.order not in ("mass", "best"):
            raise ValueError("order must be 'mass' or 'best'")


VOTE = SemanticConfig(lints=None, expectation_weight=0.0)
"""Plain voting on results, interleaved."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Candidates with equal results, best first.

    Parameters
    ----------
    members
        Positions in the request.
    mass
        Share of the votes, in [0, 1]; the masses of a request's clusters sum to 1.
    score
        Mass after tuning; clusters are ordered by it.
    lints
        Of the first member's result.
    fit
        Agreement with the predicted output, in [-1, 0].
    """

    members: tuple[int, ...]
    mass: float
    score: float
    lints: tuple[str, ...] = ()
    fit: float = 0.0


@dataclass(frozen=True, slots=True)
class Picked:
    """A request's candidates in their new order.

    Parameters
    ----------
    order
        Positions of all candidates, best first; those that did not run come last.
    scores
        One a position of ``order``, falling.
    clusters
        Best first.
    confidence
        Share of the leading cluster, 0 where nothing ran; calibrate it with
        [`rerank_programs.calibration`][].
    all_failed
        Whether no candidate gave a result: then the order is the one given.
    """

    order: tuple[int, ...]
    scores: tuple[float, ...]
    clusters: tuple[Cluster, ...]
    confidence: float
    all_failed: bool

    @property
    def margin(self) -> float:
        """How far the leading cluster is ahead of the second, in shares."""
        masses = [c.mass for c in self.clusters]
        return (masses[0] if masses else 0.0) - (masses[1] if len(masses) > 1 else 0.0)


def base_scores(candidates: Sequence[Candidate[Program]], use_scores: bool = True) -> list[float]:
    """Return s per candidate: mean log-probability where all have one, else the log of the share of samples."""
    programs = [c.content for c in candidates]
    if not use_scores:
        return [0.0] * len(programs)
    logprobs = [p.logprob for p in programs if p.logprob is not None]
    if len(logprobs) == len(programs):
        return [lp + math.log(p.count) for lp, p in zip(logprobs, programs, strict=True)]
    total = sum(p.count for p in programs)
    return [math.log(p.count / total) for p in programs]


def pick(
    request: Request[Task, Program],
    outcomes: Sequence[Outcome],
    config: SemanticConfig | None = None,
    expected: Expectation | None = None,
) -> Picked:
    """Order one request's candidates by what they did.

    Parameters
    ----------
    outcomes
        One a candidate.
    expected
        Predicted output; by default guessed from the question.
    """
    config = config or SemanticConfig()
    scores = base_scores(request.candidates, config.use_scores)
    groups = equality.clusters(outcomes, config.mode)
    if not groups:
        n = len(outcomes)
        return Picked(tuple(range(n)), tuple(-float(i) for i in range(n)), (), 0.0, all_failed=True)
    top = max(scores[i] for g in groups for i in g)
    weights = {i: math.exp(scores[i] - top) for g in groups for i in g}
    total = sum(weights.values())
    expected = expected or (guess(request.query.question) if config.expectation_weight else Expectation())
    clusters = [_cluster(request, outcomes, g, scores, weights, total, config, expected) for g in groups]
    clusters.sort(key=lambda c: (-c.score, min(c.members)))
    return _ordered(clusters, outcomes, config.interleave)


def _cluster(
    request: Request[Task, Program],
    outcomes: Sequence[Outcome],
    group: Sequence[int],
    scores: Sequence[float],
    weights: dict[int, float],
    total: float,
    config: SemanticConfig,
    expected: Expectation,
) -> Cluster:
    members = sorted(group, key=lambda i: (-_zero_temperature(request, i), -scores[i], i))
    mass = math.fsum(weights[i] for i in group) / total
    base = mass if config.order == "mass" else max(weights[i] for i in group) / total
    found: tuple[str, ...] = ()
    if config.lints is not None:
        program = request.candidates[members[0]].content.text
        found = lint(outcomes[members[0]], request.query.question, program, request.query.language)
        base -= penalty(found, config.lints)
    fit = agreement(outcomes[members[0]], expected) if config.expectation_weight else 0.0
    return Cluster(tuple(members), mass, base + config.expectation_weight * fit, found, fit)


def _zero_temperature(request: Request[Task, Program], i: int) -> bool:
    return request.candidates[i].content.temperature == 0.0


def _ordered(clusters: Sequence[Cluster], outcomes: Sequence[Outcome], interleaved: bool) -> Picked:
    order = interleave([c.members for c in clusters]) if interleaved else [i for c in clusters for i in c.members]
    of = {i: (c, place) for c in clusters for place, i in enumerate(c.members)}
    # A round of second members starts a whole step (scores of clusters lie within one step of each other) lower.
    step = 1.0 + max(c.score for c in clusters) - min(c.score for c in clusters)
    scores = [of[i][0].score - step * (of[i][1] if interleaved else 0) for i in order]
    failed = [i for i, o in enumerate(outcomes) if not o.ok]
    floor = min(scores) - step
    return Picked(
        (*order, *failed),
        (*scores, *(floor - k for k in range(len(failed)))),
        tuple(clusters),
        clusters[0].mass,
        all_failed=False,
    )


def interleave(clusters: Sequence[Sequence[int]]) -> list[int]:
    """Return the first member of every cluster, then every second member, and so on."""
    longest = max((len(c) for c in clusters), default=0)
    return [c[k] for k in range(longest) for c in clusters if len(c) > k]


def mix_temperatures(*pools: Sequence[Candidate[Program]]) -> tuple[Candidate[Program], ...]:
    """Merge pools sampled at different temperatures.

    Identical texts (up to white space) become one candidate: counts add up, the best log-probability stays, and the
    lowest temperature stays, so that a greedy sample keeps winning ties.
    """
    merged: dict[str, Candidate[Program]] = {}
    for candidate in (c for pool in pools for c in pool):
        key = " ".join(candidate.content.text.split())
        if key not in merged:
            merged[key] = candidate
            continue
        old, new = merged[key].content, candidate.content
        known = [lp for lp in (old.logprob, new.logprob) if lp is not None]
        temperatures = [t for t in (old.temperature, new.temperature) if t is not None]
        content = Program(
            old.text,
            max(known, default=None),
            old.count + new.count,
            old.source,
            min(temperatures, default=None),
        )
        merged[key] = Candidate(merged[key].id, content, merged[key].score, merged[key].features)
    return tuple(merged.values())

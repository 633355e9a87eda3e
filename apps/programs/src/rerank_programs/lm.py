"""Rerankers that ask a language model: LEVER and Coder-Reviewer, through any back end of rerank-lm.

Back ends are opened lazily, so that this module imports neither torch nor transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank_core.reranker import digest
from rerank_core.types import FloatArray, Request
from rerank_programs import equality
from rerank_programs.data import Program, Task
from rerank_programs.output import sample
from rerank_programs.results import Outcome
from rerank_programs.semantic import Cluster, Picked, interleave

if TYPE_CHECKING:
    from rerank_lm.backends.base import BackEnd


def open_model(model: str, endpoint: str | None = None, threads: int = 1) -> BackEnd:
    """Open a back end by name.

    Raises
    ------
    MissingExtra
        When rerank-lm is not installed.
    """
    from rerank_core.errors import require

    opening = require("rerank_lm.backends.opening", "rerank-programs[lm]", "a language-model method")
    backend: BackEnd = opening.open_backend(model, endpoint=endpoint, **({} if endpoint else {"threads": threads}))
    return backend


@dataclass(frozen=True)
class CoderReviewer:
    """Coder-Reviewer reranking (Zhang et al. 2022): log p(program | question) + log p(question | program).

    Programs that do not run are dropped to the end, as in the paper. ``mean`` divides each sum by its length, the
    paper's normalised variant.
    """

    backend: Callable[[], BackEnd]
    model: str
    mode: str = "spider"
    mean: bool = False
    name: str = "coder-reviewer"

    def picks(self, requests: Sequence[Request[Task, Program]], outcomes: Sequence[Sequence[Outcome]]) -> list[Picked]:
        """Order each request; all log-probabilities are asked for in two calls."""
        pairs = [
            (r.query, c.content.text) for r, seen in zip(requests, outcomes, strict=True)
            for c, o in zip(r.candidates, seen, strict=True) if o.ok
        ]  # fmt: skip
        scores = self._scores(pairs)
        out, at = [], 0
        for seen in outcomes:
            row = np.full(len(seen), -np.inf)
            for i, outcome in enumerate(seen):
                if outcome.ok:
                    row[i] = scores[at]
                    at += 1
            out.append(by_score(seen, row, self.mode))
        return out

    def _scores(self, pairs: Sequence[tuple[Task, str]]) -> FloatArray:
        from rerank_lm.backends.base import Prompt

        if not pairs:
            return np.zeros(0)
        label = {"sql": "SQL", "m": "Power Query M"}
        kinds = [label.get(t.language, "Python") for t, _ in pairs]
        backend = self.backend()
        coder = backend.log_probs(
            [Prompt.plain(f"Question: {t.question}\n{k}: ") for (t, _), k in zip(pairs, kinds, strict=True)],
            [p.strip() for _, p in pairs],
        )
        reviewer = backend.log_probs(
            [Prompt.plain(f"{k}: {p.strip()}\nQuestion: ") for (_, p), k in zip(pairs, kinds, strict=True)],
            [t.question for t, _ in pairs],
        )
        total = np.mean if self.mean else np.sum
        return np.array([float(total(a.values) + total(b.values)) for a, b in zip(coder, reviewer, strict=True)])

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("coder-reviewer", self.model, self.mode, self.mean)


@dataclass(frozen=True)
class Lever:
    """LEVER (Ni et al. 2023): a verifier reads question, program and result; its word joins the generator's.

    P(program) is P_LM ** ``lm_weight`` times P_verifier; programs with equal results add up, and the best program of
    the best result comes first. P_verifier is the softmax of the first answer token's logits for yes and no, as in the
    published code. The verifier is any back end that gives next-token logits: a fine-tuned T5, or an instruct model.
    """

    backend: Callable[[], BackEnd]
    model: str
    mode: str = "spider"
    lm_weight: float = 1.0
    words: tuple[str, str] = ("yes", "no")
    name: str = "lever"

    def picks(self, requests: Sequence[Request[Task, Program]], outcomes: Sequence[Sequence[Outcome]]) -> list[Picked]:
        """Order each request; the verifier is asked once for all."""
        from rerank_lm.backends.base import Prompt

        prompts = [
            Prompt.user(verifier_text(r.query, c.content.text, o))
            for r, seen in zip(requests, outcomes, strict=True)
            for c, o in zip(r.candidates, seen, strict=True)
            if o.ok
        ]
        answers = self.backend().next_token(prompts, self.words) if prompts else []
        chances = iter([_yes(a.values) for a in answers])
        out = []
        for request, seen in zip(requests, outcomes, strict=True):
            row = np.full(len(seen), -np.inf)
            for i, (candidate, outcome) in enumerate(zip(request.candidates, seen, strict=True)):
                if outcome.ok:
                    prior = candidate.content.logprob or 0.0
                    count = math.log(candidate.content.count)
                    row[i] = self.lm_weight * prior + count + math.log(max(next(chances), 1e-12))
            out.append(by_score(seen, row, self.mode, add_up=True))
        return out

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("lever", self.model, self.mode, self.lm_weight, self.words)


def verifier_text(task: Task, program: str, outcome: Outcome) -> str:
    """Return what the verifier reads."""
    shown = sample(outcome)
    rows = "; ".join(", ".join(map(str, row)) for row in shown["rows"])
    more = " ..." if shown["n_rows"] > len(shown["rows"]) else ""
    return (
        f"Question: {task.question}\nProgram: {program.strip()}\n"
        f"Result ({shown['n_rows']} rows; {', '.join(shown['columns'])}): {rows}{more}\n"
        "Does the program answer the question? Answer yes or no."
    )


def _yes(logits: FloatArray) -> float:
    yes, no = float(logits[0]), float(logits[1])
    if math.isnan(yes) or math.isnan(no):
        return 0.5
    return 1.0 / (1.0 + math.exp(min(max(no - yes, -500.0), 500.0)))


def by_score(outcomes: Sequence[Outcome], scores: FloatArray, mode: str, *, add_up: bool = False) -> Picked:
    """Order candidates by scores on a log scale; with ``add_up`` clusters by the sum of their members' chances.

    Parameters
    ----------
    scores
        Shape (n,); minus infinity where a candidate did not run.
    """
    groups = equality.clusters(outcomes, mode)
    if not groups:
        n = len(outcomes)
        return Picked(tuple(range(n)), tuple(-float(i) for i in range(n)), (), 0.0, all_failed=True)
    top = float(np.max(scores[np.isfinite(scores)]))
    weight = np.exp(np.where(np.isfinite(scores), scores - top, -np.inf))
    total = float(weight.sum())
    clusters = []
    for group in groups:
        members = sorted(group, key=lambda i: (-scores[i], i))
        mass = float(weight[group].sum()) / total
        clusters.append(Cluster(tuple(members), mass, mass if add_up else float(weight[members[0]])))
    clusters.sort(key=lambda c: (-c.score, min(c.members)))
    if add_up:
        order = interleave([c.members for c in clusters])
    else:
        order = sorted((i for g in groups for i in g), key=lambda i: (-scores[i], i))
    failed = [i for i, o in enumerate(outcomes) if not o.ok]
    falling = [-float(k) for k in range(len(order) + len(failed))]
    return Picked((*order, *failed), tuple(falling), tuple(clusters), clusters[0].mass, all_failed=False)


@dataclass
class Lazy:
    """Opens a back end on first use and keeps it."""

    model: str
    endpoint: str | None = None
    threads: int = 1
    _open: Any = field(default=None, repr=False)

    def __call__(self) -> BackEnd:
        if self._open is None:
            self._open = open_model(self.model, self.endpoint, self.threads)
        backend: BackEnd = self._open
        return backend

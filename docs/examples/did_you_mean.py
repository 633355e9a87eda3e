"""A whole domain in under 100 lines: which name did the user mean to type?

Query: a misspelt name. Candidates: names of Python's standard library, found by shared letters. Gold: the name that
was misspelt. Run it: ``python docs/examples/did_you_mean.py demo`` (also ``methods``, ``rerank``, ``eval``).
"""

from __future__ import annotations

import sys
from collections import Counter
from difflib import SequenceMatcher

import numpy as np

from rerank_core import Candidate, Dataset, Request, Scores
from rerank_core.cli import app_for, run
from rerank_core.domain import Domain, Method, PlainCodec, TextRendering
from rerank_core.measures import parse

NAMES = sorted(n for n in sys.stdlib_module_names if not n.startswith("_") and len(n) > 3)


def misspell(name: str, rng: np.random.Generator) -> str:
    """Drop, double or swap letters, twice."""
    letters = list(name)
    for _ in range(2):
        at = int(rng.integers(0, len(letters) - 1))
        kind = rng.integers(0, 3)
        if kind == 0:
            del letters[at]
        elif kind == 1:
            letters.insert(at, letters[at])
        else:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def retrieve(typed: str, k: int = 20) -> tuple[Candidate[str], ...]:
    """First stage: names that share the most letters, whatever their order."""
    have = Counter(typed)
    scored = [(sum((have & Counter(n)).values()) / max(len(n), len(typed)), n) for n in NAMES]
    return tuple(Candidate(n, n, s) for s, n in sorted(scored, reverse=True)[:k])


def sample(seed: int = 0) -> Dataset[str, str]:
    """Every name once, misspelt."""
    rng = np.random.default_rng(seed)
    typed = {n: misspell(n, rng) for n in NAMES}
    requests = [Request(n, t, retrieve(t)) for n, t in typed.items()]
    return Dataset(requests, gold={n: {n: 1.0} for n in NAMES}, name="stdlib names")


def by_alignment(requests: list[Request[str, str]]) -> list[np.ndarray]:
    """Score by the share of letters that align in order (Ratcliff and Obershelp)."""
    return [np.array([SequenceMatcher(None, r.query, c.content).ratio() for c in r.candidates]) for r in requests]


alignment = Method(
    make=lambda config: Scores("alignment", by_alignment),
    title="share of letters that align in order",
    source="Ratcliff and Metzener, Dr. Dobb's 1988",
    cost="one string comparison a candidate",
)

domain: Domain[str, str] = Domain(
    name="did-you-mean",
    title="Misspelt names",
    methods={"default": alignment, "alignment": alignment},
    measures=(parse("MRR@10"), parse("Recall@3")),
    codec=PlainCodec(),
    rendering=TextRendering("Which name did the user mean to type?", str, lambda c: c.content),
    sample=sample,
)

app = app_for(domain)

if __name__ == "__main__":
    run(app)

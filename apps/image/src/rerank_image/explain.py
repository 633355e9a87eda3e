"""Why SuperGlobal moved a picture: its score taken apart into its neighbours' shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rerank_image.arrays import as_pair
from rerank_image.superglobal import SuperGlobalParams, refine


@dataclass(frozen=True)
class Share:
    """What one neighbour adds to a candidate's score.

    Parameters
    ----------
    candidate
        Position of the neighbour in the candidate list; the candidate itself comes first.
    weight
        Its weight in the refined candidate (the weights sum to 1).
    similarity
        Its own inner product with the query.
    contribution
        ``weight * (similarity + product with the expanded query) / 2``; with refined candidates in the second score
        the contributions sum to the score.
    """

    candidate: int
    weight: float
    similarity: float
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """One candidate's way: 0-based ranks and scores before and after, and its neighbours' shares."""

    before_rank: int
    rank: int
    before: float
    score: float
    shares: tuple[Share, ...]


def explain(
    query: ArrayLike, candidates: ArrayLike, position: int, params: SuperGlobalParams | None = None
) -> Explanation:
    """Take apart the score of the candidate at ``position`` (0-based, in the given order).

    Raises
    ------
    IndexError
        When there is no such candidate.
    """
    p = params or SuperGlobalParams()
    q2, c = as_pair(np.atleast_2d(np.asarray(query)), candidates)
    if not 0 <= position < len(c):
        raise IndexError(f"candidate {position} of {len(c)}")
    done = refine(q2[0], c, p)
    similar, expanded = c @ q2[0], c @ done.expanded
    shares = []
    for k, (j, w) in enumerate(zip(done.neighbours[position].tolist(), done.weights[position].tolist(), strict=True)):
        second = w * expanded[j] if p.second == "refined" else (expanded[j] if k == 0 else 0.0)
        shares.append(Share(j, w, float(similar[j]), float((w * similar[j] + second) / 2)))
    order = np.argsort(-done.score, kind="stable")
    before = np.argsort(-similar, kind="stable")
    return Explanation(
        int(np.flatnonzero(before == position)[0]),
        int(np.flatnonzero(order == position)[0]),
        float(similar[position]),
        float(done.score[position]),
        tuple(shares),
    )


def sentence(explanation: Explanation, names: list[str]) -> str:
    """Say it in one line: the two neighbours (other than itself) that add most."""
    others = sorted(explanation.shares[1:], key=lambda s: -s.contribution)[:2]
    helped = ", ".join(f"{names[s.candidate]} (+{s.contribution:.4f})" for s in others)
    return f"rank {explanation.before_rank + 1} -> {explanation.rank + 1}; nearest candidates: {helped or 'none'}"

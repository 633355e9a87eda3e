"""CARE's strategies: how a language model's list and an expert's list become one.

Source: CARE (arXiv 2508.13889): an external recommender proposes, a language model expands, selects and reranks.
`fuse` is ours. Every strategy that has an expert's list keeps one promise: items ordered by the model first, then
untouched expert items in the expert's order, nothing outside the catalogue, nothing twice. `direct` has no expert and
gives the model's items only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

STRATEGIES = ("experts", "direct", "expand", "rerank", "select", "fuse")


@dataclass(frozen=True)
class CareParams:
    """Sizes of the expert's list and the weights of fusion.

    Parameters
    ----------
    rerank_from
        How many of the expert's items the model may permute (``rerank``).
    select_from
        From how many it may select (``select``).
    llm_weight, rrf
        Weight of the model's list in reciprocal rank fusion, and the fusion's constant.
    head
        How many of the model's first items keep their place where the model is reliable.
    doubt, trust
        Reliability (see `reliability`) is 0 up to the z-score ``doubt`` and 1 from ``trust``.
    """

    rerank_from: int = 20
    select_from: int = 100
    llm_weight: float = 1.0
    rrf: float = 60.0
    head: int = 1
    doubt: float = 2.0
    trust: float = 4.0


def expand(llm: Sequence[int], expert: Sequence[int]) -> list[int]:
    """Return the model's items, then the expert's others."""
    return list(dict.fromkeys([*llm, *expert]))


def rerank(llm: Sequence[int], expert: Sequence[int], k: int) -> list[int]:
    """Return the expert's first k as the model orders them; those it does not name follow in the expert's order."""
    head = set(expert[:k])
    return list(dict.fromkeys([*(i for i in llm if i in head), *expert]))


@dataclass(frozen=True)
class Reliability:
    """How far a set of answers can be trusted: 0 to 1, with the z-score it comes from and the dialogues seen."""

    value: float
    z: float
    dialogues: int


MIN_DIALOGUES = 8


def reliability(
    lists: Sequence[Sequence[int]],
    experts: Sequence[Mapping[int, float]],
    dialogues: Sequence[str],
    n_items: int,
    params: CareParams | None = None,
) -> Reliability:
    """Ask, without any label, whether answers belong to their conversations.

    An answer that answers its conversation agrees with the expert's list for that conversation better than the
    answers to *other* dialogues do. The mean of that advantage over its standard error (both by dialogue) is a z-score:
    about 0 for shuffled, boilerplate or empty answers.

    Parameters
    ----------
    lists
        The model's items a turn.
    experts
        The expert's item -> reciprocal-rank weight a turn.

    Returns
    -------
    Reliability
        Value 1 where there are too few dialogues to tell.
    """
    p = params or CareParams()
    order = {d: i for i, d in enumerate(dict.fromkeys(dialogues))}
    if len(order) < MIN_DIALOGUES:
        return Reliability(1.0, float("nan"), len(order))
    answer = _matrix([{i: 1.0 / len(x) for i in x} for x in lists], n_items)
    expert = _matrix(experts, n_items)
    agreement = np.asarray((expert @ answer.T).todense())
    owner = np.array([order[d] for d in dialogues])
    given = np.array([len(x) > 0 for x in lists])
    other = (owner[:, None] != owner[None, :]) & given[None, :]
    expected = (agreement * other).sum(axis=1) / np.maximum(other.sum(axis=1), 1)
    gain = (np.diag(agreement) - expected)[given]
    if not len(gain):
        return Reliability(0.0, 0.0, len(order))
    sums = np.bincount(owner[given], weights=gain, minlength=len(order))
    counts = np.bincount(owner[given], minlength=len(order))
    means = sums[counts > 0] / counts[counts > 0]
    error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else 0.0
    z = float(means.mean() / error) if error > 0 else 0.0
    return Reliability(float(np.clip((z - p.doubt) / (p.trust - p.doubt), 0.0, 1.0)), z, len(order))


def _matrix(rows: Sequence[Mapping[int, float]], n_items: int) -> sp.csr_matrix:
    indptr = np.concatenate([[0], np.cumsum([len(r) for r in rows])])
    indices = np.array([i for r in rows for i in r], dtype=np.int64)
    data = np.array([v for r in rows for v in r.values()], dtype=np.float64)
    return sp.csr_matrix((data, indices, indptr), shape=(len(rows), n_items))


def reciprocal(expert: Sequence[int], k: float = 60.0) -> dict[int, float]:
    """Return item -> 1 / (k + rank)."""
    return {i: 1.0 / (k + r) for r, i in enumerate(expert, 1)}


def fuse(llm: Sequence[int], expert: Sequence[int], trust: float = 1.0, params: CareParams | None = None) -> list[int]:
    """Fuse by weighted reciprocal ranks; the head of a reliable model's list keeps its place.

    With ``trust`` 0 the result is the expert's list with the model's other items behind it.
    """
    p = params or CareParams()
    fused = reciprocal(expert, p.rrf)
    for i, weight in reciprocal(llm, p.rrf).items():
        fused[i] = fused.get(i, 0.0) + trust * p.llm_weight * weight
    place = {i: r for r, i in enumerate([*expert, *llm])}
    order = sorted(fused, key=lambda i: (-fused[i], place[i]))
    head = list(llm[: p.head]) if trust >= 0.5 else []
    return list(dict.fromkeys([*head, *order]))


def popularity_bias(
    lists: Sequence[Sequence[int]], popularity: Sequence[float], k: int = 10, head_share: float = 0.05
) -> dict[str, float]:
    """Describe how far lists lean on popular items.

    Returns
    -------
    dict
        ``ARP`` (mean training frequency of the top k, averaged over lists), ``coverage`` (share of the catalogue shown
        at all), ``head`` (share of shown items that are among the 5 % most frequent), ``gini`` (of exposure).
    """
    counts = np.asarray(popularity, dtype=np.float64)
    shown = [list(x[:k]) for x in lists if len(x)]
    if not shown:
        return {"ARP": 0.0, "coverage": 0.0, "head": 0.0, "gini": 0.0}
    head = set(np.argsort(-counts, kind="stable")[: max(1, round(head_share * len(counts)))].tolist())
    flat = [i for x in shown for i in x]
    exposure = np.sort(np.bincount(flat, minlength=len(counts)))
    n = len(exposure)
    gini = float((2 * np.arange(1, n + 1) - n - 1) @ exposure / (n * exposure.sum()))
    return {
        "ARP": float(np.mean([counts[x].mean() for x in shown])),
        "coverage": len(set(flat)) / n,
        "head": sum(i in head for i in flat) / len(flat),
        "gini": gini,
    }

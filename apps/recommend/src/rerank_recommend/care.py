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
    order
        From this z-score on (see `order_matters`) the model's own order counts.
    """

    rerank_from: int = 20
    select_from: int = 100
    llm_weight: float = 1.0
    rrf: float = 60.0
    head: int = 1
    doubt: float = 2.0
    trust: float = 4.0
    order: float = 2.0


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


def fuse(
    llm: Sequence[int],
    expert: Sequence[int],
    trust: float = 1.0,
    params: CareParams | None = None,
    *,
    known: Sequence[int] = (),
    ordered: bool = True,
) -> list[int]:
    """Fuse by weighted reciprocal ranks; the head of a reliable model's list keeps its place.

    Items mentioned before keep the places that the expert gives them: whether to come back to one is the expert's
    call, which has learned how often that happens; the fusion orders the new ones around them. With ``trust`` 0 the
    result is the expert's list with the model's other items behind it.

    Parameters
    ----------
    known
        Items mentioned before.
    ordered
        Whether the model's own order means something; where it does not, its items count alike and none is protected.
    """
    p = params or CareParams()
    old = set(known).intersection(expert)
    new_expert, new_llm = [i for i in expert if i not in old], [i for i in llm if i not in old]
    fused = reciprocal(new_expert, p.rrf)
    middle = 1.0 / (p.rrf + (len(new_llm) + 1) / 2)
    for i, weight in reciprocal(new_llm, p.rrf).items():
        fused[i] = fused.get(i, 0.0) + trust * p.llm_weight * (weight if ordered else middle)
    place = {i: r for r, i in enumerate(dict.fromkeys([*new_expert, *new_llm]))}
    order = sorted(fused, key=lambda i: (-fused[i], place[i]))
    head = new_llm[: p.head] if ordered and trust >= 0.5 else []
    fresh = iter(dict.fromkeys([*head, *order]))
    merged = [i if i in old else next(fresh) for i in expert]
    return [*merged, *fresh]


def order_matters(
    lists: Sequence[Sequence[int]], experts: Sequence[Mapping[int, float]], dialogues: Sequence[str]
) -> float:
    """Return the z-score (by dialogue) of how much better the upper half of each list agrees with the expert.

    About 0 where the model's order was lost; infinite where there are too few dialogues to tell.
    """
    gains: dict[str, list[float]] = {}
    for items, expert, dialogue in zip(lists, experts, dialogues, strict=True):
        half = len(items) // 2
        if half:
            weights = np.array([expert.get(i, 0.0) for i in items])
            gains.setdefault(dialogue, []).append(float(weights[:half].mean() - weights[half:].mean()))
    if len(gains) < MIN_DIALOGUES:
        return float("inf")
    means = np.array([np.mean(g) for g in gains.values()])
    error = means.std(ddof=1) / np.sqrt(len(means))
    return float(means.mean() / error) if error > 0 else 0.0


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

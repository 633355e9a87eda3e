"""Maximum-weight one-to-one assignment, and Magneto's bipartite rerank on top of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Pairs = Mapping[tuple[int, int], float]
"""(source position, target position) -> score."""

DENSE_CELLS = 4_000_000
"""Largest matrix that is assigned densely."""


def assign(pairs: Pairs) -> list[tuple[int, int]]:
    """Return the one-to-one assignment with the largest sum of scores; absent pairs count as 0.

    The matrix spans the source and target columns that occur in ``pairs``, so an assigned pair may be one that is not
    in ``pairs``.
    """
    from scipy.optimize import linear_sum_assignment

    if not pairs:
        return []
    if len({s for s, _ in pairs}) * len({t for _, t in pairs}) > DENSE_CELLS:
        return _assign_sparse(pairs)
    rows = {s: i for i, s in enumerate(dict.fromkeys(s for s, _ in pairs))}
    columns = {t: j for j, t in enumerate(dict.fromkeys(t for _, t in pairs))}
    matrix = np.zeros((len(rows), len(columns)))
    for (s, t), score in pairs.items():
        matrix[rows[s], columns[t]] = score
    row_ids, column_ids = list(rows), list(columns)
    chosen = linear_sum_assignment(matrix, maximize=True)
    return [(row_ids[i], column_ids[j]) for i, j in zip(*chosen, strict=True)]


def _assign_sparse(pairs: Pairs) -> list[tuple[int, int]]:
    """The same for thousands of columns: only the pairs given are held; a source column may stay without a partner."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    positive = {p: score for p, score in pairs.items() if score > 0}
    rows = {s: i for i, s in enumerate(dict.fromkeys(s for s, _ in positive))}
    columns = {t: j for j, t in enumerate(dict.fromkeys(t for _, t in positive))}
    places = [(rows[s], columns[t]) for s, t in positive] + [(i, len(columns) + i) for i in range(len(rows))]
    # Every source gets a partner of its own that is worth next to nothing, so that a full matching exists.
    weights = [*positive.values(), *[1e-9] * len(rows)]
    left, right = zip(*places, strict=True) if places else ((), ())
    matrix = csr_matrix((weights, (left, right)), shape=(len(rows), len(columns) + len(rows)))
    row_ids, column_ids = list(rows), list(columns)
    chosen = min_weight_full_bipartite_matching(matrix, maximize=True)
    return [(row_ids[i], column_ids[j]) for i, j in zip(*chosen, strict=True) if j < len(columns)]


def rerank_official(pairs: Pairs) -> dict[tuple[int, int], float]:
    """Put the pairs of the maximum-sum assignment above all others, as magneto-python 0.2.0 does.

    Assigned pairs keep their score A; the rest R is multiplied by ``(min A - 0.01) / max R`` (1 if max R <= 0). Where
    an assigned pair has score 0 the factor is negative and the rest comes out reversed; that is the original's
    behaviour. Where the original fails (nothing left over, no pairs at all) the assigned pairs are returned.
    """
    assigned = {pair: pairs.get(pair, 0.0) for pair in assign(pairs)}
    rest = {pair: score for pair, score in pairs.items() if pair not in assigned}
    if not rest or not assigned:
        return assigned or dict(rest)
    top = max(rest.values())
    factor = (min(assigned.values()) - 0.01) / top if top > 0 else 1.0
    return assigned | {pair: score * factor for pair, score in rest.items()}


def rerank_repaired(pairs: Pairs) -> dict[tuple[int, int], float]:
    """Move each assigned pair to the top of its source column; scores stay scores.

    An assigned pair is lifted to just above the best score of its own source column, so order between columns, and
    with it Recall@GT, still follows similarity. Pairs that are no candidates are not invented.
    """
    out = dict(pairs)
    best: dict[int, float] = {}
    for (s, _), score in pairs.items():
        best[s] = max(score, best.get(s, -np.inf))
    for pair in assign(pairs):
        if pair in out and out[pair] < best[pair[0]]:
            out[pair] = float(np.nextafter(best[pair[0]], np.inf))
    return out

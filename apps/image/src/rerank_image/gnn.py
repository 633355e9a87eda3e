"""GNN re-ranking: k-reciprocal encoding written as message passing on the neighbour graph.

Source: Zhang et al., "Understanding Image Retrieval Re-Ranking: A Graph Neural Network Perspective" (2020), and its
released code, which is followed: neighbour indicator rows, twice symmetrised and averaged over the k2 nearest with
squared similarities as weights, rows normalised after each round. The released code holds dense (n, n) matrices on a
GPU; here the first round is sparse and the second is never formed: its query rows are, and the database meets them
through one sparse-times-thin product. Only row norms need the second round's rows, a block at a time.

Memory: about ``24 n k1 k2 + 4 n n_queries`` bytes beside the vectors and one block; n = n_queries + n_db.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from rerank_core.errors import UsageError
from rerank_image.arrays import Matrix
from rerank_image.graph import membership, nearest, scaled
from rerank_image.search import blocks


@dataclass(frozen=True)
class GnnParams:
    """The released code's parameters.

    Parameters
    ----------
    k1
        Size of the neighbour indicators.
    k2
        Neighbours that pass messages.
    weight
        Lambda: share of the original similarity in the final one.
    """

    k1: int = 26
    k2: int = 7
    weight: float = 0.3

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.weight <= 1:
            raise UsageError("gnn needs k1 >= 1, k2 >= 1 and 0 <= weight <= 1")


def gnn(queries: Matrix, db: Matrix, params: GnnParams | None = None, block: int = 2048) -> Matrix:
    """Score the database, shape (n_queries, n_db); higher is better. Queries are part of the graph."""
    p = params or GnnParams()
    x = np.concatenate([queries, db])
    n, nq = len(x), len(queries)
    near = nearest(x, max(p.k1, p.k2))
    indicator = membership(near.ids[:, : p.k1], n)
    passing = membership(near.ids[:, : p.k2], n, near.scores[:, : p.k2] ** 2)
    first = _unit_rows(passing @ (indicator + indicator.T).tocsr())
    symmetric = (first + first.T).tocsr()
    own = _unit_rows((passing[:nq] @ symmetric).tocsr())
    norms = np.concatenate([_norms(passing[a:b] @ symmetric) for a, b in blocks(n, block)])
    meet = passing @ (symmetric @ own.T.toarray())
    learned = (meet / np.where(norms > 0, norms, 1)[:, None])[nq:].T
    return ((1 - p.weight) * learned + p.weight * (queries @ db.T)).astype(np.float32)


def _norms(matrix: sparse.csr_array) -> Matrix:
    return np.sqrt(matrix.multiply(matrix).sum(axis=1)).astype(np.float32)


def _unit_rows(matrix: sparse.csr_array) -> sparse.csr_array:
    norms = _norms(matrix)
    return scaled(matrix, 1 / np.where(norms > 0, norms, 1))

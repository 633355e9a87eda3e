"""Query and database expansion: alphaQE and DBA, blockwise.

Sources: Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation" (TPAMI 2018) for alpha query
expansion; Arandjelovic & Zisserman (CVPR 2012) for database-side augmentation. Negative similarities get weight 0.

Memory: ``4 n k`` bytes of neighbours beside the vectors and one block; the n x n matrix never exists.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rerank_image.arrays import Ids, Matrix, l2
from rerank_image.search import blocks, search


def combine(own: Matrix, db: Matrix, ids: Ids, scores: NDArray[np.floating], alpha: float) -> Matrix:
    """Add weighted neighbours: ``l2(own + sum_j max(s_j, 0)^alpha db_j)``, shape (n, d)."""
    weights = np.clip(scores, 0, None).astype(np.float32) ** np.float32(alpha)
    return l2(own + np.einsum("nk,nkd->nd", weights, db[ids]))


def alpha_qe(queries: Matrix, db: Matrix, n: int = 10, alpha: float = 3.0) -> Matrix:
    """Expand queries with their ``n`` nearest database vectors; the query itself has weight 1. Shape (n_queries, d)."""
    hits = search(queries, db, n)
    return combine(queries, db, hits.ids, hits.scores, alpha)


def dba(db: Matrix, n: int = 10, alpha: float = 3.0, block: int = 1024) -> Matrix:
    """Replace every database vector by the weighted mean of its ``n`` nearest, itself included. Shape (n_db, d)."""
    out = np.empty_like(db)
    for start, stop in blocks(len(db), block):
        hits = search(db[start:stop], db, n)
        out[start:stop] = combine(np.zeros_like(db[start:stop]), db, hits.ids, hits.scores, alpha)
    return out

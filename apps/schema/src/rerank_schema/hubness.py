"""Hub correction: a target column near to everything is near to nothing in particular.

Cross-domain similarity local scaling (Conneau et al., "Word translation without parallel data", ICLR 2018, section
2.3): ``csls(s, t) = 2 sim(s, t) - r(s) - r(t)``, where r is the mean similarity to the k nearest columns of the other
side. It also makes scores comparable between source columns.
"""

from __future__ import annotations

import numpy as np

from rerank_schema.lexical import Matrix

NEIGHBOURS = 10


def csls(similarity: Matrix, k: int = NEIGHBOURS) -> Matrix:
    """Return locally scaled similarities.

    Parameters
    ----------
    similarity
        Shape (n_source, n_target).
    k
        Neighbours that make a column's neighbourhood; fewer where a side is smaller.
    """
    if not similarity.size:
        return similarity
    by_source = _mean_of_top(similarity, k)
    by_target = _mean_of_top(similarity.T, k)
    return 2 * similarity - by_source[:, None] - by_target[None, :]


def _mean_of_top(matrix: np.ndarray, k: int) -> np.ndarray:
    k = min(k, matrix.shape[1])
    return -np.partition(-matrix, k - 1, axis=1)[:, :k].mean(axis=1)

"""LexRank: which candidate is most central among all candidates.

Source: G. Erkan and D. Radev, "LexRank: Graph-based Lexical Centrality as Salience in Text Summarization", JAIR 22,
2004 (the continuous variant: cosines as edge weights, no threshold). Here the nodes are whole candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from rerank_core.types import FloatArray
from rerank_summary.lists import exact


def idf(documents: Sequence[Sequence[str]]) -> dict[str, float]:
    """Smoothed inverse document frequency ``ln((1 + N) / (1 + df)) + 1`` of every token."""
    df = Counter(t for d in documents for t in set(d))
    n = len(documents)
    return {t: float(np.log((1 + n) / (1 + c)) + 1) for t, c in df.items()}


def tfidf(documents: Sequence[Sequence[str]], weights: Mapping[str, float]) -> FloatArray:
    """L2-normalised tf-idf vectors, shape (n_documents, n_tokens); an empty document is a zero vector."""
    index = {t: i for i, t in enumerate(weights)}
    out = np.zeros((len(documents), max(len(index), 1)))
    for row, document in zip(out, documents, strict=True):
        for token, count in Counter(document).items():
            if token in index:
                row[index[token]] = count * weights[token]
    norms = np.linalg.norm(out, axis=1, keepdims=True)
    return np.divide(out, norms, out=np.zeros_like(out), where=norms > 0)


def lexrank(similarity: FloatArray, damping: float = 0.85) -> FloatArray:
    """Stationary distribution of a random walk over a similarity graph.

    Parameters
    ----------
    similarity
        Non-negative, shape (n, n). A node without edges jumps anywhere.
    damping
        Probability of following an edge.

    Returns
    -------
    Shape (n,), sums to 1.
    """
    n = len(similarity)
    if n == 0:
        return np.zeros(0)
    sums = similarity.sum(1, keepdims=True)
    walk = np.divide(similarity, sums, out=np.full_like(similarity, 1 / n), where=sums > 0)
    system = np.eye(n) - damping * walk.T
    return exact(np.linalg.solve(system, np.full(n, (1 - damping) / n)))


def candidate_lexrank(tokens: Sequence[Sequence[str]], damping: float = 0.85) -> FloatArray:
    """LexRank over candidates with tf-idf cosines, shape (n_candidates,)."""
    vectors = tfidf(tokens, idf(tokens))
    return lexrank(vectors @ vectors.T, damping)

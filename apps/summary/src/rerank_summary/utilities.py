"""Utilities for minimum Bayes risk selection: how much one candidate is worth if another were the truth.

A utility turns a candidate list into a matrix, row = hypothesis, column = pseudo-reference. MBR takes the row with
the highest mean over the other columns: the candidate most like all others (Kumar and Byrne, "Minimum Bayes-Risk
Decoding for Statistical Machine Translation", NAACL 2004; for text generation Eikema and Aziz, EMNLP 2022).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from rerank_core.errors import UsageError
from rerank_core.types import FloatArray
from rerank_summary.lists import CandidateList, exact

Utility: TypeAlias = Callable[[CandidateList], FloatArray]


def _rouge(name: str) -> Utility:
    return lambda items: items.matrices[name]


def rouge_mean(items: CandidateList) -> FloatArray:
    """Mean of ROUGE-1, ROUGE-2 and ROUGE-L F1."""
    return np.mean([items.matrices[m] for m in ("rouge1", "rouge2", "rougeL")], axis=0)


def jaccard(items: CandidateList) -> FloatArray:
    """Jaccard similarity of token sets; 0 between two empty texts."""
    sets = [set(t) for t in items.tokens]
    return np.array([[len(a & b) / len(a | b) if a | b else 0.0 for b in sets] for a in sets])


def chrf(items: CandidateList, order: int = 6, beta: float = 2.0) -> FloatArray:
    """chrF of character n-grams without white space (Popović, WMT 2015), 0 to 1, averaged over the orders present.

    Precision and recall are averaged over the orders first, as sacreBLEU's ``chrF2`` does without effective order.
    """
    grams = [[_characters(t, n) for n in range(1, order + 1)] for t in items.texts]
    return np.array([[_chrf(h, r, beta) for r in grams] for h in grams]).reshape(len(grams), len(grams))


def _characters(text: str, n: int) -> Counter[str]:
    squeezed = "".join(text.split())
    return Counter(squeezed[i : i + n] for i in range(len(squeezed) - n + 1))


def _chrf(hypothesis: list[Counter[str]], reference: list[Counter[str]], beta: float) -> float:
    precision = recall = 0.0
    orders = 0
    for h, r in zip(hypothesis, reference, strict=True):
        if h and r:
            hits = sum((h & r).values())
            precision, recall, orders = precision + hits / h.total(), recall + hits / r.total(), orders + 1
    if not orders or precision + recall == 0:
        return 0.0
    p, r_ = precision / orders, recall / orders
    return (1 + beta**2) * p * r_ / (beta**2 * p + r_)


UTILITIES: Mapping[str, Utility] = {
    "rouge1": _rouge("rouge1"),
    "rouge2": _rouge("rouge2"),
    "rougeL": _rouge("rougeL"),
    "mean": rouge_mean,
    "jaccard": jaccard,
    "chrf": chrf,
}


def utility(name: str) -> Utility:
    """Return a utility by name.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    if name not in UTILITIES:
        raise UsageError(f"unknown utility {name!r}; known: {', '.join(UTILITIES)}")
    return UTILITIES[name]


def expected_utility(matrix: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Expected utility of each candidate over the *other* candidates, shape (n,); 0 for a list of one.

    Parameters
    ----------
    matrix
        Shape (n, n), row = hypothesis, column = pseudo-reference.
    weights
        Probability of each pseudo-reference, shape (n,), any positive scale; uniform by default.
    """
    n = len(matrix)
    if n < 2:
        return np.zeros(n)
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
    total = matrix @ w - np.diag(matrix) * w
    rest = w.sum() - w
    return exact(np.divide(total, rest, out=np.zeros(n), where=rest > 0))

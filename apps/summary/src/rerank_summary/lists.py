"""One document with its candidates, tokenised once for every scorer that looks at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rerank_core.types import FloatArray, Request
from rerank_summary.rouge import Rouge, flavour, ngram_overlap
from rerank_summary.text import sentences, simple_sentences

_MATRIX_MEASURES = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class CandidateList:
    """A source text and the candidate texts of one request; everything derived is computed once, on demand."""

    source: str
    texts: tuple[str, ...]
    tokenise: Callable[[str], list[str]]

    @classmethod
    def of(cls, request: Request[Any, Any]) -> CandidateList:
        """Take the source and the texts of a request."""
        return cls(str(request.query), tuple(str(c.content) for c in request.candidates), flavour().tokens)

    @cached_property
    def tokens(self) -> list[list[str]]:
        """Stemmed ROUGE tokens of each candidate."""
        return [self.tokenise(t) for t in self.texts]

    @cached_property
    def source_tokens(self) -> list[str]:
        """Stemmed ROUGE tokens of the source."""
        return self.tokenise(self.source)

    @cached_property
    def source_sentences(self) -> list[str]:
        """The source's sentences."""
        return sentences(self.source)

    def lead_tokens(self, n: int = 3) -> list[str]:
        """Tokens of the first ``n`` source sentences."""
        return self.tokenise(" ".join(simple_sentences(self.source)[:n]))

    @cached_property
    def lengths(self) -> FloatArray:
        """Tokens a candidate, shape (n_candidates,)."""
        return np.array([len(t) for t in self.tokens], dtype=np.float64)

    @cached_property
    def matrices(self) -> dict[str, FloatArray]:
        """F1 of all pairs for ROUGE-1, ROUGE-2 and ROUGE-L, shape (n, n) each."""
        return Rouge(flavour(), _MATRIX_MEASURES).matrices(self.texts)

    def overlap(self, target: Sequence[str], n: int) -> FloatArray:
        """Precision, recall and F1 of each candidate's n-grams against one token list, shape (n_candidates, 3)."""
        if not self.tokens:
            return np.zeros((0, 3))
        return np.array([ngram_overlap(target, t, n) for t in self.tokens], dtype=np.float64)

    @cached_property
    def document_counts(self) -> list[Counter[str]]:
        """Token counts of each candidate."""
        return [Counter(t) for t in self.tokens]


def exact(values: FloatArray) -> FloatArray:
    """Round away the float noise of summation order, so that identical texts get identical scores."""
    return np.round(values, 12)


def mean_with_others(matrix: FloatArray) -> FloatArray:
    """Mean of each row without its diagonal, shape (n,); 0 for a list of one."""
    n = len(matrix)
    if n < 2:
        return np.zeros(n)
    return exact((matrix.sum(1) - np.diag(matrix)) / (n - 1))

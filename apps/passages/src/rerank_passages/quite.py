"""QUITE: a summary of a long passage that depends on the query, so that a reranker reads less.

Zou et al., "Pre-trained Language Model based Ranking in Baidu Search", KDD 2021, section 3.2: terms of query and title
have weights; the sentence with the most weight is taken (with its neighbours), the weights of the terms it covers decay by
``decay``, and so on until the length is reached. Weights here are idf over the candidates' sentences, which the paper
leaves open.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rerank_core.budget import Budget
from rerank_core.reranker import Reranker, digest, within
from rerank_core.types import Ranking, Request
from rerank_passages.text import STOPWORDS, sentences, terms


@dataclass(frozen=True)
class QuiteParams:
    """Settings of the summary.

    Parameters
    ----------
    words
        Longest summary; a passage that is not longer stays as it is.
    decay
        What is left of a term's weight once it is covered.
    neighbours
        Sentences to take on either side of a chosen one.
    """

    words: int = 60
    decay: float = 0.5
    neighbours: int = 0


def summarise(passage: str, weights: Mapping[str, float], params: QuiteParams | None = None) -> str:
    """Return the passage's most telling sentences for some term weights, in the passage's order.

    Parameters
    ----------
    weights
        Stemmed term -> weight; terms that are not in it count nothing.
    """
    p = params or QuiteParams()
    pieces = sentences(passage)
    lengths = [len(s.split()) for s in pieces]
    if sum(lengths) <= p.words:
        return passage
    held = [set(terms(s)) & weights.keys() for s in pieces]
    left, chosen, used = dict(weights), set[int](), 0
    while used < p.words and len(chosen) < len(pieces):
        # The first of equals: passages say first what matters most.
        best = max(
            (i for i in range(len(pieces)) if i not in chosen),
            key=lambda i: (sum(left[t] for t in sorted(held[i])), -i),
        )
        for i in range(max(0, best - p.neighbours), min(len(pieces), best + p.neighbours + 1)):
            if i not in chosen and (i == best or used + lengths[i] <= p.words):
                chosen.add(i)
                used += lengths[i]
        for term in held[best]:
            left[term] *= p.decay
    return " ".join(" ".join(pieces[i] for i in sorted(chosen)).split()[: p.words])


def term_weights(query: str, passages: Sequence[str]) -> dict[str, float]:
    """Return idf weights of the query's terms over the candidates' sentences."""
    lines = [set(terms(s)) for p in passages for s in sentences(p)]
    df = Counter(t for line in lines for t in line)
    return {t: math.log1p((len(lines) - df[t] + 0.5) / (df[t] + 0.5)) for t in terms(query, STOPWORDS)}


@dataclass(frozen=True)
class Compressed:
    """A reranker that reads QUITE summaries in place of the passages."""

    inner: Reranker
    params: QuiteParams = QuiteParams()

    @property
    def name(self) -> str:
        """The inner name behind ``quite+``."""
        return f"quite+{self.inner.name}"

    def rerank(self, requests: Sequence[Request[str, str]]) -> list[Ranking]:
        """Summarise every candidate for its query, then rerank."""
        return self.inner.rerank([self.shorten(r) for r in requests])

    def within(self, budget: Budget) -> Compressed:
        """Bind a budget."""
        return Compressed(within(self.inner, budget), self.params)

    def fingerprint(self) -> str:
        """Return the digest of settings and inner reranker."""
        return digest("quite", self.params, self.inner.fingerprint())

    def shorten(self, request: Request[str, str]) -> Request[str, str]:
        """Return the request with every candidate summarised for its query."""
        weights = term_weights(request.query, [c.content for c in request.candidates])
        short: Any = tuple(replace(c, content=summarise(c.content, weights, self.params)) for c in request.candidates)
        return replace(request, candidates=short)

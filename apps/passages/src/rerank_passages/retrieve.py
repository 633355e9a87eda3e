"""First stage: BM25 over passages, by bm25s.

Parameters follow Anserini's for passages (k1 = 0.9, b = 0.4), with Lucene's formula and stop words and the Snowball stemmer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank_core.types import Candidate, FloatArray, Request
from rerank_passages.text import STOPWORDS, terms

if TYPE_CHECKING:
    from rerank_passages.data import PassageRequest


def english_terms(text: str) -> list[str]:
    """Cut English text into stemmed words without stop words."""
    return terms(text, STOPWORDS)


@dataclass(frozen=True)
class Bm25Params:
    """BM25's parameters; defaults are Anserini's for passages."""

    k1: float = 0.9
    b: float = 0.4


class Bm25Index:
    """An inverted index in memory.

    Parameters
    ----------
    ids
        Passage ids, in the order of the texts.
    cut
        How queries are cut into terms; as the texts were.
    """

    def __init__(
        self, ids: Sequence[str], engine: Any, vocabulary: Mapping[str, int], cut: Callable[[str], list[str]]
    ) -> None:
        self.ids, self._engine, self._vocabulary, self._cut = list(ids), engine, vocabulary, cut

    @classmethod
    def build(
        cls,
        passages: Mapping[str, str],
        params: Bm25Params | None = None,
        *,
        cut: Callable[[str], list[str]] = english_terms,
    ) -> Bm25Index:
        """Index passages (id -> text)."""
        return cls.from_terms(list(passages), (cut(t) for t in passages.values()), params, cut=cut)

    @classmethod
    def from_terms(
        cls,
        ids: Sequence[str],
        documents: Iterable[Sequence[str]],
        params: Bm25Params | None = None,
        *,
        cut: Callable[[str], list[str]] = english_terms,
    ) -> Bm25Index:
        """Index documents that are cut into terms already."""
        import bm25s

        params = params or Bm25Params()
        vocabulary: dict[str, int] = {}
        numbered = [[vocabulary.setdefault(t, len(vocabulary)) for t in d] for d in documents]
        engine = None
        if vocabulary:
            engine = bm25s.BM25(k1=params.k1, b=params.b, method="lucene")
            engine.index((numbered, dict(vocabulary)), show_progress=False, create_empty_token=False)
        return cls(ids, engine, vocabulary, cut)

    def scores(self, query_terms: Sequence[str]) -> FloatArray:
        """Return the score of every passage, shape (n_passages,); zeros where no term matches."""
        known = [self._vocabulary[t] for t in query_terms if t in self._vocabulary]
        if not known or self._engine is None:
            return np.zeros(len(self.ids))
        return np.asarray(self._engine.get_scores_from_ids(known), dtype=np.float64)

    def search(self, query: str, k: int = 100) -> list[tuple[str, float]]:
        """Return the best ``k`` passages with their scores, best first; only passages that share a term."""
        scores = self.scores(self._cut(query))
        k = min(k, len(scores))
        best = np.argpartition(-scores, k - 1)[:k] if k else np.empty(0, dtype=np.intp)
        best = best[np.lexsort((best, -scores[best]))]
        return [(self.ids[i], float(scores[i])) for i in best if scores[i] > 0]

    def requests(self, queries: Mapping[str, str], passages: Mapping[str, str], k: int = 100) -> list[PassageRequest]:
        """Search every query and return requests; queries that match nothing are left out."""
        out = []
        for qid, query in queries.items():
            found = self.search(query, k)
            if found:
                out.append(Request(qid, query, tuple(Candidate(i, passages[i], s) for i, s in found)))
        return out


def bm25_scores(requests: Sequence[PassageRequest], params: Bm25Params | None = None) -> list[FloatArray]:
    """Score each request's candidates by BM25 with statistics of all requests' candidates together.

    For candidate lists that came without a lexical score (a web search, a dense retriever).
    """
    texts = {(c.id, c.content): None for r in requests for c in r.candidates}
    keys = list(texts)
    index = Bm25Index.from_terms([i for i, _ in keys], [english_terms(t) for _, t in keys], params)
    place = {k: i for i, k in enumerate(keys)}
    out = []
    for r in requests:
        scores = index.scores(english_terms(r.query))
        out.append(scores[[place[c.id, c.content] for c in r.candidates]] if r.candidates else np.empty(0))
    return out

"""Experts that read: BM25 over item documents, nearest training turns by TF-IDF or by a dense encoder, titles.

The document of an item is its title, its text (plot, genres) and the contexts in which it was recommended in
training. Nearest turns vote for what was recommended after them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rerank_recommend.data import Catalogue
from rerank_recommend.experts import Context, Log, Scores, State, dense

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts -> vectors of length 1, shape (n_texts, d)."""


def item_documents(log: Log, contexts: bool = True) -> list[str]:
    """Return one document an item."""
    documents = [[f"{i.label}. {i.text}"] for i in log.catalogue.items]
    if contexts:
        for context, targets in zip(log.contexts, log.targets, strict=True):
            for column in targets:
                documents[column].append(context.text)
    return ["\n".join(parts) for parts in documents]


@dataclass(frozen=True)
class BM25:
    """BM25 (through `bm25s`) of the context's words over item documents."""

    name: str = "bm25"
    k1: float = 1.5
    b: float = 0.75
    vocabulary: dict[str, int] = field(default_factory=dict)
    weights: Any = None

    def fit(self, log: Log) -> BM25:
        """Index the documents."""
        return self.fit_documents(item_documents(log))

    def fit_documents(self, documents: Sequence[str]) -> BM25:
        """Index any documents; the weights become one sparse matrix (terms, documents)."""
        import bm25s

        index = bm25s.BM25(k1=self.k1, b=self.b)
        index.index(bm25s.tokenize(list(documents), show_progress=False), show_progress=False)
        s = index.scores
        vocabulary = {str(k): int(v) for k, v in index.vocab_dict.items() if k}
        shape = (len(s["indptr"]) - 1, len(documents))
        return replace(
            self, vocabulary=vocabulary, weights=sp.csr_matrix((s["data"], s["indices"], s["indptr"]), shape=shape)
        )

    def score_texts(self, texts: Sequence[str]) -> Scores:
        """Return the scores of texts as queries, shape (n_texts, n_documents); every distinct term counts once."""
        import bm25s

        tokens = bm25s.tokenize(list(texts), return_ids=False, show_progress=False)
        rows = [sorted({self.vocabulary[t] for t in ts if t in self.vocabulary}) for ts in tokens]
        n = [len(r) for r in rows]
        indptr = np.concatenate([[0], np.cumsum(n)])
        indices = np.fromiter((c for r in rows for c in r), dtype=np.int64, count=sum(n))
        shape = (len(rows), self.weights.shape[0])
        query = sp.csr_matrix((np.ones(len(indices), dtype=np.float32), indices, indptr), shape=shape)
        return dense(query @ self.weights)

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return BM25 of the last utterances."""
        return self.score_texts([c.text for c in contexts])

    def state(self) -> State:
        """Return vocabulary and weights."""
        return {"vocabulary": self.vocabulary, "weights": self.weights}

    def restore(self, state: State, catalogue: Catalogue) -> BM25:
        """Take them back."""
        return replace(self, vocabulary=state["vocabulary"], weights=state["weights"])


def vote(similarity: NDArray[np.float32], targets: Any, neighbours: int, power: float = 2.0) -> Scores:
    """Let the nearest turns vote for their targets, each with its similarity to a power.

    Parameters
    ----------
    similarity
        Shape (n_contexts, n_turns).
    targets
        csr (n_turns, n_items).
    """
    k = min(neighbours, similarity.shape[1])
    if not k:
        return np.zeros((len(similarity), targets.shape[1]), dtype=np.float32)
    near = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    weight = np.maximum(np.take_along_axis(similarity, near, axis=1), 0.0) ** power
    owner = np.repeat(np.arange(len(similarity)), k)
    votes = sp.csr_matrix((weight.ravel(), (owner, near.ravel())), shape=similarity.shape)
    return dense(votes @ targets)


@dataclass(frozen=True)
class TfidfTurns:
    """Nearest training turns by cosine of TF-IDF vectors (words and word pairs)."""

    name: str = "tfidf-turns"
    neighbours: int = 80
    vocabulary: dict[str, int] = field(default_factory=dict)
    idf: NDArray[np.float32] | None = None
    turns: Any = None
    targets: Any = None

    def fit(self, log: Log) -> TfidfTurns:
        """Weigh the training turns' words."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        if not any(c.text.strip() for c in log.contexts):
            return replace(self, targets=log.target_matrix)
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, max_df=0.3, dtype=np.float32)
        try:
            turns = vectorizer.fit_transform([c.text for c in log.contexts])
        except ValueError:  # too few words survive min_df
            return replace(self, targets=log.target_matrix)
        vocabulary = {str(k): int(v) for k, v in vectorizer.vocabulary_.items()}
        idf = vectorizer.idf_.astype(np.float32)
        return replace(self, vocabulary=vocabulary, idf=idf, turns=turns.tocsr(), targets=log.target_matrix)

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return the neighbours' votes."""
        if self.turns is None:
            return np.zeros((len(contexts), self.targets.shape[1]), dtype=np.float32)
        return vote(dense(self._vectors(contexts) @ self.turns.T), self.targets, self.neighbours)

    def _vectors(self, contexts: Sequence[Context]) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32, vocabulary=self.vocabulary
        )
        vectorizer.idf_ = self.idf
        return vectorizer.transform([c.text for c in contexts])

    def state(self) -> State:
        """Return vocabulary, weights, vectors and targets."""
        if self.turns is None:
            return {"targets": self.targets}
        return {"vocabulary": self.vocabulary, "idf": self.idf, "turns": self.turns, "targets": self.targets}

    def restore(self, state: State, catalogue: Catalogue) -> TfidfTurns:
        """Take them back."""
        return replace(
            self,
            vocabulary=state.get("vocabulary", {}),
            idf=state.get("idf"),
            turns=state.get("turns"),
            targets=state["targets"],
        )


@dataclass(frozen=True)
class DenseTurns:
    """Nearest training turns by a dense encoder."""

    encode: Encode
    name: str = "dense-turns"
    neighbours: int = 50
    vectors: NDArray[np.float32] | None = None
    targets: Any = None

    def fit(self, log: Log) -> DenseTurns:
        """Encode the training turns."""
        return replace(self, vectors=self.encode([c.text for c in log.contexts]), targets=log.target_matrix)

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return the neighbours' votes."""
        assert self.vectors is not None
        return vote(self.encode([c.text for c in contexts]) @ self.vectors.T, self.targets, self.neighbours, power=8.0)

    def state(self) -> State:
        """Return vectors and targets."""
        assert self.vectors is not None
        return {"vectors": self.vectors, "targets": self.targets}

    def restore(self, state: State, catalogue: Catalogue) -> DenseTurns:
        """Take them back."""
        return replace(self, vectors=state["vectors"].astype(np.float32), targets=state["targets"])


@dataclass(frozen=True)
class DenseItems:
    """Cosine of the context and an item's title and text, by a dense encoder."""

    encode: Encode
    name: str = "dense-items"
    vectors: NDArray[np.float32] | None = None

    def fit(self, log: Log) -> DenseItems:
        """Encode the items."""
        return replace(self, vectors=self.encode([f"{i.label}. {i.text}".strip() for i in log.catalogue.items]))

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return cosines."""
        assert self.vectors is not None
        return np.asarray(self.encode([c.text for c in contexts]) @ self.vectors.T, dtype=np.float32)

    def state(self) -> State:
        """Return the vectors."""
        assert self.vectors is not None
        return {"vectors": self.vectors}

    def restore(self, state: State, catalogue: Catalogue) -> DenseItems:
        """Take the vectors back."""
        return replace(self, vectors=state["vectors"].astype(np.float32))

"""DynamicRetriever at small scale: the model itself is the index, one output a document.

Zhou et al., "DynamicRetriever: A Pre-training Model-based IR System with Neither Sparse nor Dense Index", 2022. An encoder
reads the query, and a softmax over all document ids answers. Each document's row of the output layer starts from its dense
vector (the paper's OverDense) and is trained on pieces of the document, then on queries, to name the document's id. The
encoder stays as it is here; only the rows are trained, so that a few thousand documents take seconds on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]


class Encoder(Protocol):
    """Texts to unit vectors, shape (n_texts, d)."""

    def encode(self, texts: Sequence[str]) -> Any: ...


@dataclass(frozen=True)
class DocidParams:
    """Training of the output layer.

    Parameters
    ----------
    temperature
        Cosines are divided by it before the softmax.
    anchor
        Weight of the squared distance to the dense vectors; without it rows of documents with few pieces drift.
    """

    epochs: int = 5
    batch: int = 256
    rate: float = 0.005
    temperature: float = 0.05
    anchor: float = 1.0


@dataclass(frozen=True)
class DocidRetriever:
    """Document ids and their rows of the output layer, shape (n_documents, d)."""

    ids: tuple[str, ...]
    rows: Matrix

    @classmethod
    def over_dense(cls, documents: Mapping[str, str], encoder: Encoder) -> DocidRetriever:
        """Start every row from its document's dense vector; before training this is plain dense retrieval."""
        return cls(tuple(documents), np.asarray(encoder.encode(list(documents.values())), dtype=np.float32))

    def fit(
        self, texts: Matrix, targets: Sequence[str], params: DocidParams | None = None, seed: int = 0
    ) -> DocidRetriever:
        """Train the rows by cross-entropy so that texts name their documents.

        Parameters
        ----------
        texts
            Vectors of document pieces or queries, shape (n, d).
        targets
            The document id of each.

        Raises
        ------
        ValueError
            When a target is no document, or numbers differ.
        """
        p = params or DocidParams()
        place = {i: n for n, i in enumerate(self.ids)}
        if len(texts) != len(targets) or not set(targets) <= set(place):
            raise ValueError("every text needs the id of a document that is there")
        y = np.array([place[t] for t in targets], dtype=np.int64)
        start, w = self.rows, self.rows.astype(np.float32).copy()
        m, v, t = np.zeros_like(w), np.zeros_like(w), 0
        rng = np.random.default_rng(seed)
        for _ in range(p.epochs):
            order = rng.permutation(len(y))
            for at in range(0, len(order), p.batch):
                rows = order[at : at + p.batch]
                logits = texts[rows] @ w.T / p.temperature
                logits -= logits.max(axis=1, keepdims=True)
                probability = np.exp(logits)
                probability /= probability.sum(axis=1, keepdims=True)
                probability[np.arange(len(rows)), y[rows]] -= 1
                gradient = probability.T @ texts[rows] / (p.temperature * len(rows)) + p.anchor * (w - start) / len(w)
                t += 1
                m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
                w -= p.rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return DocidRetriever(self.ids, w)

    def search(self, queries: Matrix, k: int = 10) -> list[list[tuple[str, float]]]:
        """Return the ``k`` most probable documents of each query, with log-odds up to a constant; best first."""
        scores = np.asarray(queries) @ self.rows.T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return [[(self.ids[j], float(row[j])) for j in top] for row, top in zip(scores, best, strict=True)]


def pieces(documents: Mapping[str, str], *, words: int = 12, step: int = 8) -> tuple[list[str], list[str]]:
    """Cut documents into overlapping pieces of some words: (pieces, the document id of each)."""
    texts: list[str] = []
    targets: list[str] = []
    for i, text in documents.items():
        found = text.split()
        for start in range(0, max(1, len(found) - words + step), step):
            texts.append(" ".join(found[start : start + words]))
            targets.append(i)
    return texts, targets

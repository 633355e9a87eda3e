"""Magneto: retrieve with column embeddings, rerank with an assignment (Liu et al., PVLDB 18(8):2681-2694, 2025).

Two modes. ``official`` follows the released code (magneto-python 0.2.0) in everything that changes a score; ``repaired``
(the default of ``magneto``) keeps its texts and similarities but loses no column whose text repeats another's, never
scores a pair that is no candidate, and keeps similarities comparable between source columns after the assignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rerank_schema.bipartite import rerank_official, rerank_repaired
from rerank_schema.cleaning import clean
from rerank_schema.encode import Encoder, Vectors
from rerank_schema.sampling import sample
from rerank_schema.serialise import serialise
from rerank_schema.strings import equal_form, string_matches
from rerank_schema.tables import Column

PairScores = dict[tuple[int, int], float]


@dataclass(frozen=True)
class MagnetoParams:
    """Magneto's parameters with the released defaults.

    Parameters
    ----------
    encoding, sampling, sample_size
        How a column becomes text.
    topk
        Candidates kept of each source column.
    threshold
        Smallest cosine of a candidate.
    strings, embeddings, equal
        Which strategies find candidates; a later one overwrites an earlier one's score of the same pair.
    bipartite
        Whether to rerank with the assignment.
    official
        Keep the released code's quirks.
    """

    encoding: str = "header_values_verbose"
    sampling: str = "mixed"
    sample_size: int = 10
    topk: int = 20
    threshold: float = 0.1
    strings: bool = False
    embeddings: bool = True
    equal: bool = True
    bipartite: bool = True
    official: bool = True
    seed: int = 42


def texts(columns: Sequence[Column], params: MagnetoParams = MagnetoParams()) -> list[str]:
    """Return each column's text for the encoder."""
    out = []
    for column in columns:
        cleaned = clean(column)
        samples = sample(cleaned, params.sampling, params.sample_size, params.seed)
        out.append(serialise(column.name, cleaned.type, samples, params.encoding))
    return out


def match(
    sources: Sequence[Column], targets: Sequence[Column], encoder: Encoder, params: MagnetoParams = MagnetoParams()
) -> PairScores:
    """Score candidate pairs.

    Returns
    -------
    dict
        (source position, target position) -> score, at most ``topk`` a source before the assignment.
    """
    if params.topk < 1:
        raise ValueError("topk must be at least 1")
    found: PairScores = {}
    if not sources or not targets:
        return found
    if params.strings:
        found |= string_matches([c.name for c in sources], [c.name for c in targets])
    if params.embeddings:
        found |= _embedding_pairs(sources, targets, encoder, params)
    if params.equal:
        found |= _equal_pairs(sources, targets)
    kept = _cut(found, params.topk)
    if not params.bipartite:
        return kept
    return rerank_official(kept) if params.official else rerank_repaired(kept)


def _embedding_pairs(
    sources: Sequence[Column], targets: Sequence[Column], encoder: Encoder, params: MagnetoParams
) -> PairScores:
    left, right = texts(sources, params), texts(targets, params)
    vectors = encoder.encode([*left, *right])
    a, b = vectors[: len(left)], vectors[len(left) :]
    rows, columns = list(range(len(left))), list(range(len(right)))
    if params.official:  # columns of equal text share a dictionary key there: the last one stays
        rows = sorted({text: i for i, text in enumerate(left)}.values())
        columns = sorted({text: j for j, text in enumerate(right)}.values())
    scores, places = top_cosines(a[rows], b[columns], params.topk)
    return {
        (rows[i], columns[j]): float(score)
        for i in range(len(rows))
        for score, j in zip(scores[i].tolist(), places[i].tolist(), strict=True)
        if score >= params.threshold
    }


def top_cosines(a: Vectors, b: Vectors, k: int, block: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``k`` largest inner products of each row of ``a`` with rows of ``b``, best first.

    Works in blocks of rows, so memory is ``block`` x ``len(b)``.

    Returns
    -------
    scores, places
        Both of shape (len(a), min(k, len(b))).
    """
    k = min(k, len(b))
    scores = np.empty((len(a), k), dtype=np.float32)
    places = np.empty((len(a), k), dtype=np.int64)
    for start in range(0, len(a), block):
        similarity = a[start : start + block] @ b.T
        top = (
            np.argpartition(-similarity, k - 1, axis=1)[:, :k]
            if k < len(b)
            else np.tile(np.arange(k), (len(similarity), 1))
        )
        values = np.take_along_axis(similarity, top, axis=1)
        order = np.lexsort((top, -values), axis=1)
        places[start : start + block] = np.take_along_axis(top, order, axis=1)
        scores[start : start + block] = np.take_along_axis(values, order, axis=1)
    return scores, places


def _equal_pairs(sources: Sequence[Column], targets: Sequence[Column]) -> PairScores:
    by_form: dict[str, list[int]] = {}
    for j, column in enumerate(targets):
        by_form.setdefault(equal_form(column.name), []).append(j)
    return {(i, j): 1.0 for i, c in enumerate(sources) for j in by_form.get(equal_form(c.name), [])}


def _cut(found: PairScores, topk: int) -> PairScores:
    by_source: dict[int, list[tuple[int, float]]] = {}
    for (s, t), score in found.items():
        by_source.setdefault(s, []).append((t, score))
    return {(s, t): score for s, row in by_source.items() for t, score in sorted(row, key=lambda item: -item[1])[:topk]}

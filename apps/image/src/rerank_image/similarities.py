"""Scores that other systems gave, and their fusion: the sum of every query's z-scores.

Source: the z-score combination of data fusion, as in rerank-core, which fuses TREC runs of any domain; here whole
matrices of similarities (place recognition, an index of another maker) are read and fused as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rerank_core.errors import InputError
from rerank_core.io import read_run
from rerank_image.arrays import Matrix, order
from rerank_image.data import GroundTruth, read_named_matrix, read_ranks
from rerank_image.search import Hits


def read_scores(spec: str, truth: GroundTruth | None = None) -> Matrix:
    """Read scores, shape (n_queries, n_db); NaN where a list does not hold a picture.

    Parameters
    ----------
    spec
        A similarity matrix (``FILE.npy``, ``FILE.npz:KEY``, larger is nearer), rankings of ours (``FILE.npz`` with
        ``ranks`` and ``scores``), or a TREC run (anything else).
    truth
        Names of queries and pictures, for runs; without it their names are row numbers.

    Raises
    ------
    InputError
        When the file has neither form, or a run names what the ground truth does not.
    """
    head, colon, _ = spec.rpartition(":")
    if spec.endswith(".npy") or (colon and head.endswith((".npz", ".mat"))):
        return np.asarray(read_named_matrix(spec), dtype=np.float32)
    if spec.endswith(".npz"):
        return spread(read_ranks(spec), len(truth.images) if truth else None)
    return _of_run(Path(spec), truth)


def spread(hits: Hits, n: int | None = None) -> Matrix:
    """Write rankings into a matrix of scores, shape (n_queries, n_db)."""
    width = n if n is not None else int(hits.ids.max(initial=-1)) + 1
    out = np.full((len(hits.ids), width), np.nan, dtype=np.float32)
    np.put_along_axis(out, hits.ids, hits.scores, axis=1)
    return out


def _of_run(path: Path, truth: GroundTruth | None) -> Matrix:
    run = read_run(path)
    if truth is not None:
        rows, columns = ({n: i for i, n in enumerate(names)} for names in (truth.queries, truth.images))
        size = (len(rows), len(columns))
    else:
        try:
            rows = {q: int(q) for q in run}
            columns = {d: int(d) for docs in run.values() for d in docs}
        except ValueError as error:
            raise InputError(f"names are no row numbers ({error}); give --gnd for the names", path) from None
        size = (max(rows.values(), default=-1) + 1, max(columns.values(), default=-1) + 1)
    out = np.full(size, np.nan, dtype=np.float32)
    for q, docs in run.items():
        for d, score in docs.items():
            if q not in rows or d not in columns:
                raise InputError(f"query {q!r}, picture {d!r}: the ground truth does not name both", path)
            out[rows[q], columns[d]] = score
    return out


def fuse(scores: Sequence[Matrix], weights: Sequence[float] | None = None) -> Hits:
    """Add z-scores and sort.

    Parameters
    ----------
    scores
        Matrices of shape (n_queries, n_db); NaN is missing and gets the list's lowest z-score.
    weights
        One a matrix, by default 1.

    Returns
    -------
    Hits
        Complete rankings.
    """
    shapes = {s.shape for s in scores}
    if len(shapes) != 1:
        raise InputError(f"score matrices have different shapes: {', '.join(map(str, sorted(shapes)))}")
    factors = [1.0] * len(scores) if weights is None else list(weights)
    if len(factors) != len(scores):
        raise InputError(f"{len(factors)} weights for {len(scores)} lists")
    total = np.zeros(scores[0].shape, dtype=np.float64)
    for s, weight in zip(scores, factors, strict=True):
        total += weight * zscores(s)
    ids = order(total)
    return Hits(ids, np.take_along_axis(total, ids, axis=1).astype(np.float32))


def zscores(scores: Matrix) -> Matrix:
    """Scale every query's scores to mean 0 and deviation 1; a list of equal scores gives 0."""
    known = ~np.isnan(scores)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    values = np.where(known, scores, 0).astype(np.float64)
    mean = values.sum(axis=1, keepdims=True) / count
    centred = np.where(known, values - mean, 0)
    spread_ = np.sqrt((centred**2).sum(axis=1, keepdims=True) / count)
    z = centred / np.where(spread_ > 0, spread_, 1)
    out: Matrix = np.where(known, z, z.min(axis=1, keepdims=True))
    return out

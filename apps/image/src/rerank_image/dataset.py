"""A data folder as requests, for ablations: descriptors beside ground-truth files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rerank_core.errors import InputError
from rerank_core.types import Candidate, Dataset, Request
from rerank_image.arrays import Matrix, as_matrix, l2
from rerank_image.data import GroundTruth, read_matrix, read_truth
from rerank_image.photos import Photo
from rerank_image.search import search


def load_folder(folder: Path, depth: int = 400) -> Dataset[Photo, Photo]:
    """Read a folder that holds ``gnd_NAME.json`` and one .npz with ``X_full`` and ``Q_NAME_full`` (or a parent of it).

    Raises
    ------
    InputError
        When there is no such pair of files.
    """
    truths = sorted(folder.glob("gnd_*.json")) or sorted(folder.glob("*/gnd_*.json"))
    if not truths:
        raise InputError("holds no gnd_NAME.json (nor a subfolder that does)", folder)
    archives = sorted(truths[0].parent.glob("*.npz"))
    if not archives:
        raise InputError("holds no .npz with descriptors beside the ground truth", truths[0].parent)
    database = _unit(archives[0], "X_full")
    requests: list[Request[Photo, Photo]] = []
    gold: dict[str, dict[str, float]] = {}
    for path in truths:
        kind = path.stem.removeprefix("gnd_")
        part, gains = _requests(kind, read_truth(path), database, _unit(archives[0], f"Q_{kind}_full"), depth)
        requests += part
        gold |= gains
    return Dataset(requests, gold, name=truths[0].parent.name)


def _unit(path: Path, key: str) -> Matrix:
    return l2(as_matrix(read_matrix(path, key), f"{path}:{key}"))


def _requests(
    kind: str, truth: GroundTruth, database: Matrix, queries: Matrix, depth: int
) -> tuple[list[Request[Photo, Photo]], dict[str, dict[str, float]]]:
    if len(database) != len(truth.images) or len(queries) != len(truth.queries):
        raise InputError(f"{kind}: descriptors and ground truth have different numbers of pictures")
    photos = [Photo(v) for v in database]
    hits = search(queries, database, depth)
    out, gold = [], {}
    for q, (name, t) in enumerate(zip(truth.queries, truth.truths, strict=True)):
        kept = np.isin(hits.ids[q], t.junk, invert=True)
        pairs = zip(hits.ids[q][kept].tolist(), hits.scores[q][kept].tolist(), strict=True)
        candidates = tuple(Candidate(truth.images[i], photos[i], float(s)) for i, s in pairs)
        key = f"{kind}/{q:03d}/{name}"
        out.append(Request(key, Photo(queries[q]), candidates))
        gold[key] = {truth.images[i]: 2.0 for i in t.easy} | {truth.images[i]: 1.0 for i in t.hard}
    return out, gold

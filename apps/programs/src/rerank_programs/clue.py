"""CLUE (Tencent 2025): rank answers by how near their hidden-state change lies to that of past successes.

A trajectory's delta is hidden(end of reasoning) - hidden(start of reasoning) over all layers, shape (L, D). Experience
gives the mean delta of successes and of failures; d(A, B) is the mean over layers of the Euclidean distance. A new
trajectory is classified a success when it lies strictly nearer to the successes; **candidates are ranked by their
distance to the successes alone**, ascending, as the paper says. Whether L counts the embedding layer is not said there:
it is a flag stored with the centroids.

Hidden states are read from files here (safetensors, or NumPy arrays without pickle); nothing needs torch. Extraction
from a model is rerank-lm's (`rerank_lm.judges.clue.changes`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError
from rerank_core.files import atomic_path
from rerank_core.reranker import digest
from rerank_core.types import FloatArray, Ranking, Request
from rerank_programs.data import Program, Task


def distance(deltas: NDArray[np.floating], center: FloatArray) -> FloatArray:
    """Mean over layers of the Euclidean distance.

    Parameters
    ----------
    deltas
        Shape (n, L, D).
    center
        Shape (L, D).

    Returns
    -------
    array of shape (n,)
    """
    return np.asarray(np.sqrt(np.square(np.asarray(deltas, np.float64) - center).sum(axis=-1)).mean(axis=-1))


@dataclass
class Experience:
    """Running sums of labelled deltas, so that no more than a batch is in memory. Float64 whatever comes in.

    Parameters
    ----------
    embedding_layer
        Whether the first layer of the deltas is the embedding's; kept with the centroids.
    """

    embedding_layer: bool = False
    counts: list[int] = field(default_factory=lambda: [0, 0])
    sums: list[FloatArray | None] = field(default_factory=lambda: [None, None])

    def add(self, deltas: NDArray[np.floating], correct: Sequence[int] | NDArray[np.integer]) -> None:
        """Add a batch.

        Parameters
        ----------
        deltas
            Shape (n, L, D), any float type.
        correct
            Shape (n,), 0 or 1.
        """
        marks = np.asarray(correct)
        if len(marks) != len(deltas):
            raise ValueError(f"{len(deltas)} deltas and {len(marks)} labels")
        for label in (0, 1):
            chosen = deltas[marks == label]
            if len(chosen):
                total = chosen.sum(axis=0, dtype=np.float64)
                old = self.sums[label]
                if old is not None and old.shape != total.shape:
                    raise ValueError(f"deltas of shape {total.shape} after {old.shape}")
                self.sums[label] = total if old is None else old + total
                self.counts[label] += len(chosen)

    def centroids(self) -> Centroids:
        """Return the means.

        Raises
        ------
        ValueError
            When one class has no trajectory.
        """
        failed, succeeded = self.sums
        if failed is None or succeeded is None:
            raise ValueError("CLUE needs at least one success and one failure")
        return Centroids(succeeded / self.counts[1], failed / self.counts[0], self.embedding_layer)


@dataclass(frozen=True)
class Centroids:
    """Mean deltas of successes and failures, each of shape (L, D)."""

    success: FloatArray
    failure: FloatArray
    embedding_layer: bool = False

    def score(self, deltas: NDArray[np.floating]) -> FloatArray:
        """Return minus the distance to the successes, shape (n,): higher is better."""
        return -distance(deltas, self.success)

    def classify(self, deltas: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Return whether each lies strictly nearer to the successes."""
        return np.asarray(distance(deltas, self.success) < distance(deltas, self.failure))

    def save(self, path: str | Path) -> None:
        """Write as .npz (no pickle)."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, success=self.success, failure=self.failure, embedding_layer=self.embedding_layer)

    @classmethod
    def load(cls, path: str | Path) -> Centroids:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            When it is no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as z:
                made = cls(z["success"].astype(np.float64), z["failure"].astype(np.float64), bool(z["embedding_layer"]))
        except (OSError, KeyError, ValueError) as error:
            raise InputError(f"no centroids: {error}", path) from error
        if made.success.shape != made.failure.shape or made.success.ndim != 2:
            raise InputError("centroids must be two arrays of one shape (layers, dimensions)", path)
        return made


def top_majority(answers: Sequence[str], scores: FloatArray, k: int) -> str:
    """Return the most frequent answer among the k best-ranked; ties go to the better-ranked."""
    best = np.argsort(-np.asarray(scores), kind="stable")[:k]
    votes = Counter(answers[i] for i in best)
    return max(votes, key=lambda a: (votes[a], -min(j for j, i in enumerate(best) if answers[i] == a)))


def read_states(path: str | Path) -> dict[str, NDArray[np.floating]]:
    """Read deltas by ``REQUEST/CANDIDATE`` from .npz or .safetensors.

    Raises
    ------
    InputError
        When the file is neither, or an array is not (layers, dimensions).
    """
    try:
        if Path(path).suffix == ".safetensors":
            from safetensors.numpy import load_file

            states = dict(load_file(path))
        else:
            with np.load(path, allow_pickle=False) as z:
                states = {k: z[k] for k in z.files}
    except (OSError, ValueError) as error:
        raise InputError(f"hidden states cannot be read: {error}", path) from error
    wrong = next((k for k, v in states.items() if v.ndim != 2), None)
    if wrong is not None:
        raise InputError(f"{wrong!r} is not of shape (layers, dimensions)", path)
    return states


@dataclass(frozen=True)
class Clue:
    """Ranks candidates by saved deltas; those without any come last."""

    centroids: Centroids
    states: Mapping[str, NDArray[np.floating]]
    name: str = "clue"

    def rerank(self, requests: Sequence[Request[Task, Program]]) -> list[Ranking]:
        """Order each request; nothing is run."""
        out = []
        for request in requests:
            scores = np.full(len(request.candidates), np.nan)
            for i, candidate in enumerate(request.candidates):
                delta = self.states.get(f"{request.id}/{candidate.id}")
                if delta is not None:
                    scores[i] = self.centroids.score(delta[None])[0]
            out.append(Ranking.from_scores(request, scores))
        return out

    def fingerprint(self) -> str:
        """Return the digest of centroids and states."""
        return digest("clue", self.centroids.success.tobytes().hex(), json.dumps(sorted(self.states)))

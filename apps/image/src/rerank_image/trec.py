"""Rankings of rows as TREC runs and back, ground truth as qrels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rerank_core.files import atomic_write
from rerank_core.io import read_run, write_run
from rerank_core.types import Ranked, Ranking
from rerank_image.data import GroundTruth, hits_of_run, read_ranks
from rerank_image.search import Hits


def read_hits(path: Path, truth: GroundTruth) -> tuple[GroundTruth, Hits]:
    """Read rankings from .npz or from a TREC run over picture names.

    Returns
    -------
    tuple
        The ground truth, widened to all ranked rows where it does not say how many there are, and the rankings.
    """
    if path.suffix == ".npz":
        hits = read_ranks(path)
        return truth.covering(int(hits.ids.max(initial=-1)) + 1), hits
    run = read_run(path)
    if truth.open:
        rows = [int(d) for docs in run.values() for d in docs if d.isdecimal()]
        truth = truth.covering(max(rows, default=-1) + 1)
    return truth, hits_of_run(run, truth, path)


def write_trec(path: Path, hits: Hits, truth: GroundTruth | None, tag: str) -> None:
    """Write a TREC run; without a ground truth, names are row numbers."""
    rankings = (
        Ranking(
            truth.queries[q] if truth else str(q),
            tuple(
                Ranked(truth.images[i] if truth else str(i), float(s))
                for i, s in zip(hits.ids[q].tolist(), hits.scores[q].tolist(), strict=True)
            ),
        )
        for q in range(len(hits.ids))
    )
    write_run(path, rankings, tag)


def write_qrels(path: Path, truth: GroundTruth) -> None:
    """Write TREC qrels: easy 2, hard 1, junk -1 (which trec_eval takes as unjudged)."""
    with atomic_write(path) as file:
        for query, t in zip(truth.queries, truth.truths, strict=True):
            for gain, rows in ((2, t.easy), (1, t.hard), (-1, t.junk)):
                for i in rows:
                    file.write(f"{query} 0 {truth.images[i]} {gain}\n")


def names_of(paths: Sequence[Path]) -> list[str]:
    """Name systems by their files, with the whole path where stems are not unique."""
    stems = [p.stem for p in paths]
    return (
        stems
        if len(set(stems)) == len(stems)
        else [f"{p}#{i}" if str(p) in map(str, paths[:i]) else str(p) for i, p in enumerate(paths)]
    )

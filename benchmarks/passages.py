"""Rerankers of passages on two folders, every weight chosen on the other one:

``python benchmarks/passages.py DL19_DIR DL20_DIR --keep FOLDER``

Folders are those that `rerank_passages.domain.load` reads. Encoder scores are kept in ``--keep``, so that a second call takes
seconds. Prints nDCG@10 with n, 95 % bootstrap interval, paired difference and p over the first stage, and CPU-seconds.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rerank_core.measures import evaluate, parse
from rerank_core.statistics import paired_bootstrap, randomisation_test
from rerank_core.types import Dataset, FloatArray, Ranking
from rerank_passages.domain import domain, load
from rerank_passages.feedback import rocchio
from rerank_passages.scorers import Lazy

NDCG = parse("nDCG@10")
BGE, COLBERT = "bge-small-en-v1.5", "colbert-small-headless"
Scores = Sequence[FloatArray]


@dataclass(frozen=True)
class Scored:
    """A dataset with the encoders' scores, one array of shape (n_candidates,) a request."""

    name: str
    data: Dataset[str, str]
    parts: Mapping[str, Scores]
    cpu: Mapping[str, float]
    vectors: Mapping[str, Sequence[FloatArray]]
    queries: Mapping[str, FloatArray]


PAIRS = {"static": ("static", {}), "cross-encoder": ("cross-encoder", {}), "colbert": ("maxsim", {"model": COLBERT})}
ENCODERS = {"minilm": {}, "bge": {"model": BGE}}
"""Packaged models: methods that score pairs, and bi-encoders whose vectors feedback moves."""


def scored(folder: Path, keep: Path) -> Scored:
    """Read a folder and its scores, computing those that are not kept yet."""
    data = load(folder)
    keep.mkdir(parents=True, exist_ok=True)
    path = keep / f"{folder.name}.npz"
    kept = dict(np.load(path)) if path.is_file() else {}
    pairs = [(r.query, c.content) for r in data.requests for c in r.candidates]
    for name, (method, settings) in PAIRS.items():
        if name not in kept:
            scorer = domain.method(method, settings).scorer  # type: ignore[attr-defined]
            scorer.fingerprint()  # loads the model, so that its time is not counted
            start = time.process_time()
            kept[name] = scorer.score(pairs).scores
            kept[f"{name}.cpu"] = np.array(time.process_time() - start)
            np.savez(path, **kept)
    texts = list({t: None for _, t in pairs})
    place = {t: i for i, t in enumerate(texts)}
    ends = np.cumsum([len(r.candidates) for r in data.requests])[:-1]
    parts: dict[str, Scores] = {n: np.split(kept[n].astype(float), ends) for n in PAIRS}
    parts["first"] = [r.first_stage() for r in data.requests]
    vectors: dict[str, Sequence[FloatArray]] = {}
    for name, settings in ENCODERS.items():
        if f"{name}.vectors" not in kept:
            lazy: Lazy = domain.method("bi-encoder", settings).scorer  # type: ignore[attr-defined]
            encoder = lazy._get().encoder  # type: ignore[attr-defined]
            start = time.process_time()
            kept[f"{name}.vectors"] = encoder.encode(texts)
            kept[f"{name}.queries"] = encoder.encode_queries([r.query for r in data.requests])
            kept[f"{name}.cpu"] = np.array(time.process_time() - start)
            np.savez(path, **kept)
        flat = kept[f"{name}.vectors"].astype(float)
        vectors[name] = [flat[[place[c.content] for c in r.candidates]] for r in data.requests]
        parts[name] = [v @ q for v, q in zip(vectors[name], kept[f"{name}.queries"], strict=True)]
    cpu = {n: float(kept[f"{n}.cpu"]) for n in (*PAIRS, *ENCODERS)}
    return Scored(folder.name, data, parts, cpu, vectors, {n: kept[f"{n}.queries"] for n in ENCODERS})


def z(x: FloatArray) -> FloatArray:
    """Scale one request's scores to mean 0 and deviation 1."""
    return (x - x.mean()) / max(float(x.std()), 1e-9)


def fused(s: Scored, weights: Mapping[str, float]) -> Scores:
    """Sum z-scores with weights."""
    return [sum(w * z(s.parts[n][i]) for n, w in weights.items()) for i in range(len(s.data.requests))]  # type: ignore[misc]


@dataclass(frozen=True)
class Choice:
    """Weights of z-scores, and feedback: whose vectors, how many passages move the query, and their share (0: none)."""

    weights: Mapping[str, float]
    encoder: str = "minilm"
    top: int = 5
    blend: float = 0.0

    def __str__(self) -> str:
        weights = ", ".join(f"{n} {w:g}" for n, w in self.weights.items() if w)
        return weights + (f"; feedback {self.encoder} {self.top}, {self.blend:g}" if self.blend else "")


def apply(s: Scored, choice: Choice) -> Scores:
    """Fuse, move the query vector towards the best candidates, and blend its cosines in (method ``feedback``)."""
    rows = fused(s, choice.weights)
    if not choice.blend:
        return rows
    out = []
    for scores, vectors, query in zip(rows, s.vectors[choice.encoder], s.queries[choice.encoder], strict=True):
        moved = vectors @ rocchio(query, vectors, scores, top=choice.top, weight=0.7)
        out.append((1 - choice.blend) * z(scores) + choice.blend * z(moved))
    return out


def ndcg(s: Scored, scores: Scores) -> dict[str, float]:
    """Return nDCG@10 of every request with gold."""
    rankings = {r.id: Ranking.from_scores(r, x) for r, x in zip(s.data.requests, scores, strict=True)}
    return {q: row[0] for q, row in NDCG.rows(s.data.gold, rankings, {}).items()}


def mean(s: Scored, scores: Scores) -> float:
    """Return mean nDCG@10."""
    return float(np.mean(list(ndcg(s, scores).values())))


GRID = [
    Choice({"cross-encoder": 1.0, "bge": g, "minilm": m, "colbert": c, "first": f}, encoder, top, blend)
    for g, m, c, f, (encoder, top, blend) in itertools.product(
        (0.0, 0.1, 0.2),
        (0.0, 0.1, 0.2),
        (0.0, 0.2),
        (0.0, 0.05, 0.1),
        [("minilm", 1, 0.0), *itertools.product(("minilm", "bge"), (3, 5, 10), (0.2, 0.3, 0.4))],
    )
]


def line(name: str, s: Scored, scores: Scores, seconds: float | None = None) -> None:
    """Print one row."""
    rankings = [Ranking.from_scores(r, x) for r, x in zip(s.data.requests, scores, strict=True)]
    (row,) = evaluate([NDCG], s.data.gold, rankings, s.data.requests, system=name)
    ours, first = ndcg(s, scores), ndcg(s, s.parts["first"])
    d, low, high, _ = paired_bootstrap(ours, first, seed=0)
    p = randomisation_test(ours, first, seed=0)
    cost = f"  {seconds:.1f} CPU-s" if seconds is not None else ""
    print(
        f"{s.name:<20} {name:<34} {row.value:.4f} [{row.ci_low:.3f}, {row.ci_high:.3f}] n={row.n}"
        f"  over first {d:+.3f} [{low:+.3f}, {high:+.3f}] p={p:.4f}{cost}",
        flush=True,
    )


def chosen_on(s: Scored, grid: Sequence[Choice]) -> Choice:
    """Return the choice that is best on a dataset; of equals the first."""
    return max(grid, key=lambda c: mean(s, apply(s, c)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--keep", type=Path, required=True)
    args = parser.parse_args()
    a, b = (scored(f, args.keep) for f in args.folders)
    for test, tune in ((a, b), (b, a)):
        for name in ("first", "static", "minilm", "colbert", "bge", "cross-encoder"):
            line(name, test, test.parts[name], test.cpu.get(name))
        for grid in ([c for c in GRID if not c.blend], GRID):
            best = chosen_on(tune, grid)
            line(str(best), test, apply(test, best))
        print(f"  weights chosen on {tune.name}")


if __name__ == "__main__":
    main()

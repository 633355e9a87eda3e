"""Choose method and whitening for a database without a single label.

Ours. Pseudo-queries are pictures of the database, held out. Their descriptors' dimensions are split at random into
two halves, which see the same pictures independently of each other. A method that finds what belongs together gives
the same neighbours from either half; one that follows noise does not. Each preset's score is how much its first
results from one half agree with those from the other half, less the agreement of two different pictures' results (so
that hubs, which are near everything, earn nothing). Close calls go to the consensus of all graph methods, whose
z-scores are added: it errs least.

Cost: every preset twice on at most 1,500 rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rerank_image.arrays import Ids, Matrix, l2
from rerank_image.methods import METHODS, score_all, split_settings, whitened, zsum

ROWS = 1500
QUERIES = 150
DEPTH = 20
FEW = 40
MARGIN = 0.01


@dataclass(frozen=True)
class Preset:
    """A method with its settings."""

    method: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For people."""
        inside = ", ".join(f"{k}={v}" for k, v in self.settings.items())
        return f"{self.method}({inside})" if inside else self.method


@dataclass(frozen=True)
class Choice:
    """The chosen preset and how all of them did.

    Parameters
    ----------
    scores
        Preset's name -> agreement above chance, best first.
    reason
        One sentence.
    """

    method: str
    settings: Mapping[str, Any]
    scores: Mapping[str, float]
    reason: str

    def explain(self) -> str:
        """Say in one line what was chosen and why."""
        return f"auto: {Preset(self.method, self.settings).name}: {self.reason}"


def whitenings(n: int, d: int) -> tuple[int, ...]:
    """PCA sizes worth trying: a twentieth, a tenth and a fifth of the dimensions, where there are rows enough."""
    return tuple(k for k in (d // 20, d // 10, d // 5) if k >= 8 and n >= 2 * k)


def presets(n: int, d: int) -> list[Preset]:
    """Everything the chooser tries; the consensus comes first."""
    dims = whitenings(n, d)
    out = [Preset("fuse", {"dims": (0, *dims)}), Preset("none", {})]
    for whiten in (0, *dims):
        extra = {"whiten": whiten} if whiten else {}
        out += [Preset(m, extra) for m in ("superglobal", "k-reciprocal", "gnn")]
        out.append(Preset("superglobal", {"neighbours": 5, "beta": 1.0, **extra}))
    return out


def sample_rows(n: int, seed: int = 0, rows: int = ROWS) -> Ids:
    """Pick the rows a large database is judged by."""
    return np.sort(np.random.default_rng(seed).permutation(n)[:rows]).astype(np.int64)


def choose(db: Matrix, *, seed: int = 0, splits: int = 2) -> Choice:
    """Choose a preset for a database.

    Parameters
    ----------
    db
        Shape (n, d), unit norm.
    splits
        Random halvings of the dimensions to average over.
    """
    n, d = db.shape
    if n < FEW or d < 16:
        return Choice("superglobal", {}, {}, f"too little to choose by ({n} pictures, {d} dimensions)")
    rng = np.random.default_rng(seed)
    x = db[sample_rows(n, seed)] if n > ROWS else db
    tried = presets(len(x), d)
    total = np.zeros(len(tried))
    for _ in range(splits):
        halves, queries, rest = _split(rng, len(x), d)
        views = [_results(tried, l2(x[queries][:, h]), l2(x[rest][:, h])) for h in halves]
        total += [agreement(a, b) for a, b in zip(*views, strict=True)]
    scores = total / splits
    best = int(scores.argmax())
    # the consensus errs least, so another preset has to beat it clearly
    winner = best if scores[best] > scores[0] + MARGIN else 0
    named = {tried[i].name: round(float(scores[i]), 4) for i in np.argsort(-scores, kind="stable")}
    reason = (
        f"agreement of independent halves {scores[winner]:.3f} (best {scores[best]:.3f}, plain {scores[1]:.3f}) on "
        f"{min(QUERIES, len(x) // 4)} pseudo-queries"
    )
    return Choice(tried[winner].method, tried[winner].settings, named, reason)


def _split(rng: np.random.Generator, n: int, d: int) -> tuple[tuple[Ids, Ids], Ids, Ids]:
    dims = rng.permutation(d)
    rows = rng.permutation(n)
    held = min(QUERIES, n // 4)
    return (dims[: d // 2], dims[d // 2 :]), rows[:held], np.sort(rows[held:])


def _results(tried: list[Preset], queries: Matrix, db: Matrix) -> list[Ids]:
    """Each preset's first results, shape (n_queries, depth)."""
    depth = min(DEPTH, len(db) // 2)
    vectors: dict[int, tuple[Matrix, Matrix]] = {0: (queries, db)}
    scores: dict[str, Matrix] = {}

    def of(preset: Preset) -> Matrix:
        dims, power, rest = split_settings(preset.settings)
        if preset.method == "fuse":  # its parts are presets themselves
            p = METHODS["fuse"].configure(rest)
            return zsum([of(Preset(m, {"whiten": k} if k else {})) for k in p.dims for m in p.methods])
        if dims not in vectors:
            vectors[dims] = whitened(queries, db, dims, power)
        if preset.name not in scores:
            scores[preset.name] = _score(preset.method, *vectors[dims], rest)
        return scores[preset.name]

    return [np.argpartition(-of(p), depth, axis=1)[:, :depth].astype(np.int64) for p in tried]


def _score(name: str, queries: Matrix, db: Matrix, settings: Mapping[str, Any]) -> Matrix:
    """Score all; a list method sees each query's first 400, as it will in use."""
    if METHODS[name].scope == "graph" or METHODS[name].run is None or len(db) <= 400:
        return score_all(name, queries, db, settings)
    first = queries @ db.T
    out = first - 1e3
    for q, row in enumerate(np.argpartition(-first, 400, axis=1)[:, :400]):
        out[q, row] = score_all(name, queries[q : q + 1], db[row], settings)[0]
    return out


def agreement(a: Ids, b: Ids) -> float:
    """Share of common results of the same query, less that of two different queries; results (n_queries, depth)."""
    n, depth = a.shape
    width = int(max(a.max(), b.max())) + 1
    marks = []
    for ids in (a, b):
        m = np.zeros((n, width), dtype=np.float32)
        np.put_along_axis(m, ids, 1, axis=1)
        marks.append(m)
    common = marks[0] @ marks[1].T / depth
    own = float(np.trace(common))
    return own / n - (float(common.sum()) - own) / max(n * (n - 1), 1)

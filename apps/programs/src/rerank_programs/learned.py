"""A learned ranker on CPU that leans on the vote, and calibrated confidence for every method.

LightGBM predicts whether a cluster is right from [`rerank_programs.features`][]. Trained on many random sub-pools of
the candidates (pool dropout), so that it does not lean on which systems happen to be in the pool. A cluster's score is
its share of the votes plus ``weight`` times the prediction: a cluster overtakes the most voted one only when the model
prefers it by more than the votes it lacks, and where the model has no opinion the vote stands. ``weight`` is chosen by
cross-validation over databases so that no pool of the validation falls below the vote by more than ``tolerance``;
if none does, it is 0: voting with lints. Confidence is the calibrated share of the votes, which tells sure from unsure
answers better than the prediction does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.calibration import Isotonic
from rerank_core.errors import InputError, require
from rerank_core.files import atomic_write, read_json, write_json
from rerank_core.learning import group_folds
from rerank_core.measures import Row
from rerank_core.reranker import digest
from rerank_core.statistics import bootstrap
from rerank_core.types import FloatArray, Gold, Request
from rerank_programs.data import Program, Task
from rerank_programs.features import ALL_NAMES, MONOTONE, Pool, prepare, table
from rerank_programs.lints import PENALTIES
from rerank_programs.measures import confidence_rows, mcnemar
from rerank_programs.results import Outcome
from rerank_programs.semantic import VOTE, Cluster, Picked, SemanticConfig, interleave, pick

FORMAT = 1
WEIGHTS = (2.0, 1.0, 0.5, 0.25, 0.0)


def base(features: FloatArray) -> FloatArray:
    """Return each cluster's share less its lints' penalties: what the prediction is added to, shape (n_clusters,)."""
    return features[:, 0] - features[:, _LINT_COLUMNS] @ _LINT_PENALTIES


_LINTED = [n for n in ALL_NAMES if n in PENALTIES]
_LINT_COLUMNS = [ALL_NAMES.index(n) for n in _LINTED]
_LINT_PENALTIES = np.array([PENALTIES[n] for n in _LINTED])


@dataclass(frozen=True)
class LearnedConfig:
    """Settings of training.

    Parameters
    ----------
    pools
        Random sub-pools a request, besides the full one.
    smallest
        Least number of candidates in a sub-pool.
    folds
        Of the cross-validation, by database.
    seeds
        Models whose predictions are averaged.
    tolerance
        How far below the vote any validation pool may fall, in EX@1.
    """

    pools: int = 8
    smallest: int = 3
    folds: int = 4
    seeds: int = 3
    trees: int = 120
    learning_rate: float = 0.04
    leaves: int = 8
    min_leaf: int = 200
    l2: float = 10.0
    tolerance: float = 0.002


@dataclass(frozen=True)
class Model:
    """Averaged boosters and the weight of their word.

    Parameters
    ----------
    boosters
        LightGBM models.
    weight
        Of the prediction against the share of the votes.
    names
        Feature names; sources, where they are known, as ``source:NAME``.
    """

    boosters: tuple[Any, ...]
    weight: float
    sources: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Feature names in order."""
        return ALL_NAMES + tuple(f"source:{s}" for s in self.sources)

    def predict(self, features: FloatArray) -> FloatArray:
        """Return the chance of being right, shape (n_clusters,)."""
        if not len(features):
            return np.zeros(0)
        return np.mean([b.predict(features, num_threads=1) for b in self.boosters], axis=0)

    def save(self, folder: Path) -> None:
        """Write the boosters as LightGBM's text."""
        for i, booster in enumerate(self.boosters):
            with atomic_write(folder / f"ranker-{i}.txt") as file:
                file.write(booster.model_to_string())
        meta = {"format": FORMAT, "boosters": len(self.boosters), "weight": self.weight, "sources": self.sources}
        write_json(folder / "ranker.json", meta | {"features": list(ALL_NAMES)})

    @classmethod
    def load(cls, folder: str | Path) -> Model:
        """Read a model folder.

        Raises
        ------
        InputError
            When the folder is none, or another version wrote it.
        """
        path = Path(folder) / "ranker.json"
        if not path.is_file():
            raise InputError("no model here: run `rerank-programs fit` first", folder)
        meta = read_json(path)
        if meta.get("format") != FORMAT or meta.get("features") != list(ALL_NAMES):
            raise InputError("written by another version: run `rerank-programs fit` again", path)
        lightgbm = require("lightgbm", "rerank-core[ltr]", "the learned ranker")
        texts = [(Path(folder) / f"ranker-{i}.txt").read_text() for i in range(int(meta["boosters"]))]
        return cls(tuple(lightgbm.Booster(model_str=t) for t in texts), float(meta["weight"]), tuple(meta["sources"]))


@dataclass(frozen=True)
class Calibration:
    """Turns a method's raw confidence into a probability."""

    isotonic: Isotonic

    def confidence(self, picked: Picked) -> float:
        """Return the chance that the first one shown is right; 0 where nothing ran."""
        return 0.0 if picked.all_failed else float(self.isotonic.predict([picked.confidence])[0])

    @classmethod
    def load(cls, folder: str | Path, method: str) -> Calibration:
        """Read a method's calibration.

        Raises
        ------
        InputError
            When the folder has none for this method.
        """
        path = Path(folder) / "calibration.json"
        if not path.is_file():
            raise InputError("no calibration here: run `rerank-programs fit` first", folder)
        value = read_json(path)
        if method not in value:
            raise InputError(f"no calibration of method {method!r}; there are: {', '.join(sorted(value))}", path)
        return cls(Isotonic(tuple(value[method]["knots"]), tuple(value[method]["values"])))


@dataclass(frozen=True)
class LearnedScorer:
    """Orders clusters by share plus weighted prediction.

    Programs in another language than SQL are ordered by semantic reranking: the ranker never saw any.
    """

    model: Model
    calibration: Calibration | None = None
    mode: str = "spider"
    name: str = "learned"
    fallback: SemanticConfig = field(default_factory=SemanticConfig)

    def picks(self, requests: Sequence[Request[Task, Program]], outcomes: Sequence[Sequence[Outcome]]) -> list[Picked]:
        """Order each request; all clusters are predicted in one call."""
        pools = [prepare(r, seen, self.mode) for r, seen in zip(requests, outcomes, strict=True)]
        tables = [with_sources(p, *table(p), r, self.model.sources) for p, r in zip(pools, requests, strict=True)]
        stacked = np.vstack([f for _, f in tables]) if tables else np.zeros((0, len(self.model.names)))
        predicted = self.model.predict(stacked)
        out, at = [], 0
        for request, seen, (groups, features) in zip(requests, outcomes, tables, strict=True):
            chance = predicted[at : at + len(groups)]
            at += len(groups)
            if request.query.language != "sql" or not groups:
                out.append(pick(request, seen, self.fallback))
                continue
            picked = order(groups, features, chance, self.model.weight, len(seen))
            if self.calibration is not None:
                picked = replace(picked, confidence=self.calibration.confidence(picked))
            out.append(picked)
        return out

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        texts = [b.model_to_string() for b in self.model.boosters]
        return digest("learned", texts, self.model.weight, self.model.sources, self.mode)


def order(groups: Sequence[np.ndarray], features: FloatArray, chance: FloatArray, weight: float, n: int) -> Picked:
    """Order clusters by share plus weighted chance and interleave them.

    Parameters
    ----------
    groups
        Positions of each cluster's members.
    features
        Shape (n_clusters, n_features).
    chance
        Shape (n_clusters,), predicted.
    n
        Number of candidates; those in no cluster come last.
    """
    share = features[:, 0]
    score = base(features) + weight * chance
    by_rank = sorted(range(len(groups)), key=lambda k: (-score[k], groups[k][0]))
    clusters = tuple(Cluster(tuple(int(i) for i in groups[k]), float(share[k]), float(score[k])) for k in by_rank)
    shown = interleave([c.members for c in clusters])
    place = {i: (c.score, depth) for c in clusters for depth, i in enumerate(c.members)}
    step = 1 + float(np.ptp(score))
    scores = [place[i][0] - step * place[i][1] for i in shown]
    failed = [i for i in range(n) if i not in place]
    floor = min(scores) - step
    return Picked(
        (*shown, *failed),
        (*scores, *(floor - j for j in range(len(failed)))),
        clusters,
        float(share[by_rank[0]]),
        all_failed=False,
    )


def with_sources(
    pool: Pool,
    groups: list[np.ndarray],
    features: FloatArray,
    request: Request[Task, Program],
    sources: Sequence[str],
) -> tuple[list[np.ndarray], FloatArray]:
    """Add one column a known source: whether it is among a cluster's members."""
    if not sources:
        return groups, features
    names = [c.content.source for c in request.candidates]
    extra = np.array([[float(any(names[i] == s for i in g)) for s in sources] for g in groups])
    return groups, np.hstack([features, extra.reshape(len(groups), len(sources))])


@dataclass
class _Data:
    """Requests prepared for training."""

    requests: Sequence[Request[Task, Program]]
    outcomes: Sequence[Sequence[Outcome]]
    pools: list[Pool]
    right: list[FloatArray]
    folds: np.ndarray
    sources: tuple[str, ...]

    def table(self, i: int, members: np.ndarray | None = None) -> tuple[list[np.ndarray], FloatArray]:
        return with_sources(self.pools[i], *table(self.pools[i], members), self.requests[i], self.sources)


def train(
    requests: Sequence[Request[Task, Program]],
    outcomes: Sequence[Sequence[Outcome]],
    gold: Gold,
    folder: Path,
    *,
    config: LearnedConfig | None = None,
    use_sources: bool = False,
    seed: int = 0,
) -> list[Row]:
    """Train ranker and calibrations into a folder.

    Returns
    -------
    list of Row
        Out-of-fold figures (each database predicted by models that never saw it): learned, vote and semantic, their
        confidences, and the worst difference to the vote over the validation pools.
    """
    config = config or LearnedConfig()
    data = _prepare(requests, outcomes, gold, config, use_sources, seed)
    models = {f: _boosters(data, np.flatnonzero(data.folds != f), config, seed) for f in np.unique(data.folds)}
    weight, worst, mean = _choose_weight(data, models, config, seed)
    everything = np.arange(len(requests))
    model = Model(_boosters(data, everything, config, seed), weight, data.sources)
    picked = {
        "learned": _out_of_fold(data, models, weight),
        "vote": [pick(r, o, VOTE) for r, o in zip(requests, outcomes, strict=True)],
        "semantic": [pick(r, o) for r, o in zip(requests, outcomes, strict=True)],
    }
    rows, calibrations = _judge(data, picked, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder)
    write_json(folder / "calibration.json", calibrations)
    write_json(
        folder / "training.json",
        {
            "config": asdict(config),
            "seed": seed,
            "requests": len(requests),
            "weight": weight,
            "worst_pool": worst,
            "mean_pool": mean,
        },
    )
    rows.append(Row("learned - vote", "worst pool EX@1", worst, len(requests), worst, worst))
    rows.append(Row("learned - vote", "mean pool EX@1", mean, len(requests), mean, mean))
    return rows


def _prepare(
    requests: Sequence[Request[Task, Program]],
    outcomes: Sequence[Sequence[Outcome]],
    gold: Gold,
    config: LearnedConfig,
    use_sources: bool,
    seed: int,
) -> _Data:
    groups = [r.query.database or r.id for r in requests]
    folds = group_folds(groups, min(config.folds, len(set(groups))), seed)
    names = sorted({c.content.source for r in requests for c in r.candidates if c.content.source})
    return _Data(
        requests,
        outcomes,
        [prepare(r, o) for r, o in zip(requests, outcomes, strict=True)],
        [np.array([gold[r.id].get(c.id, 0.0) for c in r.candidates]) for r in requests],
        folds,
        tuple(names) if use_sources else (),
    )


def _boosters(data: _Data, rows: np.ndarray, config: LearnedConfig, seed: int) -> tuple[Any, ...]:
    lightgbm = require("lightgbm", "rerank-core[ltr]", "the learned ranker")
    rng = np.random.default_rng(seed)
    X, y, w = [], [], []
    for i in map(int, rows):
        for members in _sub_pools(len(data.right[i]), config, rng):
            groups, features = data.table(i, members)
            if len(groups) > 1:  # a single cluster leaves nothing to choose
                X.append(features)
                y += [data.right[i][g[0]] for g in groups]
                w += [1.0 / len(groups)] * len(groups)
    if not X or len(set(y)) < 2:
        raise InputError("nothing to learn from: no request has both right and wrong results")
    names = ALL_NAMES + tuple(f"source:{s}" for s in data.sources)
    params = {
        "objective": "binary",
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": min(config.min_leaf, max(1, len(y) // 10)),
        "bagging_fraction": 0.7,
        "bagging_freq": 1,
        "feature_fraction": 0.4,
        "lambda_l2": config.l2,
        "monotone_constraints": [MONOTONE.get(n, 0) for n in names],
        "verbose": -1,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
    }
    matrix = np.vstack(X)
    return tuple(
        lightgbm.train({**params, "seed": seed + s}, lightgbm.Dataset(matrix, np.array(y), weight=w), config.trees)
        for s in range(config.seeds)
    )


def _sub_pools(n: int, config: LearnedConfig, rng: np.random.Generator) -> list[np.ndarray]:
    out = [np.arange(n)]
    if n > config.smallest:
        for _ in range(config.pools):
            size = int(rng.integers(config.smallest, n + 1))
            out.append(np.sort(rng.choice(n, size, replace=False)))
    return out


def validation_pools(data_right: Sequence[FloatArray], labels: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Return sub-pools that systems may come in, at least four candidates each.

    All; all but one; random ones of every size; and the most and the least alike ones, by how often two candidates
    give the same result.
    """
    n = min(len(r) for r in data_right)
    rng = np.random.default_rng(seed + 1)
    out = [np.arange(n)]
    if n <= 4:
        return out
    out += [np.delete(np.arange(n), i) for i in range(n)]
    out += [np.sort(rng.choice(n, m, replace=False)) for m in range(4, n) for _ in range(3)]
    alike = np.zeros((n, n))
    for row in labels:
        alike += (row[:n, None] == row[None, :n]) & (row[:n, None] >= 0)
    np.fill_diagonal(alike, 0)
    for sign in (1, -1):
        for size in range(4, n):
            out.append(_greedy(sign * alike, size))
    return out


def _greedy(affinity: FloatArray, size: int) -> np.ndarray:
    first = np.unravel_index(np.argmax(affinity), affinity.shape)
    chosen = [int(first[0]), int(first[1])]
    while len(chosen) < size:
        gain = affinity[chosen].sum(axis=0)
        gain[chosen] = -np.inf
        chosen.append(int(np.argmax(gain)))
    return np.sort(np.array(chosen))


def _choose_weight(
    data: _Data, models: Mapping[int, tuple[Any, ...]], config: LearnedConfig, seed: int
) -> tuple[float, float, float]:
    """Return the weight with the best mean over validation pools among the safe ones, its worst and its mean gain."""
    pools = validation_pools(data.right, [p.labels for p in data.pools], seed)
    gains: dict[float, list[float]] = {w: [] for w in WEIGHTS}
    for members in pools:
        tables = [data.table(i, members) for i in range(len(data.requests))]
        chances = _predict(data, models, [f for _, f in tables])
        voted = [_first(g, f[:, 0], data.right[i], members) for i, (g, f) in enumerate(tables)]
        for weight in WEIGHTS:
            got = [
                _first(g, base(f) + weight * c, data.right[i], members)
                for i, ((g, f), c) in enumerate(zip(tables, chances, strict=True))
            ]
            gains[weight].append(float(np.mean(got) - np.mean(voted)))
    safe = [w for w in WEIGHTS if min(gains[w]) >= -config.tolerance]
    if not safe:
        return 0.0, min(gains[0.0]), float(np.mean(gains[0.0]))
    best = max(safe, key=lambda w: float(np.mean(gains[w])))
    return best, min(gains[best]), float(np.mean(gains[best]))


def _first(groups: Sequence[np.ndarray], score: FloatArray, right: FloatArray, members: np.ndarray) -> float:
    if not len(groups):
        return float(right[members[0]])
    return float(right[groups[int(np.argmax(score))][0]])


def _predict(data: _Data, models: Mapping[int, tuple[Any, ...]], features: Sequence[FloatArray]) -> list[FloatArray]:
    out: list[FloatArray] = [np.zeros(len(f)) for f in features]
    for fold, boosters in sorted(models.items()):
        rows = [i for i in map(int, np.flatnonzero(data.folds == fold)) if len(features[i])]
        if rows:
            chance = Model(boosters, 1.0).predict(np.vstack([features[i] for i in rows]))
            for i, part in zip(rows, np.split(chance, np.cumsum([len(features[i]) for i in rows])[:-1]), strict=True):
                out[i] = part
    return out


def _out_of_fold(data: _Data, models: Mapping[int, tuple[Any, ...]], weight: float) -> list[Picked]:
    tables = [data.table(i) for i in range(len(data.requests))]
    chances = _predict(data, models, [f for _, f in tables])
    return [
        order(g, f, c, weight, len(data.right[i])) if len(g) else pick(data.requests[i], data.outcomes[i], VOTE)
        for i, ((g, f), c) in enumerate(zip(tables, chances, strict=True))
    ]


def _judge(
    data: _Data, picked: Mapping[str, Sequence[Picked]], seed: int
) -> tuple[list[Row], dict[str, dict[str, list[float]]]]:
    """Return out-of-fold figures, and calibrations fitted on everything."""
    rows: list[Row] = []
    calibrations: dict[str, dict[str, list[float]]] = {}
    correct: dict[str, FloatArray] = {}
    for name, picks in picked.items():
        first = np.array([r[p.order[0]] for r, p in zip(data.right, picks, strict=True)])
        three = np.array([max(r[list(p.order[:3])]) for r, p in zip(data.right, picks, strict=True)])
        raw = np.array([p.confidence for p in picks])
        for measure, column in (("EX@1", first), ("EX@3", three)):
            low, high = bootstrap(column[:, None], lambda m: float(m.mean()), seed=seed)
            rows.append(Row(name, measure, float(column.mean()), len(column), low, high))
        honest = np.zeros(len(raw))
        for fold in np.unique(data.folds):
            inside = data.folds == fold
            honest[inside] = (
                Isotonic.fit(raw[~inside], first[~inside]).predict(raw[inside]) if (~inside).any() else raw[inside]
            )
        rows += confidence_rows(honest.tolist(), first.tolist(), system=name, seed=seed)
        fitted = Isotonic.fit(raw, first)
        calibrations[name] = {"knots": list(fitted.knots), "values": list(fitted.values)}
        correct[name] = first
    for name in ("learned", "semantic"):
        _, _, p = mcnemar(correct[name].tolist(), correct["vote"].tolist())
        rows.append(Row(f"{name} - vote", "McNemar p", p, len(correct[name]), p, p))
    return rows, calibrations


def load_scorer(folder: str | Path, mode: str = "spider") -> LearnedScorer:
    """Load what `fit` wrote."""
    return LearnedScorer(Model.load(folder), Calibration.load(folder, "learned"), mode)


__all__ = ["Calibration", "LearnedConfig", "LearnedScorer", "Model", "load_scorer", "train"]

"""Learning to rank over named features with LightGBM's LambdaRank (Burges 2010; Ke et al. 2017).

Everything is deterministic for a seed: one thread by default, LightGBM's deterministic mode, folds by group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError, require
from rerank_core.files import atomic_write, read_json, write_json
from rerank_core.reranker import digest
from rerank_core.types import FloatArray, Gold, Ranking, Request

FeatureExtractor = Callable[[Sequence[Request[Any, Any]]], list[dict[str, FloatArray]]]
"""``extract(requests)`` -> one dict a request: feature name -> shape (n_candidates,). Extractors add up."""


@dataclass(frozen=True)
class FeatureTable:
    """Features of all candidates of some requests.

    Parameters
    ----------
    names
        Feature names, in column order.
    values
        Shape (n_rows, n_features); NaN where a feature does not exist.
    offsets
        Shape (n_requests + 1,); request i owns rows ``offsets[i]:offsets[i + 1]``.
    """

    names: tuple[str, ...]
    values: FloatArray
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.values.shape != (int(self.offsets[-1]), len(self.names)):
            raise ValueError(f"values {self.values.shape} do not fit {self.offsets[-1]} rows x {len(self.names)} names")

    @property
    def n_requests(self) -> int:
        """Number of requests."""
        return len(self.offsets) - 1

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> FeatureTable:
        """Return the table of the requests at these positions."""
        rows = self.rows(indices)
        sizes = [int(self.offsets[i + 1] - self.offsets[i]) for i in indices]
        return FeatureTable(self.names, self.values[rows], np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]))

    def rows(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row numbers of the requests at these positions."""
        pieces = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in indices]
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int64)

    def split(self, per_row: FloatArray) -> list[FloatArray]:
        """Cut an array of shape (n_rows,) into one a request."""
        return np.split(per_row, self.offsets[1:-1])

    def aligned(self, names: Sequence[str]) -> FeatureTable:
        """Return the table with exactly these columns; absent ones are NaN."""
        index = {n: j for j, n in enumerate(self.names)}
        values = np.full((len(self.values), len(names)), np.nan)
        for j, name in enumerate(names):
            if name in index:
                values[:, j] = self.values[:, index[name]]
        return FeatureTable(tuple(names), values, self.offsets)


def feature_table(
    requests: Sequence[Request[Any, Any]], *extractors: FeatureExtractor, names: Sequence[str] | None = None
) -> FeatureTable:
    """Collect features from extractors and from the candidates' own ``features``.

    Parameters
    ----------
    names
        Columns wanted; by default all that occur, sorted.

    Raises
    ------
    ValueError
        When an extractor gives an array of the wrong length, or two give the same name.
    """
    sizes = [len(r.candidates) for r in requests]
    collected: list[dict[str, FloatArray]] = [{} for _ in requests]
    for request, columns in zip(requests, collected, strict=True):
        for name in {n for c in request.candidates for n in c.features}:
            columns[name] = np.array([c.features.get(name, math.nan) for c in request.candidates], dtype=np.float64)
    for extract in extractors:
        for request, columns, found in zip(requests, collected, extract(requests), strict=True):
            for name, array in found.items():
                if name in columns:
                    raise ValueError(f"feature {name!r} is given twice")
                if np.shape(array) != (len(request.candidates),):
                    raise ValueError(f"feature {name!r} of {request.id!r} has shape {np.shape(array)}")
                columns[name] = np.asarray(array, dtype=np.float64)
    wanted = tuple(names) if names is not None else tuple(sorted({n for columns in collected for n in columns}))
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    values = np.full((int(offsets[-1]), len(wanted)), np.nan)
    for i, columns in enumerate(collected):
        for j, name in enumerate(wanted):
            if name in columns:
                values[offsets[i] : offsets[i + 1], j] = columns[name]
    return FeatureTable(wanted, values, offsets)


def gains_of(requests: Sequence[Request[Any, Any]], gold: Gold) -> FloatArray:
    """Return the gains of all candidates of all requests in order, shape (n_rows,)."""
    return np.array([gold.get(r.id, {}).get(c.id, 0.0) for r in requests for c in r.candidates], dtype=np.float64)


def group_folds(groups: Sequence[str], k: int, seed: int = 0) -> NDArray[np.int64]:
    """Assign each request to one of ``k`` folds so that no group is cut.

    Groups are shuffled by the seed and then, largest first, put into the emptiest fold.

    Returns
    -------
    ndarray
        Fold of each request, shape (n_requests,).

    Raises
    ------
    ValueError
        When there are fewer groups than folds.
    """
    names, inverse, counts = np.unique(
        np.asarray(groups, dtype=object).astype(str), return_inverse=True, return_counts=True
    )
    if len(names) < k:
        raise ValueError(f"{len(names)} groups cannot make {k} folds")
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    fold_of, load = np.empty(len(names), dtype=np.int64), np.zeros(k)
    for g in order:
        fold_of[g] = int(np.argmin(load))
        load[fold_of[g]] += counts[g]
    return fold_of[inverse]


@dataclass(frozen=True)
class LambdaRankParams:
    """Parameters of LightGBM's LambdaRank; defaults suit some hundred to some ten thousand requests."""

    n_estimators: int = 200
    learning_rate: float = 0.05
    num_leaves: int = 15
    min_child_samples: int = 20
    subsample: float = 0.8
    colsample_bytree: float = 0.8
    reg_lambda: float = 1.0
    truncation_level: int = 10
    max_gain_levels: int = 32
    threads: int = 1


@dataclass(frozen=True)
class LambdaRank:
    """A LambdaRank model; `fit` returns a fitted copy.

    Real-valued gains become whole levels by rank (at most ``max_gain_levels``), since LightGBM wants levels; gains
    that are small whole numbers stay as they are.
    """

    params: LambdaRankParams = LambdaRankParams()
    names: tuple[str, ...] = ()
    model: str = ""

    def fit(self, table: FeatureTable, gains: FloatArray, seed: int = 0) -> LambdaRank:
        """Fit on a table and gains of shape (n_rows,).

        Raises
        ------
        ValueError
            When nothing can be learned: no row, or no request with candidates of different gain.
        MissingExtra
            Without LightGBM.
        """
        lightgbm = require("lightgbm", "rerank-core[ltr]", "learning to rank")
        if gains.shape != (len(table.values),):
            raise ValueError(f"{gains.size} gains for {len(table.values)} rows")
        if not any(len(g) and g.min() < g.max() for g in table.split(gains)):
            raise ValueError("nothing can be learned: no request has candidates of different gain")
        p = self.params
        levels = gain_levels(gains, p.max_gain_levels)
        sizes = np.diff(table.offsets)
        data = lightgbm.Dataset(
            table.values, levels, group=sizes[sizes > 0], feature_name=[f"f{i}" for i in range(len(table.names))]
        )
        booster = lightgbm.train(
            {
                "objective": "lambdarank",
                "learning_rate": p.learning_rate,
                "num_leaves": p.num_leaves,
                "min_data_in_leaf": p.min_child_samples,
                "bagging_fraction": p.subsample,
                "bagging_freq": 1 if p.subsample < 1 else 0,
                "feature_fraction": p.colsample_bytree,
                "lambda_l2": p.reg_lambda,
                "lambdarank_truncation_level": p.truncation_level,
                "label_gain": _label_gain(int(levels.max()) + 1),
                "seed": seed,
                "deterministic": True,
                "force_row_wise": True,
                "num_threads": p.threads,
                "verbosity": -1,
            },
            data,
            num_boost_round=p.n_estimators,
        )
        return replace(self, names=table.names, model=booster.model_to_string())

    def _booster(self) -> Any:
        if not self.model:
            raise ValueError("this model is not fitted")
        return require("lightgbm", "rerank-core[ltr]", "learning to rank").Booster(model_str=self.model)

    def predict(self, table: FeatureTable) -> FloatArray:
        """Return scores, shape (n_rows,); columns are matched by name."""
        if not len(table.values):
            return np.empty(0)
        values = table.aligned(self.names).values
        return np.asarray(self._booster().predict(values, num_threads=self.params.threads), dtype=np.float64)

    def importances(self) -> dict[str, float]:
        """Return each feature's share of the total split gain, largest first."""
        gain = self._booster().feature_importance("gain")
        total = gain.sum() or 1.0
        order = np.argsort(-gain, kind="stable")
        return {self.names[j]: float(gain[j] / total) for j in order}

    def save(self, folder: str | Path) -> None:
        """Write ``model.txt`` and ``ranker.json`` into a folder."""
        folder = Path(folder)
        with atomic_write(folder / "model.txt") as file:
            file.write(self.model)
        write_json(
            folder / "ranker.json", {"kind": "lambdarank", "names": list(self.names), "params": asdict(self.params)}
        )

    @classmethod
    def load(cls, folder: str | Path) -> LambdaRank:
        """Read a folder written by `save`.

        Raises
        ------
        InputError
            When it holds no such model.
        """
        folder = Path(folder)
        config = read_json(folder / "ranker.json")
        if not isinstance(config, dict) or config.get("kind") != "lambdarank":
            raise InputError("is no LambdaRank model", folder / "ranker.json")
        try:
            model = (folder / "model.txt").read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot be read: {error}", folder / "model.txt") from error
        return cls(LambdaRankParams(**config["params"]), tuple(config["names"]), model)

    def fingerprint(self) -> str:
        """Return the digest of parameters and trees."""
        return digest("lambdarank", self.params, self.names, self.model)


def gain_levels(gains: FloatArray, max_levels: int = 32) -> NDArray[np.int64]:
    """Turn gains into whole levels from 0; order is kept, equal gains stay equal."""
    if len(gains) and (gains >= 0).all() and (gains == np.floor(gains)).all() and gains.max() < max_levels:
        return gains.astype(np.int64)
    distinct, inverse = np.unique(gains, return_inverse=True)
    if len(distinct) <= max_levels:
        return inverse.astype(np.int64)
    edges = np.quantile(gains, np.linspace(0, 1, max_levels + 1)[1:-1])
    return np.searchsorted(edges, gains, side="right").astype(np.int64)


def _label_gain(n: int) -> list[float]:
    # 2^g - 1 for the few grades of classical collections; linear where there are many levels, which would overflow.
    return [2.0**g - 1 for g in range(n)] if n <= 6 else [float(g) for g in range(n)]


def cross_fit(
    table: FeatureTable,
    gains: FloatArray,
    groups: Sequence[str],
    folds: int = 5,
    params: LambdaRankParams | None = None,
    seed: int = 0,
) -> FloatArray:
    """Predict every request with a model that saw nothing of its group.

    Returns
    -------
    ndarray
        Out-of-fold scores, shape (n_rows,).
    """
    fold = group_folds(groups, folds, seed)
    out = np.full(len(table.values), np.nan)
    for f in range(folds):
        train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        rows = table.rows(train)
        model = LambdaRank(params or LambdaRankParams()).fit(table.take(train), gains[rows], seed)
        out[table.rows(test)] = model.predict(table.take(test))
    return out


@dataclass(frozen=True)
class Learned:
    """A reranker: features, then a fitted model."""

    name: str
    extractors: tuple[FeatureExtractor, ...]
    model: LambdaRank

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Extract features, score, sort."""
        table = feature_table(requests, *self.extractors, names=self.model.names)
        scores = table.split(self.model.predict(table)) if requests else []
        return [Ranking.from_scores(r, s) for r, s in zip(requests, scores, strict=True)]

    def fingerprint(self) -> str:
        """Return the digest of the model and the extractors' names."""
        return digest(
            "learned", self.model.fingerprint(), [getattr(e, "__qualname__", repr(e)) for e in self.extractors]
        )


def rank_features(name: str, scores: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Turn one request's score lists into features that travel between queries: rank, z-score, gap to the best.

    Parameters
    ----------
    scores
        List name -> shape (n_candidates,), NaN where a list does not hold a candidate.
    """
    out: dict[str, FloatArray] = {}
    for key, s in scores.items():
        held = ~np.isnan(s)
        rank = np.full(s.shape, np.nan)
        rank[held] = 1.0 / (1 + np.argsort(np.argsort(-s[held], kind="stable"), kind="stable"))
        spread = s[held].std() if held.any() else 0.0
        out[f"{name}{key}.rr"] = rank
        out[f"{name}{key}.z"] = (s - s[held].mean()) / spread if spread > 0 else np.where(held, 0.0, np.nan)
        out[f"{name}{key}.gap"] = s - s[held].max() if held.any() else s
    return out

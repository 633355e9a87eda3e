"""A learned reranker: LambdaRank over reference-free features, fitted so that every document can be scored honestly.

`fit` trains one model a fold and remembers which documents each has *not* seen. A document of the training set is
scored only by the model that never saw it; any other document by all models together. So the same file can be given
to ``fit`` and to ``rerank`` and the result is the out-of-fold one.

Targets are several metrics at once (as in SummaReranker, Ravaut et al., ACL 2022, but one scalar): each is
standardised inside its list, then summed with weights. Source of LambdaRank: C. Burges, MSR-TR-2010-82.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError, UsageError
from rerank_core.io import atomic_write
from rerank_core.learning import FeatureTable, LambdaRank, LambdaRankParams, feature_table, group_folds
from rerank_core.reranker import digest
from rerank_core.types import FloatArray, Ranking, Request
from rerank_summary.data import Record
from rerank_summary.evaluate import candidate_values
from rerank_summary.features import features
from rerank_summary.lists import CandidateList, exact
from rerank_summary.rouge import Rouge, flavour

TARGETS: Mapping[str, float] = {"human_mean": 0.7, "rouge1": 0.3}
PARAMS = LambdaRankParams(
    n_estimators=200, learning_rate=0.05, num_leaves=4, min_child_samples=20, subsample=0.7, colsample_bytree=0.4,
    reg_lambda=5.0, truncation_level=5,
)  # fmt: skip
LEFT_OUT = ("first_stage_z", "copies")  # tell where a candidate stood or who made it, not how good it is
LEVELS = 31
PACKAGED = "general"


def standardise(values: FloatArray) -> FloatArray:
    """Zero mean, unit spread; zeros where all are equal."""
    spread = values.std() if len(values) else 0.0
    return (values - values.mean()) / spread if spread > 1e-12 else np.zeros_like(values)


def list_features(requests: Sequence[Request[Any, Any]]) -> list[dict[str, FloatArray]]:
    """Features of `rerank_summary.features`, standardised inside each list: only differences between fellows count."""
    out = []
    for request in requests:
        found = features(CandidateList.of(request), request.first_stage())
        out.append({k: standardise(v) for k, v in found.items() if k not in LEFT_OUT})
    return out


def target(record: Record, weights: Mapping[str, float], rouge: Rouge) -> FloatArray | None:
    """Weighted sum of a document's standardised metrics, shape (n_candidates,); None where it has none of them."""
    values = candidate_values(record, rouge)
    known = {k: w for k, w in weights.items() if k in values}
    if not known:
        return None
    return np.sum([w * standardise(values[k]) for k, w in known.items()], axis=0)


def levels(values: FloatArray) -> FloatArray:
    """Places of a list's values, lowest 0, scaled to whole levels 0 ... 30; equal values share a level."""
    places = np.searchsorted(np.sort(values), values - 1e-12)
    return np.clip(np.floor(places * LEVELS / max(len(values), 1)), 0, LEVELS - 1)


def document_key(source: str) -> str:
    """Digest of a source text, white space and case ignored."""
    return hashlib.sha256(" ".join(source.lower().split()).encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(frozen=True)
class Ensemble:
    """One LambdaRank a fold.

    Parameters
    ----------
    models
        One a fold.
    seen
        Document key -> the fold whose model did *not* see it.
    targets
        What was learned, for the record.
    """

    models: tuple[LambdaRank, ...]
    seen: Mapping[str, int]
    targets: Mapping[str, float]
    folds: int = field(default=0)

    def scores(self, requests: Sequence[Request[Any, Any]]) -> list[FloatArray]:
        """Score lists: each model's scores standardised inside the list, averaged over the models that may be asked."""
        if not requests:
            return []
        table = feature_table(requests, list_features, names=self.models[0].names)
        return self.scores_of(table, [document_key(str(r.query)) for r in requests])

    def scores_of(self, table: FeatureTable, keys: Sequence[str]) -> list[FloatArray]:
        """Score a table of standardised features; ``keys`` are the documents' keys."""
        per_model = [table.split(m.predict(table)) for m in self.models]
        out = []
        for i, key in enumerate(keys):
            chosen = [self.seen[key]] if key in self.seen else range(len(self.models))
            out.append(exact(np.mean([standardise(per_model[f][i]) for f in chosen], axis=0)))
        return out

    def importances(self) -> dict[str, float]:
        """Mean share of the split gain over the models, largest first."""
        total: dict[str, float] = {}
        for m in self.models:
            for name, share in m.importances().items():
                total[name] = total.get(name, 0.0) + share / len(self.models)
        return dict(sorted(total.items(), key=lambda kv: -kv[1]))

    def save(self, path: str | Path) -> None:
        """Write one gzipped JSON file."""
        with atomic_write(path) as file:
            json.dump(
                {
                    "kind": "summary-ensemble",
                    "names": list(self.models[0].names),
                    "params": asdict(self.models[0].params),
                    "targets": dict(self.targets),
                    "seen": dict(self.seen),
                    "models": [m.model for m in self.models],
                },
                file,
            )

    def fingerprint(self) -> str:
        """Return the digest of all models."""
        return digest("ensemble", [m.fingerprint() for m in self.models], dict(self.seen))


def fit(
    records: Sequence[Record],
    *,
    targets: Mapping[str, float] = TARGETS,
    params: LambdaRankParams = PARAMS,
    folds: int = 5,
    seed: int = 0,
) -> Ensemble:
    """Fit one model a fold, documents never split.

    Raises
    ------
    InputError
        When fewer documents than folds have a target.
    """
    rouge = Rouge(flavour(), ("rouge1", "rouge2", "rougeL", "rougeLsum"))
    wanted = [(r, t) for r in records if (t := target(r, targets, rouge)) is not None and len(t) > 1]
    keys = [document_key(r.request.query) for r, _ in wanted]
    if len(set(keys)) < max(folds, 2):
        raise InputError(
            f"{len(set(keys))} different documents with {', '.join(targets)} and two candidates; "
            f"{max(folds, 2)} folds need at least as many"
        )
    table = feature_table([r.request for r, _ in wanted], list_features)
    gains = np.concatenate([levels(t) for _, t in wanted])
    fold = group_folds(keys, folds, seed)
    models = []
    for f in range(folds):
        train = np.flatnonzero(fold != f)
        models.append(LambdaRank(params).fit(table.take(train), gains[table.rows(train)], seed))
    return Ensemble(tuple(models), {k: int(f) for k, f in zip(keys, fold, strict=True)}, dict(targets), folds)


def load(path: str | Path) -> Ensemble:
    """Read an ensemble written by `Ensemble.save`.

    Raises
    ------
    InputError
        When the file is no such model.
    """
    p = Path(path)
    if p.is_dir():
        p = p / "ensemble.json.gz"
    try:
        with gzip.open(p, "rt", encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, EOFError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"is no model of `rerank-summary fit`: {error}", p) from None
    return _decode(value, p)


def _decode(value: Any, path: str | Path) -> Ensemble:
    if not isinstance(value, dict) or value.get("kind") != "summary-ensemble":
        raise InputError("is no model of `rerank-summary fit`", path)
    try:
        params, names = LambdaRankParams(**value["params"]), tuple(map(str, value["names"]))
        models = tuple(LambdaRank(params, names, str(m)) for m in value["models"])
        seen = {str(k): int(v) for k, v in value["seen"].items()}
        targets = {str(k): float(v) for k, v in value["targets"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"damaged model file: {error}", path) from None
    if not models or any(not 0 <= f < len(models) for f in seen.values()):
        raise InputError("damaged model file: folds and models do not match", path)
    return Ensemble(models, seen, targets, len(models))


@lru_cache(maxsize=4)
def packaged(name: str = PACKAGED) -> Ensemble:
    """Return a model that ships with the package."""
    resource = files("rerank_summary") / "models" / f"{name}.json.gz"
    if not resource.is_file():
        raise UsageError(f"no packaged model {name!r}")
    return _decode(json.loads(gzip.decompress(resource.read_bytes())), f"packaged model {name}")


@dataclass(frozen=True)
class LearnedReranker:
    """Ranks by an ensemble, optionally together with minimum Bayes risk.

    Parameters
    ----------
    mbr
        Weight of the standardised mean-ROUGE MBR score beside the standardised model score.
    """

    name: str
    ensemble: Ensemble
    mbr: float = 0.0
    explain: bool = False

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Score and sort."""
        if not requests:
            return []
        table = feature_table(requests, list_features)
        keys = [document_key(str(r.query)) for r in requests]
        rankings = []
        column = table.names.index("mbr_mean")
        for i, (request, scores) in enumerate(zip(requests, self.ensemble.scores_of(table, keys), strict=True)):
            rows = table.values[table.offsets[i] : table.offsets[i + 1]]
            total = exact(scores + self.mbr * rows[:, column]) if self.mbr else scores
            reasons = self._reasons(request, rows, table.names, keys[i]) if self.explain else None
            rankings.append(Ranking.from_scores(request, total, reasons=reasons))
        return rankings

    def _reasons(self, request: Request[Any, Any], rows: FloatArray, names: Sequence[str], key: str) -> dict[str, str]:
        """The three features in which a candidate differs most from its fellows, weighted by their importance."""
        share = self.ensemble.importances()
        weight = np.array([share.get(n, 0.0) for n in names])
        how = "out of fold" if key in self.ensemble.seen else f"{len(self.ensemble.models)} models"
        reasons = {}
        for candidate, row in zip(request.ids, rows, strict=True):
            best = np.argsort(-np.abs(row) * weight)[:3]
            reasons[candidate] = f"{how}; " + ", ".join(f"{names[j]} {row[j]:+.1f} sd" for j in best)
        return reasons

    def fingerprint(self) -> str:
        """Return the digest of models and weight."""
        return digest("summary-learned", self.ensemble.fingerprint(), self.mbr, self.explain)

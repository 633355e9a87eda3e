"""Stacking: experts' scores as features, LambdaRank on top, fitted so that no expert has seen what it is judged on.

An expert that was fitted on a turn knows its target by heart, and a ranker trained on such scores learns to trust
memory. So features of training turns come from experts refitted without the turn's fold (folds by dialogue), and
features at inference from experts fitted on everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerank_core.learning import FeatureTable, LambdaRank, LambdaRankParams, group_folds
from rerank_recommend.experts import Context, Expert, Log, Scores

CHUNK = 256


@dataclass(frozen=True)
class StackParams:
    """How candidates are gathered and the ranker is fitted.

    Parameters
    ----------
    depth
        How much of each expert's list counts for reciprocal rank fusion.
    train_candidates, candidates
        Candidates a turn in training and at inference.
    folds
        Refits of all experts, by dialogue.
    rrf
        Constant of reciprocal rank fusion (Cormack et al. 2009).
    """

    depth: int = 200
    train_candidates: int = 100
    candidates: int = 200
    folds: int = 4
    rrf: float = 60.0
    trees: int = 200
    learning_rate: float = 0.04
    leaves: int = 15
    min_child: int = 20
    truncation: int = 20


@dataclass(frozen=True)
class Gathered:
    """Candidates of some contexts with their features.

    Parameters
    ----------
    columns
        Item columns of each context's candidates, in the order of reciprocal rank fusion.
    fused
        Their fused scores.
    features
        Shape (n_candidates, n_features), one array a context.
    """

    names: tuple[str, ...]
    columns: list[NDArray[np.int64]]
    fused: list[NDArray[np.float64]]
    features: list[NDArray[np.float64]]

    def table(self) -> FeatureTable:
        """Return the features as one table."""
        sizes = [len(c) for c in self.columns]
        values = np.concatenate(self.features) if self.features else np.empty((0, len(self.names)))
        return FeatureTable(
            self.names, values, np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        )


def ranks_within(scores: Scores, depth: int) -> NDArray[np.float32]:
    """Return 1-based ranks of the best ``depth`` items of each row, infinity for the rest and for scores <= 0.

    Ties go to the smaller column.
    """
    n, m = scores.shape
    k = min(depth, m)
    ranks = np.full((n, m), np.inf, dtype=np.float32)
    if not k:
        return ranks
    if k < m:
        top = np.sort(np.argpartition(-scores, k - 1, axis=1)[:, :k], axis=1)
    else:
        top = np.tile(np.arange(m), (n, 1))
    values = np.take_along_axis(scores, top, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    best = np.take_along_axis(top, order, axis=1)
    places = np.tile(np.arange(1, k + 1, dtype=np.float32), (n, 1))
    places[np.take_along_axis(values, order, axis=1) <= 0] = np.inf
    np.put_along_axis(ranks, best, places, axis=1)
    return ranks


def gather(
    contexts: Sequence[Context],
    experts: Sequence[Expert],
    popularity: NDArray[np.float64],
    params: StackParams,
    n_candidates: int,
) -> Gathered:
    """Score contexts with every expert, pick candidates by reciprocal rank fusion and lay out their features."""
    columns, fused, features = [], [], []
    for start in range(0, len(contexts), CHUNK):
        part = contexts[start : start + CHUNK]
        scores = [e.score(part) for e in experts]
        ranks = [ranks_within(s, params.depth) for s in scores]
        rrf = np.asarray(np.sum([1.0 / (params.rrf + r) for r in ranks], axis=0), dtype=np.float64)
        spread = [(s.mean(axis=1), np.maximum(s.std(axis=1), 1e-9)) for s in scores]
        for i, context in enumerate(part):
            chosen = _candidates(rrf[i], context, popularity, n_candidates)
            parts = []
            for s, r, (mean, std) in zip(scores, ranks, spread, strict=True):
                raw = s[i, chosen].astype(np.float64)
                parts += [raw, (raw - mean[i]) / std[i], 1.0 / r[i, chosen]]
            features.append(np.column_stack([*parts, rrf[i, chosen], *_context_features(context, chosen, popularity)]))
            columns.append(chosen)
            fused.append(rrf[i, chosen])
    names = [f"{e.name}.{kind}" for e in experts for kind in ("raw", "z", "rr")]
    return Gathered((*names, "rrf", *CONTEXT_FEATURES), columns, fused, features)


def _candidates(
    rrf: NDArray[np.float64], context: Context, popularity: NDArray[np.float64], n: int
) -> NDArray[np.int64]:
    """Return the best items by fusion, then popularity, then column; items mentioned before are always among them."""
    k = min(n, len(rrf))
    shortlist = np.argpartition(-rrf, k - 1)[:k] if k < len(rrf) else np.arange(len(rrf))
    wanted = np.unique(np.concatenate([shortlist, np.array(context.known, dtype=np.int64)]))
    return wanted[np.lexsort((wanted, -popularity[wanted], -rrf[wanted]))]


CONTEXT_FEATURES = ("log_popularity", "mentioned", "recency", "just_mentioned", "n_known", "n_entities", "n_utterances")


def _context_features(
    context: Context, chosen: NDArray[np.int64], popularity: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    n = len(chosen)
    place = {c: k for k, c in enumerate(context.known)}
    at = np.array([place.get(int(c), -1) for c in chosen])
    known = at >= 0
    yield np.log1p(popularity[chosen])
    yield known.astype(np.float64)
    yield np.where(known, 1.0 / (len(place) - at), 0.0)
    yield np.where(known & (at == len(place) - 1), 1.0, 0.0)
    yield np.full(n, float(len(place)))
    yield np.full(n, float(len(set(context.rows))))
    yield np.full(n, float(context.n_utterances))


def fit_experts(experts: Sequence[Expert], log: Log) -> list[Expert]:
    """Fit every expert."""
    return [e.fit(log) for e in experts]


def out_of_fold(log: Log, experts: Sequence[Expert], params: StackParams, seed: int) -> tuple[Gathered, list[int]]:
    """Gather the training turns' features from experts that have not seen their dialogues.

    Returns
    -------
    tuple
        Features, and for each of their contexts its position in the log.
    """
    folds = group_folds(log.dialogues, params.folds, seed)
    parts: list[tuple[Gathered, NDArray[np.int64]]] = []
    for f in range(params.folds):
        seen, unseen = np.flatnonzero(folds != f), np.flatnonzero(folds == f)
        fitted_on = log.take(seen)
        fitted = fit_experts(experts, fitted_on)
        contexts = [log.contexts[i] for i in unseen]
        parts.append((gather(contexts, fitted, fitted_on.popularity, params, params.train_candidates), unseen))
    positions = [int(i) for _, unseen in parts for i in unseen]
    return (
        Gathered(
            parts[0][0].names,
            [c for g, _ in parts for c in g.columns],
            [s for g, _ in parts for s in g.fused],
            [x for g, _ in parts for x in g.features],
        ),
        positions,
    )


def target_gains(gathered: Gathered, targets: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """Return 1 for candidates that were recommended, else 0, in the table's order."""
    return np.concatenate(
        [
            np.isin(c, np.array(t, dtype=np.int64)).astype(np.float64)
            for c, t in zip(gathered.columns, targets, strict=True)
        ]
    )


def fit_ranker(
    gathered: Gathered, targets: Sequence[Sequence[int]], params: StackParams, seed: int, threads: int = 1
) -> LambdaRank | None:
    """Fit LambdaRank on the contexts that have a target among their candidates; None where no context has."""
    table, gains = gathered.table(), target_gains(gathered, targets)
    useful = [i for i, g in enumerate(table.split(gains)) if g.any() and not g.all()]
    if not useful:
        return None
    rows = table.rows(useful)
    model = LambdaRank(
        LambdaRankParams(
            n_estimators=params.trees,
            learning_rate=params.learning_rate,
            num_leaves=params.leaves,
            min_child_samples=params.min_child,
            truncation_level=params.truncation,
            threads=threads,
        )
    )
    return model.fit(table.take(useful), gains[rows], seed)


def scored(gathered: Gathered, ranker: LambdaRank | None) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Return each context's candidates and scores, best first; without a ranker by fusion."""
    table = gathered.table()
    scores = gathered.fused if ranker is None else table.split(ranker.predict(table))
    out = []
    for columns, values in zip(gathered.columns, scores, strict=True):
        order = np.argsort(-values, kind="stable")
        out.append((columns[order], values[order]))
    return out


def importances(ranker: LambdaRank) -> Mapping[str, float]:
    """Return each expert's share of the ranker's gain."""
    shares: dict[str, float] = {}
    for name, share in ranker.importances().items():
        shares[name.rsplit(".", 1)[0]] = shares.get(name.rsplit(".", 1)[0], 0.0) + share
    return shares

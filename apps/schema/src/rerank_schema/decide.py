"""From scores to decisions: the probability that a pair is right, and which pairs to take.

The probability is a logistic function of a few quantities that mean the same in every table pair. The decision takes
at most one target a source column (the assignment of largest total probability) and cuts where the expected F1 is
largest: with calibrated probabilities p of the assigned pairs, best first, and an expected number of true pairs
N = sum p, taking the first k has an expected F1 of about ``2 sum_{i<=k} p_i / (k + N)`` (Lewis, SIGIR 1995). So "no
match" needs no threshold of the user's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rerank_schema.bipartite import assign
from rerank_schema.match import MATCH, NO, REVIEW
from rerank_schema.measures import valentine_one_to_one
from rerank_schema.scored import Scored
from rerank_schema.signals import SIGNALS

FEATURES = ("score", "similarity", "row_gap", "column_gap", "best_in_row", "best_in_column")
"""What means the same in every table pair: the packaged decision knows these alone."""
WITH_SIGNALS = (*FEATURES, *SIGNALS)
"""And the single similarities: for decisions fitted on table pairs like those at hand."""
REVIEW_FROM = 0.2


def pair_features(
    scored: Scored, tops: Sequence[Sequence[int]], names: Sequence[str] = FEATURES
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Describe candidate pairs for the decision.

    ``score`` is the matcher's; ``similarity`` the uncorrected mean; the gaps are the distances to the best other
    candidate of the source column and of the target column; the last two say whether the pair is the best of its
    source and of its target column. Other names are similarities of the evidence, 0 where a pair has none.

    Returns
    -------
    dict
        (source, target) -> shape (n_names,), for the pairs in ``tops``.
    """
    scores = np.where(np.isnan(scored.scores), -np.inf, scored.scores)
    if not scores.size:
        return {}
    rows = np.repeat(np.arange(len(tops)), [len(row) for row in tops])
    columns = np.array([t for row in tops for t in row], dtype=np.int64)
    values = scores[rows, columns]
    (row_best, row_next), (column_best, column_next) = _two_best(scores), _two_best(scores.T)
    known = {"score": values}
    for gap, best, second in (
        ("row", row_best[rows], row_next[rows]),
        ("column", column_best[columns], column_next[columns]),
    ):
        first = values >= best
        distance = values - np.where(first, second, best)
        known[f"{gap}_gap"] = np.clip(np.nan_to_num(distance, posinf=1.0), -1, 1)
        known[f"best_in_{gap}"] = first.astype(np.float64)
    pairs = list(zip(rows.tolist(), columns.tolist(), strict=True))
    if asked := [n for n in names if n not in known]:
        evidence = [scored.evidence(s, t) for s, t in pairs]
        for name in asked:
            absent = values.tolist() if name == "similarity" else [0.0] * len(pairs)
            known[name] = np.array([e.get(name, a) for e, a in zip(evidence, absent, strict=True)])
    return dict(zip(pairs, np.stack([known[n] for n in names], axis=1).astype(np.float64), strict=True))


def _two_best(scores: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    if scores.shape[1] == 1:
        return scores[:, 0], np.full(len(scores), -np.inf)
    top = -np.partition(-scores, 1, axis=1)[:, :2]
    return top[:, 0], top[:, 1]


@dataclass(frozen=True)
class Decider:
    """Logistic model of the probability that a pair is right.

    Parameters
    ----------
    weights
        Shape (n_features,), for standardised features.
    bias, centre, scale
        Intercept, and the features' means and deviations in training.
    features
        What it looks at, by name.
    """

    weights: tuple[float, ...]
    bias: float
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    features: tuple[str, ...] = FEATURES

    def probability(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return probabilities, shape (n,), of features of shape (n, n_features)."""
        z = (features - np.array(self.centre)) / np.array(self.scale)
        return 1 / (1 + np.exp(-np.clip(z @ np.array(self.weights) + self.bias, -30, 30)))

    @classmethod
    def fit(
        cls,
        features: NDArray[np.float64],
        right: NDArray[np.float64],
        penalty: float = 1.0,
        *,
        names: Sequence[str] = FEATURES,
        weights: NDArray[np.float64] | None = None,
    ) -> Decider:
        """Fit by penalised maximum likelihood.

        Parameters
        ----------
        features
            Shape (n, n_features).
        right
            Shape (n,), 0 or 1.
        names
            The features' names.
        weights
            Shape (n,), what every row counts; by default 1.
        """
        from scipy.optimize import minimize

        centre, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 1e-9, scale, 1.0)
        each = np.ones(len(features)) if weights is None else weights
        z = np.column_stack([(features - centre) / scale, np.ones(len(features))])

        def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            logit = z @ w
            ridge = np.append(w[:-1], 0.0) * penalty
            value = (each * (np.logaddexp(0, logit) - right * logit)).sum() + 0.5 * (ridge @ w)
            return float(value), z.T @ (each * (1 / (1 + np.exp(-np.clip(logit, -500, 500))) - right)) + ridge

        w = minimize(loss, np.zeros(z.shape[1]), jac=True, method="L-BFGS-B").x
        return cls(tuple(w[:-1].tolist()), float(w[-1]), tuple(centre.tolist()), tuple(scale.tolist()), tuple(names))

    def to_json(self) -> dict[str, object]:
        """Return the model as JSON values."""
        return {
            "features": list(self.features),
            "weights": list(self.weights),
            "bias": self.bias,
            "centre": list(self.centre),
            "scale": list(self.scale),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Decider:
        """Read what `to_json` gave."""
        numbers = {k: tuple(float(x) for x in value[k]) for k in ("weights", "centre", "scale")}  # type: ignore[attr-defined]
        names = tuple(str(n) for n in value["features"])  # type: ignore[attr-defined]
        return cls(numbers["weights"], float(value["bias"]), numbers["centre"], numbers["scale"], names)  # type: ignore[arg-type]


def packaged_decider() -> Decider:
    """Return the decider that ships with the package, fitted on pairs fabricated from tables of installed packages."""
    return Decider.from_json(json.loads(files("rerank_schema").joinpath("models/decider.json").read_text("utf-8")))


def read_decider(folder: Path) -> Decider:
    """Return the decider of a model folder."""
    from rerank_core.files import read_json

    return Decider.from_json(read_json(folder / "decider.json"))


@dataclass(frozen=True)
class Decision:
    """What is decided about one candidate pair."""

    probability: float | None
    decision: str


def decide(
    scored: Scored,
    tops: Sequence[Sequence[int]],
    decider: Decider,
    *,
    threshold: float | None = None,
    several: bool = False,
) -> dict[tuple[int, int], Decision]:
    """Decide candidate pairs.

    Parameters
    ----------
    threshold
        Smallest probability of a match; by default where the expected F1 is largest.
    several
        Let a source column have several targets (1-n) and several sources the same one.
    """
    features = pair_features(scored, tops, decider.features)
    if not features:
        return {}
    pairs = list(features)
    probabilities = decider.probability(np.stack([features[p] for p in pairs]))
    p_of = dict(zip(pairs, probabilities.tolist(), strict=True))
    chosen = pairs if several else [p for p in assign(p_of) if p in p_of]
    cut = _best_cut([p_of[p] for p in chosen]) if threshold is None else threshold
    taken = {p for p in chosen if p_of[p] >= cut}
    firsts = {(s, row[0]) for s, row in enumerate(tops) if row}
    out = {}
    for pair in pairs:
        worth_a_look = pair in firsts and p_of[pair] >= REVIEW_FROM
        decision = MATCH if pair in taken else REVIEW if worth_a_look else NO
        out[pair] = Decision(p_of[pair], decision)
    return out


def _best_cut(probabilities: Sequence[float]) -> float:
    p = np.sort(np.asarray(probabilities, dtype=np.float64))[::-1]
    if not len(p):
        return 1.0
    expected = 2 * np.cumsum(p) / (np.arange(1, len(p) + 1) + p.sum())
    return float(p[int(np.argmax(expected))])


def decide_as_valentine(scored: Scored, tops: Sequence[Sequence[int]]) -> dict[tuple[int, int], Decision]:
    """Decide by Valentine's one-to-one filter; there is no probability then."""
    scores = {(("", str(s)), ("", str(t))): float(scored.scores[s, t]) for s, row in enumerate(tops) for t in row}
    kept = {(int(s[1]), int(t[1])) for s, t in valentine_one_to_one(scores)}
    return {(s, t): Decision(None, MATCH if (s, t) in kept else NO) for s, row in enumerate(tops) for t in row}

"""Judging a choice of summaries: ROUGE of the chosen, human means, rank correlation, all with intervals and baselines.

Ties in a ranking's scores go to the lowest input index; ``ties="average"`` counts the mean over all candidates that
share the top score instead (identical texts often carry different human scores).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rerank_core.errors import InputError, UsageError
from rerank_core.measures import Row
from rerank_core.statistics import bootstrap, kendall_tau, paired_bootstrap
from rerank_core.types import FloatArray, Ranking
from rerank_summary.data import Record
from rerank_summary.rouge import MEASURES, Flavour, Rouge
from rerank_summary.text import sentence_lines

BASELINES = ("first", "random", "longest")


@dataclass(frozen=True)
class Figure:
    """A row of the evaluation with what names and qualifies it.

    Parameters
    ----------
    flavour
        The ROUGE flavour, for ROUGE figures.
    against
        System -> (difference, low, high, p) of the paired bootstrap against the baselines.
    """

    row: Row
    flavour: str | None = None
    against: Mapping[str, tuple[float, float, float, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the figure as ``eval --json`` prints it."""
        out = self.row.as_dict()
        if self.flavour is not None:
            out["flavour"] = self.flavour
        if self.against:
            out["against"] = {
                k: dict(zip(("difference", "ci_low", "ci_high", "p"), v, strict=True)) for k, v in self.against.items()
            }
        return out


def candidate_values(record: Record, rouge: Rouge, references: str = "first") -> dict[str, FloatArray]:
    """What each candidate of a document is worth, measure -> shape (n_candidates,).

    ROUGE F1 x 100 against the first reference (or the best of ``all``), sentences cut for rougeLsum; ``human_<dim>``
    and ``human_mean`` where there are human scores for every candidate.

    Raises
    ------
    UsageError
        When ``references`` is neither ``first`` nor ``all``.
    """
    if references not in ("first", "all"):
        raise UsageError(f"--references must be first or all, not {references!r}")
    out: dict[str, FloatArray] = {}
    texts = [sentence_lines(c.content) for c in record.request.candidates]
    if record.references:
        targets = record.references if references == "all" else record.references[:1]
        best = np.zeros((len(rouge.measures), len(texts)))
        for target in map(sentence_lines, targets):
            scores = rouge.score_batch([target] * len(texts), texts)
            best = np.maximum(best, [[100 * s[m].f for s in scores] for m in rouge.measures])
        out.update(zip(rouge.measures, best, strict=True))
    if record.human and len(record.human) == len(texts):
        rows = [record.human[i] for i in record.request.ids]
        for dimension in rows[0]:
            if all(dimension in r for r in rows):
                out[f"human_{dimension}"] = np.array([r[dimension] for r in rows])
        means = record.human_means()
        out["human_mean"] = np.array([means[i] for i in record.request.ids])
    return out


def top_weights(ranking: Ranking, record: Record, ties: str) -> FloatArray:
    """How much each candidate counts as the chosen one, shape (n_candidates,), sums to 1."""
    weights = np.zeros(len(record.request.candidates))
    index = {i: k for k, i in enumerate(record.request.ids)}
    top = ranking.items[0]
    chosen = [top.id]
    if ties == "average" and top.score is not None:
        chosen = [r.id for r in ranking.items if r.score == top.score]
    weights[[index[i] for i in chosen]] = 1 / len(chosen)
    return weights


def order_scores(ranking: Ranking, record: Record) -> FloatArray:
    """Scores in file order; ``-rank`` where the ranking gives none."""
    scores = ranking.scores_for(record.request)
    if np.isnan(scores).any():
        place = {i: k for k, i in enumerate(ranking.ids)}
        scores = np.array([-place[i] for i in record.request.ids], dtype=np.float64)
    return scores


def partial_tau(x: FloatArray, y: FloatArray, z: FloatArray) -> float:
    """Kendall's partial tau of x and y with z held fixed (Kendall 1942); NaN where it does not exist."""
    xy, xz, yz = kendall_tau(list(x), list(y)), kendall_tau(list(x), list(z)), kendall_tau(list(y), list(z))
    if math.isnan(xz) or math.isnan(yz):  # a constant length controls nothing
        return xy
    scale = math.sqrt(max(0.0, (1 - xz * xz) * (1 - yz * yz)))
    return (xy - xz * yz) / scale if scale > 1e-12 else math.nan


def check(ranking: Ranking, record: Record) -> None:
    """Refuse a ranking that is not of this document.

    Raises
    ------
    InputError
        When it is not a permutation of the document's candidates.
    """
    if set(ranking.ids) != set(record.request.ids):
        odd = sorted(set(ranking.ids) ^ set(record.request.ids))[0]
        raise InputError(
            f"the ranking of document {record.id!r} is not over the data's candidates (see candidate {odd!r}); "
            "was it made from this file?"
        )


@dataclass
class Table:
    """Values a document and system, filled record by record: measure -> system -> document id -> value."""

    values: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    lengths: dict[str, FloatArray] = field(default_factory=dict)
    humans: dict[str, FloatArray] = field(default_factory=dict)
    weights: dict[str, dict[str, FloatArray]] = field(default_factory=dict)

    def put(self, measure: str, system: str, document: str, value: float) -> None:
        """Keep one value."""
        self.values.setdefault(measure, {}).setdefault(system, {})[document] = value


def evaluate(
    records: Iterable[Record],
    systems: Mapping[str, Mapping[str, Ranking]],
    flavour: Flavour,
    *,
    references: str = "first",
    ties: str = "first",
    baselines: Sequence[str] = BASELINES,
    seed: int = 0,
    n_boot: int = 1000,
) -> list[Figure]:
    """Judge rankings of one or more systems over the same documents.

    Parameters
    ----------
    systems
        System name -> document id -> ranking. A document without a ranking counts 0.
    baselines
        Any of ``first``, ``random`` (the mean over candidates), ``longest``; ``oracle`` is always there.

    Returns
    -------
    list of Figure
        The systems first, then the baselines and the oracle (per measure the best candidate).

    Raises
    ------
    InputError
        No reference and no human score in the data, or a ranking of other candidates.
    UsageError
        An unknown tie rule.
    """
    if ties not in ("first", "average"):
        raise UsageError(f"--ties must be first or average, not {ties!r}")
    rouge, table = Rouge(flavour, MEASURES), Table()
    for record in records:
        values = candidate_values(record, rouge, references)
        if not values:
            raise InputError(
                f"document {record.id!r} has neither a reference nor human scores; evaluation needs one of them",
                None,
                record.line,
            )
        _add(table, record, values, systems, ties, baselines)
    _length_control(table)
    names = [*systems, *baselines, "oracle"]
    figures = []
    for measure, by_system in _ordered(table.values):
        for name in names:
            if name in by_system:
                figures.append(_figure(measure, name, by_system, flavour, seed, n_boot, baselines))
    rank = {name: k for k, name in enumerate(names)}
    return sorted(figures, key=lambda f: rank[f.row.system])


def _add(
    table: Table,
    record: Record,
    values: Mapping[str, FloatArray],
    systems: Mapping[str, Mapping[str, Ranking]],
    ties: str,
    baselines: Sequence[str],
) -> None:
    lengths = np.array([len(c.content.split()) for c in record.request.candidates], dtype=np.float64)
    size = len(lengths)
    weights: dict[str, FloatArray] = {}
    for name, rankings in systems.items():
        ranking = rankings.get(record.id)
        if ranking is None:
            weights[name] = np.zeros(size)
            continue
        check(ranking, record)
        weights[name] = top_weights(ranking, record, ties)
        scores = order_scores(ranking, record)
        for target, measure in (("human_mean", "kendall_tau"), ("rouge1", "kendall_tau_rouge1")):
            if target in values:
                table.put(measure, name, record.id, _or_zero(kendall_tau(list(scores), list(values[target]))))
        if "human_mean" in values:
            partial = partial_tau(scores, values["human_mean"], lengths)
            table.put("kendall_tau_length_controlled", name, record.id, _or_zero(partial))
    if "first" in baselines:
        weights["first"] = np.eye(size)[int(np.argmax(record.request.first_stage()))]
    if "random" in baselines:
        weights["random"] = np.full(size, 1 / size)
    if "longest" in baselines:
        weights["longest"] = np.eye(size)[int(lengths.argmax())]
    for measure, per_candidate in values.items():
        for name, w in weights.items():
            table.put(measure, name, record.id, float(w @ per_candidate))
        table.put(measure, "oracle", record.id, float(per_candidate.max()))
    for name, w in weights.items():
        table.put("words", name, record.id, float(w @ lengths))
    if "human_mean" in values:
        table.lengths[record.id], table.humans[record.id] = lengths, values["human_mean"]
        table.weights[record.id] = weights


def _length_control(table: Table) -> None:
    """Add the human mean with what length explains taken out.

    Human score and log length are centred in each document, one slope is fitted over all documents, and the chosen
    candidate's score is corrected by slope x (its log length - the document's mean).
    """
    if not table.humans:
        return
    centred = {d: np.log1p(x) - np.log1p(x).mean() for d, x in table.lengths.items()}
    x = np.concatenate(list(centred.values()))
    y = np.concatenate([h - h.mean() for h in table.humans.values()])
    slope = float(x @ y / (x @ x)) if x @ x > 0 else 0.0
    for document, weights in table.weights.items():
        corrected = table.humans[document] - slope * centred[document]
        for name, w in weights.items():
            table.put("human_mean_length_controlled", name, document, float(w @ corrected))


_ORDER = ("rouge1", "rouge2", "rougeL", "rougeLsum", "human_mean", "human_mean_length_controlled", "kendall_tau")


def _ordered(values: Mapping[str, dict[str, dict[str, float]]]) -> list[tuple[str, dict[str, dict[str, float]]]]:
    place = {m: k for k, m in enumerate(_ORDER)}
    return sorted(values.items(), key=lambda kv: (place.get(kv[0], len(place)), kv[0]))


def _figure(
    measure: str,
    name: str,
    by_system: Mapping[str, Mapping[str, float]],
    flavour: Flavour,
    seed: int,
    n_boot: int,
    baselines: Sequence[str],
) -> Figure:
    column = np.array(list(by_system[name].values())).reshape(-1, 1)
    low, high = bootstrap(column, lambda r: float(r.mean()), seed=seed, n_boot=n_boot)
    row = Row(name, measure, float(column.mean()), len(column), low, high)
    against = {}
    if name not in (*BASELINES, "oracle"):
        against = {
            b: paired_bootstrap(by_system[name], by_system[b], seed=seed, n_boot=max(n_boot, 1000))
            for b in baselines
            if b in by_system
        }
    return Figure(row, flavour.name if measure.startswith("rouge") else None, against)


def _or_zero(x: float) -> float:
    return 0.0 if math.isnan(x) else x


def noise_note(figures: Sequence[Figure]) -> str | None:
    """Say how large a ROUGE-1 difference must be here to be more than noise; None without ROUGE-1."""
    halves = [
        (low_high[2] - low_high[1]) / 2 for f in figures if f.row.measure == "rouge1" for low_high in f.against.values()
    ]
    n = max((f.row.n for f in figures), default=0)
    if not halves:
        return None
    return (
        f"With {n} documents a paired ROUGE-1 difference under about {max(halves):.1f} is within noise (95 % interval). "
        "Which reranker is best depends on the target: one that wins on ROUGE may lose on human scores."
    )

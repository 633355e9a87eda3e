"""Measures: objects that parse from text (``nDCG@10``), compare, print and evaluate, in every domain alike.

A measure turns (gold, rankings) into *rows*, one a request, and rows into a value. For most measures a row is one
number and the value is the mean; ratios (gain recovered) and curves (area under a precision-coverage curve) keep
several numbers a row, so that the bootstrap can resample requests whatever the measure.

Classical measures come from ir-measures and trec_eval themselves; what they cannot do (real-valued gains, the gain
measures every domain shares) is here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from rerank_core.errors import UsageError
from rerank_core.io import Run, ranking_of, run_of
from rerank_core.statistics import bootstrap
from rerank_core.types import FloatArray, Gold, Ranking, Request

Rows: TypeAlias = dict[str, tuple[float, ...]]
Requests: TypeAlias = Mapping[str, Request[Any, Any]]
Missing: TypeAlias = Literal["zero", "skip"]


@runtime_checkable
class Measure(Protocol):
    """Something a ranking is judged by.

    ``rows`` gives request id -> tuple of numbers, for the requests it can judge. ``aggregate`` turns the rows, shape
    (n_requests, width), into the measure's value.
    """

    @property
    def name(self) -> str: ...

    def rows(self, gold: Gold, rankings: Mapping[str, Ranking], requests: Requests) -> Rows: ...

    def aggregate(self, rows: FloatArray) -> float: ...


def mean(rows: FloatArray) -> float:
    """Return the mean of one-column rows; NaN where there are none."""
    return float(rows[:, 0].mean()) if len(rows) else math.nan


@dataclass(frozen=True)
class PerRequest:
    """A measure out of a function of one request; the value is the mean.

    Parameters
    ----------
    function
        ``function(gains, ranking, request) -> float``; ``gains`` maps candidate ids to gains, ``request`` is None
        where only rankings are at hand. NaN says that the request cannot be judged; it is then left out.
    """

    name: str
    function: Callable[[Mapping[str, float], Ranking, Request[Any, Any] | None], float]

    def rows(self, gold: Gold, rankings: Mapping[str, Ranking], requests: Requests) -> Rows:
        """Apply the function to every request that has gold and a ranking."""
        out: Rows = {}
        for i, gains in gold.items():
            if i in rankings:
                value = float(self.function(gains, rankings[i], requests.get(i)))
                if not math.isnan(value):
                    out[i] = (value,)
        return out

    def aggregate(self, rows: FloatArray) -> float:
        """Return the mean."""
        return mean(rows)

    def __str__(self) -> str:
        return self.name


def _gain_at_1(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
    return gains.get(ranking.items[0].id, 0.0) if ranking.items else 0.0


def Top1Gain() -> PerRequest:  # noqa: N802 - reads as the measure it makes
    """Gain of the candidate on top (``Gain@1``)."""
    return PerRequest("Gain@1", _gain_at_1)


def Oracle(k: int | None = None) -> PerRequest:  # noqa: N802
    """Best gain among the first ``k`` candidates of the first stage: what a perfect reranker would put on top."""

    def best(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
        ids = (request.ids if request is not None else ranking.ids)[:k]
        return max((gains.get(i, 0.0) for i in ids), default=0.0)

    return PerRequest("Oracle" if k is None else f"Oracle@{k}", best)


@dataclass(frozen=True)
class GainRecovered:
    """Share of the possible improvement of the top place that a method realises.

    (method - first stage) / (oracle - first stage), each the mean gain of the candidate on top. 1 is perfect, 0 is
    the first stage, below 0 does harm. NaN where the first stage is perfect already. Needs the requests.
    """

    name: str = "GainRecovered"

    def rows(self, gold: Gold, rankings: Mapping[str, Ranking], requests: Requests) -> Rows:
        """Return (method's, first stage's, best gain) a request."""
        out: Rows = {}
        for i, gains in gold.items():
            request = requests.get(i)
            if request is None or i not in rankings or not request.candidates:
                continue
            first = int(np.lexsort((np.arange(len(request.candidates)), -request.first_stage()))[0])
            out[i] = (
                _gain_at_1(gains, rankings[i], request),
                gains.get(request.candidates[first].id, 0.0),
                max(gains.get(c, 0.0) for c in request.ids),
            )
        return out

    def aggregate(self, rows: FloatArray) -> float:
        """Return the ratio of the sums."""
        if not len(rows):
            return math.nan
        method, first, oracle = rows.sum(axis=0)
        return float((method - first) / (oracle - first)) if oracle > first else math.nan

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class IrMeasure:
    """A measure of ir-measures, for example ``nDCG@10``, ``AP(rel=2)@100``, ``RR``, ``R@20``.

    ``name`` is printed as the caller wrote it, ``spec`` is what ir-measures parses. Real-valued gains are handled
    for nDCG, whose formula needs no whole grades; other measures count a gain >= ``rel`` as relevant.
    """

    name: str
    spec: str

    def rows(self, gold: Gold, rankings: Mapping[str, Ranking], requests: Requests) -> Rows:
        """Judge rankings; their order counts, whatever their scores."""
        return self.rows_of_run(gold, run_of(rankings.values()))

    def rows_of_run(self, gold: Gold, run: Run) -> Rows:
        """Judge a run by its scores, ties as the evaluators behind ir-measures break them."""
        import ir_measures

        measure = ir_measures.parse_measure(self.spec)
        if not _whole(gold):
            if measure.NAME == "nDCG":
                return _real_ndcg(gold, run, measure["cutoff"] if "cutoff" in measure.params else None)
            level = measure["rel"] if "rel" in measure.SUPPORTED_PARAMS and "rel" in measure.params else 1
            gold = {q: {d: int(g >= level) for d, g in docs.items()} for q, docs in gold.items()}
            measure = ir_measures.parse_measure(re.sub(r"rel=\d+", "rel=1", self.spec))
        qrels = {q: {d: int(g) for d, g in docs.items()} for q, docs in gold.items()}
        run = {q: docs for q, docs in run.items() if docs}
        rows: Rows = dict.fromkeys(gold, (0.0,))
        if run:
            rows.update((x.query_id, (float(x.value),)) for x in ir_measures.iter_calc([measure], qrels, run))
        return rows

    def aggregate(self, rows: FloatArray) -> float:
        """Return the mean."""
        return mean(rows)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TrecMeasure:
    """A measure by its trec_eval name (``map``, ``recip_rank``, ``ndcg_cut_10``, ``P_5``), from trec_eval itself."""

    name: str
    level: int = 1

    def rows(self, gold: Gold, rankings: Mapping[str, Ranking], requests: Requests) -> Rows:
        """Judge rankings; their order counts."""
        return self.rows_of_run(gold, run_of(rankings.values()))

    def rows_of_run(self, gold: Gold, run: Run) -> Rows:
        """Judge a run by its scores; ties by document id falling."""
        import pytrec_eval

        if not _whole(gold):
            raise UsageError(f"{self.name} needs whole grades; use nDCG@k or Gain@1 for real-valued gains")
        family = re.sub(r"_(\d+)$", r".\1", self.name) if self.name.split("_")[0] in _CUTS else self.name
        qrels = {q: {d: int(g) for d, g in docs.items()} for q, docs in gold.items()}
        evaluator = pytrec_eval.RelevanceEvaluator(qrels, {family}, relevance_level=self.level)
        rows: Rows = dict.fromkeys(gold, (0.0,))
        judged = evaluator.evaluate({q: docs for q, docs in run.items() if docs})
        rows.update((q, (values[self.name],)) for q, values in judged.items())
        return rows

    def aggregate(self, rows: FloatArray) -> float:
        """Return the mean."""
        return mean(rows)

    def __str__(self) -> str:
        return self.name


_CUTS = {"P", "recall", "ndcg", "map", "success"}
_ALIASES = {
    "map": "AP",
    "ap": "AP",
    "mrr": "RR",
    "rr": "RR",
    "recall": "R",
    "r": "R",
    "ndcg": "nDCG",
    "precision": "P",
    "p": "P",
    "hit": "Success",
    "hits": "Success",
    "success": "Success",
}
_BINARY = {"AP", "RR", "R", "P", "Success", "Rprec", "SetP", "SetR", "SetF", "Bpref", "infAP"}


def parse(text: str, *, level: int | None = None) -> Measure:
    """Make a measure from its name.

    ``nDCG@10``, ``MAP@100``, ``MRR@10``, ``Recall@20``, ``P@5``, ``Hits@3``, anything ir-measures parses
    (``RR(rel=2)@10``), trec_eval's own names (``ndcg_cut_10``), and the gain measures ``Gain@1``, ``Oracle``,
    ``Oracle@20``, ``GainRecovered``.

    Parameters
    ----------
    level
        Lowest grade that counts as relevant, for measures that know relevant and not only; graded ones ignore it.

    Raises
    ------
    UsageError
        When no such measure is known.
    """
    text = text.strip()
    lower = text.lower()
    if lower in ("gain@1", "top1gain"):
        return Top1Gain()
    if lower == "gainrecovered":
        return GainRecovered()
    if match := re.fullmatch(r"oracle(?:@(\d+))?", lower):
        return Oracle(int(match[1]) if match[1] else None)
    if match := re.fullmatch(r"([A-Za-z]+)(\([^)]*\))?(@\d+)?", text):
        family = _ALIASES.get(match[1].lower(), match[1])
        arguments = match[2] or ""
        if level is not None and family in _BINARY and "rel" not in arguments:
            arguments = f"(rel={level})"
        if measure := _ir(text, f"{family}{arguments}{match[3] or ''}"):
            return measure
    if _trec_knows(text):
        return TrecMeasure(text, level or 1)
    raise UsageError(
        f"unknown measure {text!r}; examples: nDCG@10, MAP@100, MRR@10, Recall@20, P@5, Hits@3, Gain@1, Oracle, "
        "GainRecovered, ndcg_cut_10"
    )


def _ir(name: str, spec: str) -> IrMeasure | None:
    import ir_measures

    try:
        measure = ir_measures.parse_measure(spec)
    except (ValueError, NameError, KeyError, SyntaxError):
        return None
    return IrMeasure(name, spec) if ir_measures.DefaultPipeline.supports(measure) else None


def _trec_knows(name: str) -> bool:
    import pytrec_eval

    head, _, cut = name.rpartition("_")
    return name in pytrec_eval.supported_measures or (cut.isdigit() and head in pytrec_eval.supported_measures)


def _whole(gold: Gold) -> bool:
    return all(float(g).is_integer() for docs in gold.values() for g in docs.values())


def _real_ndcg(gold: Gold, run: Run, cutoff: int | None) -> Rows:
    """nDCG with linear gain log2 discount (trec_eval's formula) for real-valued gains; negative gains count as 0."""
    out: Rows = {}
    for q, gains in gold.items():
        order = ranking_of(q, run.get(q, {})).ids
        got = dcg([max(0.0, gains.get(d, 0.0)) for d in order[:cutoff]])
        best = dcg(sorted((g for g in gains.values() if g > 0), reverse=True)[:cutoff])
        out[q] = (got / best if best > 0 else 0.0,)
    return out


def dcg(gains: Sequence[float]) -> float:
    """Return the discounted cumulative gain, sum of gain / log2(rank + 1)."""
    g = np.asarray(gains, dtype=np.float64)
    return float((g / np.log2(np.arange(2, len(g) + 2))).sum())


@dataclass(frozen=True)
class Row:
    """One figure: a system's value of a measure over n requests, with its 95 % bootstrap interval."""

    system: str
    measure: str
    value: float
    n: int
    ci_low: float
    ci_high: float

    def as_dict(self) -> dict[str, Any]:
        """Return the row as ``eval --json`` prints it; a value that does not exist is null."""
        return {
            "system": self.system,
            "measure": self.measure,
            "value": _json_number(self.value),
            "n": self.n,
            "ci_low": _json_number(self.ci_low),
            "ci_high": _json_number(self.ci_high),
        }


def _json_number(x: float) -> float | None:
    return float(x) if math.isfinite(x) else None


def settle(rows: Rows, gold: Gold, present: Iterable[str], missing: Missing) -> Rows:
    """Apply the policy for requests with gold but no ranking.

    ``zero`` (as ``trec_eval -c``): they count, as zeros of the rows' width. ``skip`` (as plain ``trec_eval``): they
    are left out.
    """
    have = set(present)
    if missing == "skip":
        return {q: r for q, r in rows.items() if q in have}
    width = len(next(iter(rows.values()))) if rows else 1
    return {**rows, **{q: (0.0,) * width for q in gold if q not in have}}


def summarise(measure: Measure, rows: Rows, *, system: str, seed: int = 0, n_boot: int = 1000) -> Row:
    """Aggregate rows and put the bootstrap interval beside the value."""
    matrix = np.array([rows[q] for q in sorted(rows)], dtype=np.float64).reshape(len(rows), -1)
    low, high = bootstrap(matrix, measure.aggregate, seed=seed, n_boot=n_boot)
    return Row(system, str(measure.name), measure.aggregate(matrix) if len(rows) else math.nan, len(rows), low, high)


def evaluate(
    measures: Sequence[Measure],
    gold: Gold,
    rankings: Iterable[Ranking],
    requests: Iterable[Request[Any, Any]] = (),
    *,
    system: str,
    seed: int = 0,
    n_boot: int = 1000,
    missing: Missing = "zero",
) -> list[Row]:
    """Judge one system's rankings.

    Parameters
    ----------
    requests
        Needed by measures that look at the first stage (Oracle, GainRecovered) or at contents.
    missing
        What a request with gold and without ranking counts: ``zero`` or ``skip``.
    """
    by_id = {r.id: r for r in rankings}
    asked = {r.id: r for r in requests}
    out = []
    for measure in measures:
        rows = settle(measure.rows(gold, by_id, asked), gold, by_id, missing)
        out.append(summarise(measure, rows, system=system, seed=seed, n_boot=n_boot))
    return out


def evaluate_run(
    measures: Sequence[Measure],
    gold: Gold,
    run: Run,
    *,
    system: str,
    seed: int = 0,
    n_boot: int = 1000,
    missing: Missing = "zero",
) -> list[Row]:
    """Judge a TREC run by its scores, exactly as trec_eval and ir-measures do."""
    out = []
    for measure in measures:
        rows = settle(rows_of_run(measure, gold, run), gold, run, missing)
        out.append(summarise(measure, rows, system=system, seed=seed, n_boot=n_boot))
    return out


def rows_of_run(measure: Measure, gold: Gold, run: Run) -> Rows:
    """Return the rows of one measure for a TREC run."""
    if isinstance(measure, (IrMeasure, TrecMeasure)):
        return measure.rows_of_run(gold, run)
    return measure.rows(gold, {q: ranking_of(q, docs) for q, docs in run.items()}, {})


def renamed(row: Row, system: str) -> Row:
    """Return the row under another system name."""
    return replace(row, system=system)


COMMON: tuple[Measure, ...] = (
    Top1Gain(),
    IrMeasure("MRR@10", "RR@10"),
    IrMeasure("nDCG@10", "nDCG@10"),
    Oracle(),
    GainRecovered(),
)
"""The measures that exist in every domain."""

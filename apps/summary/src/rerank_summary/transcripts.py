"""Files of recorded judge replies and of human labels, and the report over them.

Replies (FastChat's form and ours), one a line::

    {"judge": "gpt-4", "question_id": 1, "model_1": "a", "model_2": "b", "review": "9 8\\n..."}

Rows that show the same pair of the same question in the other order, or again, belong together: that is what MEC and
BPC calibrate over. PandaLM's form has the pair, three annotators and judges' choices in one row: ``annotator1 ...``
and ``<judge>_result``. Human labels are rows ``{"question_id", "human_<a>_vs_<b>": "win"|"tie"|"lose"}``, or
``{"question_id", "model_1", "model_2", "human": ...}``, from the first model's side.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.io import atomic_write, read_jsonl
from rerank_core.measures import Row
from rerank_core.statistics import bootstrap
from rerank_summary.faireval import (
    OUTCOMES,
    Agreement,
    Calibrated,
    PositionBias,
    agreement,
    calibrate,
    flip,
    majority,
    most_doubtful,
    position_bias,
    with_humans,
)
from rerank_summary.verdicts import Verdict, parse_choice, parse_scores

Key = tuple[str, str, str]
"""Question id, then the two models in the order in which they were first seen."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One recorded reply. ``identical`` says that both sides show one model's answer."""

    judge: str
    question: str
    first: str
    second: str
    verdict: Verdict
    strict: Verdict


@dataclass(frozen=True, slots=True)
class Choice:
    """One recorded choice with its human majority (None where there is none)."""

    judge: str
    item: str
    outcome: str | None
    human: str | None


def read_transcripts(path: str | Path) -> tuple[list[Reply], list[Choice]]:
    """Read recorded replies; either list may be empty, never both.

    Raises
    ------
    InputError
        With file and line, when a row is neither a reply nor a choice.
    """
    replies: list[Reply] = []
    choices: list[Choice] = []
    for line, row in read_jsonl(path):
        if "review" in row:
            replies.append(_reply(row, path, line))
        elif any(k.endswith("_result") for k in row):
            choices += _choices(row, line)
        else:
            raise InputError("neither a 'review' nor a '<judge>_result' field in this row", path, line)
    if not replies and not choices:
        raise InputError("holds no recorded replies", path)
    return replies, choices


def _reply(row: Mapping[str, Any], path: str | Path, line: int) -> Reply:
    try:
        text = row["review"]
        if not isinstance(text, str):
            raise InputError(f"'review' must be text, not {type(text).__name__}", path, line)
        return Reply(
            str(row.get("judge", "judge")),
            str(row["question_id"]),
            str(row["model_1"]),
            str(row["model_2"]),
            parse_scores(text),
            parse_scores(text, strict=True),
        )
    except KeyError as error:
        raise InputError(f"field {error.args[0]!r} is missing", path, line) from None


def _choices(row: Mapping[str, Any], line: int) -> list[Choice]:
    labels = [c for k, v in row.items() if re.fullmatch(r"annotator\d+", k) and (c := parse_choice(v)) is not None]
    human = majority(labels)
    item = str(row.get("idx", row.get("id", line)))
    return [
        Choice(k.removesuffix("_result"), item, parse_choice(v), human) for k, v in row.items() if k.endswith("_result")
    ]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_human(path: str | Path) -> dict[Key, str]:
    """Read human labels: (question, first model, second model; names plain) -> outcome of the first.

    Raises
    ------
    InputError
        With file and line for a label that is none of win, tie, lose, and when there are no labels at all.
    """
    out: dict[Key, str] = {}
    for line, row in read_jsonl(path):
        question = str(row.get("question_id", row.get("id", "")))
        for field, value in row.items():
            if match := re.fullmatch(r"human_(.+)_vs_(.+)", field):
                pair = (match[1], match[2])
            elif field == "human" and "model_1" in row and "model_2" in row:
                pair = (str(row["model_1"]), str(row["model_2"]))
            else:
                continue
            label = str(value).strip().lower()
            if label not in OUTCOMES:
                raise InputError(f"human label {value!r} is none of win, tie, lose", path, line)
            out[(question, _plain(pair[0]), _plain(pair[1]))] = label
    if not out:
        raise InputError("holds no human labels (fields 'human_<a>_vs_<b>', or 'human' with model_1 and model_2)", path)
    return out


def human_label(human: Mapping[Key, str], question: str, first: str, second: str) -> str | None:
    """The human outcome of ``first``, whichever way round the file has the pair."""
    a, b = _plain(first), _plain(second)
    if (question, a, b) in human:
        return human[(question, a, b)]
    return flip(human.get((question, b, a)))


@dataclass(frozen=True)
class JudgeReport:
    """Everything about one judge on one pair of models.

    Parameters
    ----------
    forms
        How replies were read: form -> count; ``abstained`` among them.
    agreement
        Name of the reading -> agreement with people: ``first-line`` (other replies count as ties), ``tolerant``,
        ``calibrated`` and ``human-in-the-loop`` where there are several samples a pair.
    correct
        The same readings -> 1 or 0 a judged pair, for intervals.
    pairs
        Question -> calibrated verdict.
    """

    judge: str
    first: str
    second: str
    n: int
    forms: Mapping[str, int]
    abstentions: Mapping[str, str]
    bias: PositionBias
    agreement: Mapping[str, Agreement]
    correct: Mapping[str, Sequence[float]]
    pairs: Mapping[str, Calibrated]
    conflict_rate: float | None

    @property
    def name(self) -> str:
        """Judge and pair."""
        return f"{self.judge}: {self.first} vs {self.second}" if self.first else self.judge


def judge_reports(
    replies: Sequence[Reply], human: Mapping[Key, str] | None = None, *, share: float = 0.2
) -> list[JudgeReport]:
    """Group replies by judge and pair of models, calibrate, and compare with people where labels exist."""
    groups: dict[tuple[str, frozenset[str]], list[Reply]] = {}
    for r in replies:
        groups.setdefault((r.judge, frozenset((r.first, r.second))), []).append(r)
    return [_judge_report(judge, rows, human or {}, share) for (judge, _), rows in groups.items()]


def _judge_report(judge: str, rows: Sequence[Reply], human: Mapping[Key, str], share: float) -> JudgeReport:
    first, second = rows[0].first, rows[0].second
    same = first == second
    forms: dict[str, int] = {}
    for r in rows:
        forms[r.verdict.how] = forms.get(r.verdict.how, 0) + 1
    by_question: dict[str, list[Reply]] = {}
    for r in rows:
        by_question.setdefault(r.question, []).append(r)
    pairs = {
        q: calibrate(
            [r.verdict.scores for r in rs if r.first == first],
            [r.verdict.scores for r in rs if r.first != first],
        )
        for q, rs in by_question.items()
    }
    conflicts = [c.conflict for c in pairs.values() if c.conflict is not None]
    agreements, correct = _against_people(by_question, pairs, human, first, second, share)
    return JudgeReport(
        judge,
        first,
        second,
        len(rows),
        forms,
        {f"question {r.question}": r.verdict.reason for r in rows if r.verdict.scores is None},
        position_bias([r.strict.outcome for r in rows], identical=same),
        agreements,
        correct,
        pairs,
        float(np.mean(conflicts)) if conflicts else None,
    )


def _against_people(
    by_question: Mapping[str, Sequence[Reply]],
    pairs: Mapping[str, Calibrated],
    human: Mapping[Key, str],
    first: str,
    second: str,
    share: float,
) -> tuple[dict[str, Agreement], dict[str, list[float]]]:
    labels = {q: h for q in by_question if (h := human_label(human, q, first, second)) is not None}
    if not labels or first == second:
        return {}, {}
    questions = list(labels)
    truth = [labels[q] for q in questions]

    def single(q: str, strict: bool) -> str | None:
        r = next((r for r in by_question[q] if r.first == first), None)
        if r is None:
            r = by_question[q][0]
            return flip((r.strict if strict else r.verdict).outcome)
        return (r.strict if strict else r.verdict).outcome

    readings: dict[str, tuple[list[str | None], str]] = {
        "first-line": ([single(q, True) for q in questions], "tie"),
        "tolerant": ([single(q, False) for q in questions], "tie"),
    }
    if any(len(rs) > 1 for rs in by_question.values()):
        readings["calibrated"] = ([pairs[q].verdict for q in questions], "tie")
        helped = with_humans(
            {q: pairs[q].verdict for q in questions}, {q: pairs[q].bpde for q in questions}, labels, share
        )
        readings["human-in-the-loop"] = ([helped[q] for q in questions], "tie")
    agreements = {k: agreement(v, truth, abstention=a) for k, (v, a) in readings.items()}
    correct = {k: [float((x or "tie") == t) for x, t in zip(v, truth, strict=True)] for k, (v, _) in readings.items()}
    return agreements, correct


def choice_reports(choices: Sequence[Choice]) -> list[JudgeReport]:
    """Judges that chose without scores (PandaLM's form), against the human majority; an unreadable choice is wrong."""
    groups: dict[str, list[Choice]] = {}
    for c in choices:
        groups.setdefault(c.judge, []).append(c)
    reports = []
    for judge, rows in groups.items():
        judged = [c for c in rows if c.human is not None]
        found = [c.outcome for c in judged]
        truth = [c.human for c in judged if c.human is not None]
        unread = sum(c.outcome is None for c in rows)
        reports.append(
            JudgeReport(
                judge, "", "", len(rows),
                {"choice": len(rows) - unread, **({"abstained": unread} if unread else {})},
                {f"item {c.item}": "no choice was found" for c in rows if c.outcome is None},
                position_bias([c.outcome for c in rows]),
                {"majority": agreement(found, truth)} if truth else {},
                {"majority": [float(a == b) for a, b in zip(found, truth, strict=True)]} if truth else {},
                {}, None,
            )
        )  # fmt: skip
    return reports


def rows_of(reports: Iterable[JudgeReport], *, seed: int = 0, n_boot: int = 1000) -> list[dict[str, Any]]:
    """The reports as rows ``{"system", "measure", "value", "n", "ci_low", "ci_high"}`` and what belongs to them."""
    out: list[dict[str, Any]] = []
    for r in reports:
        for reading, a in r.agreement.items():
            column = np.array(r.correct[reading]).reshape(-1, 1)
            low, high = bootstrap(column, lambda x: float(x.mean()), seed=seed, n_boot=n_boot)
            row = Row(r.name, "accuracy", a.accuracy, a.n, low, high).as_dict()
            out.append({**row, "reading": reading, "kappa": a.kappa, "macro_f1": a.macro_f1, "abstained": a.abstained})
        b = r.bias
        decided = b.first + b.second
        bias = Row(r.name, "first_position_share", b.first / decided if decided else float("nan"), decided, *_wilson(b))
        out.append(
            {**bias.as_dict(), "first": b.first, "ties": b.ties, "second": b.second, "p": b.p, "finding": b.sentence}
        )
        if r.conflict_rate is not None:
            flags = np.array([[float(c.conflict)] for c in r.pairs.values() if c.conflict is not None])
            low, high = bootstrap(flags, lambda x: float(x.mean()), seed=seed, n_boot=n_boot)
            out.append(Row(r.name, "conflict_rate", r.conflict_rate, len(flags), low, high).as_dict())
        read = Row(r.name, "read", 1 - r.forms.get("abstained", 0) / r.n, r.n, *_share_interval(r))
        out.append({**read.as_dict(), "forms": dict(r.forms), "abstentions": dict(r.abstentions)})
    return out


def _wilson(b: PositionBias) -> tuple[float, float]:
    from scipy.stats import binomtest

    n = b.first + b.second
    if not n:
        return float("nan"), float("nan")
    ci = binomtest(b.first, n).proportion_ci(method="wilson")
    return float(ci.low), float(ci.high)


def _share_interval(r: JudgeReport) -> tuple[float, float]:
    from scipy.stats import binomtest

    ci = binomtest(r.n - r.forms.get("abstained", 0), r.n).proportion_ci(method="wilson")
    return float(ci.low), float(ci.high)


def write_doubtful(path: str | Path, reports: Sequence[JudgeReport], share: float = 0.2) -> int:
    """Write the most doubtful pairs for people to label, one JSON line each; returns how many."""
    count = 0
    with atomic_write(path) as file:
        for r in reports:
            for q in most_doubtful({q: c.bpde for q, c in r.pairs.items()}, share):
                c = r.pairs[q]
                row = {
                    "question_id": q,
                    "model_1": r.first,
                    "model_2": r.second,
                    "judge": r.judge,
                    "bpde": c.bpde,
                    "scores": list(c.scores) if c.verdict is not None else None,
                    "verdict": c.verdict,
                    "human": None,
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    return count

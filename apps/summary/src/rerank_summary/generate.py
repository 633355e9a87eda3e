"""The work behind ``rerank-summary generate``: candidates for documents, and what they are like."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError, UsageError
from rerank_core.io import read_jsonl
from rerank_core.types import Candidate, Request
from rerank_summary.data import Record, write_records
from rerank_summary.diversity import diversity, plan_report, quality_curve
from rerank_summary.edu import ClauseSegmenter, units_of
from rerank_summary.plans import oracle_plan, salient_plans
from rerank_summary.rouge import Rouge, flavour
from rerank_summary.text import sentences


def generate_file(
    path: Path,
    out: Path,
    *,
    beams: int = 16,
    shortest: int = 1,
    longest: int = 4,
    units: str = "clauses",
    model: str | None = None,
    oracle: bool = False,
) -> dict[str, Any]:
    """Make candidates for every document of a file and write them as a candidate file.

    Parameters
    ----------
    model
        A seq2seq model for diverse beams; None makes extracts by plan.
    oracle
        Plans from the reference: a ceiling, never a system.

    Returns
    -------
    The report: adherence, diversity and, with references, the candidates' ROUGE-1 curve.

    Raises
    ------
    UsageError
        For an unknown kind of unit.
    InputError
        For a document without text, or without reference where one is needed.
    """
    if units not in ("clauses", "sentences"):
        raise UsageError(f"--units must be clauses or sentences, not {units!r}")
    segmenter = ClauseSegmenter() if units == "clauses" else None
    generator = _generator(model, beams) if model else None
    records, sources, plans_of, texts_of = [], [], [], []
    for line, value in read_jsonl(path):
        identity, source, reference = _document(value, path, line)
        if oracle and not reference:
            raise InputError("oracle plans need a reference", path, line)
        plans: list[tuple[int, ...]] = []
        cut = units_of(source, segmenter)
        if generator is not None:
            texts = generator(source)
        else:
            if oracle:
                plans = [oracle_plan(cut.texts, sentences(reference), official=False)[0]]
            else:
                plans = salient_plans(cut, beams=beams, shortest=shortest, longest=longest)
            texts = [cut.realise(p) for p in plans]
        if not any(texts):
            raise InputError(f"no candidate could be made of document {identity!r}", path, line)
        request = Request(identity, source, tuple(Candidate(f"plan-{i}", t) for i, t in enumerate(texts)))
        records.append(Record(request, (reference,) if reference else ()))
        sources.append(cut.texts)
        plans_of.append(plans)
        texts_of.append(texts)
    if not records:
        raise InputError("holds no documents", path)
    write_records(out, records)
    report: dict[str, Any] = {"documents": len(records), "candidates": sum(len(t) for t in texts_of)}
    if generator is None:
        report |= plan_report(sources, plans_of, texts_of)
    else:
        report["diversity"] = float(np.mean([diversity(t) for t in texts_of]))
    return report | _quality(records)


def _document(value: dict[str, Any], path: Path, line: int) -> tuple[str, str, str]:
    source = value.get("source", value.get("article", value.get("query")))
    if not isinstance(source, str) or not source.strip():
        raise InputError("'source' must be text that is not empty", path, line)
    reference = value.get("reference") or next(iter(value.get("references") or []), "")
    if not isinstance(reference, str):
        raise InputError("'reference' must be text", path, line)
    return str(value.get("id", value.get("doc_id", line - 1))), source, reference


def _generator(model: str, beams: int) -> Any:
    from rerank_summary.beam import BeamParams
    from rerank_summary.beam import generate as diverse
    from rerank_summary.likelihood import Seq2Seq

    scorer = Seq2Seq.load(model)
    limit = min(142, scorer.max_candidate)
    params = BeamParams(beams=beams, groups=beams, min_length=min(56, limit // 2), max_length=limit)
    return lambda source: diverse(scorer, source, params)


def _quality(records: list[Record]) -> dict[str, Any]:
    rouge = Rouge(flavour(), ("rouge1",))
    table = []
    for r in records:
        if r.references:
            texts = [c.content for c in r.request.candidates]
            table.append([100 * s["rouge1"].f for s in rouge.score_batch([r.references[0]] * len(texts), texts)])
    if not table:
        return {}
    curve = quality_curve(table)
    return {f"rouge1_{k}": v for k, v in curve.items() if isinstance(v, float) and not math.isnan(v)}

"""Other people's candidate files, read into documents, and one-best text for existing ROUGE scripts.

``jsonl`` canonical (also core requests) · ``lines`` BRIO raw: one source and reference a line, K lines of candidates
each · ``brio`` BRIO/SimCLS preprocessed: a folder of one JSON a sample · ``edu`` edu-sum CSV, candidates joined by
``<cand>`` · ``trec`` a TREC run as candidate order beside a canonical file.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError, UsageError
from rerank_core.io import atomic_write, open_text, read_json, read_lines, read_run
from rerank_core.types import Candidate, Ranking, Request
from rerank_summary.data import Record, read_records

FORMATS = ("jsonl", "lines", "brio", "edu")


def read(path: str | Path, fmt: str = "auto", *, labels: bool = True, **options: Any) -> Iterator[Record]:
    """Read a candidate file of any known format.

    Parameters
    ----------
    fmt
        One of ``jsonl``, ``lines``, ``brio``, ``edu``, or ``auto``: a folder is ``brio``, ``.csv`` is ``edu``,
        ``.json`` one BRIO sample, ``.out`` is ``lines``, anything else ``jsonl``.

    Raises
    ------
    UsageError
        An unknown format.
    InputError
        What the format's reader finds wrong.
    """
    p = Path(path)
    name = p.name.removesuffix(".gz")
    if fmt == "auto":
        fmt = (
            "brio" if p.is_dir() or name.endswith(".json")
            else "edu" if name.endswith(".csv")
            else "lines" if name.endswith((".out", ".out.tokenized"))
            else "jsonl"
        )  # fmt: skip
    if fmt == "jsonl":
        return read_records(p, labels=labels)
    if fmt == "brio":
        return read_brio(p, labels=labels)
    if fmt == "edu":
        return read_edu(p, labels=labels, **options)
    if fmt == "lines":
        suffix = ".tokenized" if name.endswith(".tokenized") else ""
        stem = name.removesuffix(".tokenized").removesuffix(".out")
        return read_line_files(
            p, p.with_name(f"{stem}.source{suffix}"), p.with_name(f"{stem}.target{suffix}"), labels=labels, **options
        )
    raise UsageError(f"unknown format {fmt!r}; known: auto, {', '.join(FORMATS)}")


def read_line_files(
    candidates: str | Path,
    source: str | Path,
    reference: str | Path | None = None,
    *,
    per_document: int | None = None,
    labels: bool = True,
) -> Iterator[Record]:
    """Read BRIO's raw files: ``.out`` has K consecutive lines for each line of ``.source`` and ``.target``.

    Parameters
    ----------
    per_document
        K; by default what the numbers of lines give.
    """
    sources = [t for _, t in read_lines(source)]
    texts = [t for _, t in read_lines(candidates)]
    targets = None
    if reference is not None and labels and Path(reference).exists():
        targets = [t for _, t in read_lines(reference)]
        if len(targets) != len(sources):
            raise InputError(f"{len(targets)} references for {len(sources)} sources", reference)
    k = per_document or (len(texts) // len(sources) if sources else 0)
    if not k or len(texts) != k * len(sources):
        raise InputError(
            f"{len(texts)} candidate lines for {len(sources)} sources; the same number for each is needed", candidates
        )
    for i, text in enumerate(sources):
        request = Request(str(i), text, tuple(Candidate(str(j), texts[i * k + j]) for j in range(k)))
        yield Record(request, (targets[i],) if targets else (), line=i + 1)


def read_brio(path: str | Path, *, untokenised: bool = True, labels: bool = True) -> Iterator[Record]:
    """Read BRIO/SimCLS samples (``article``, ``abstract``, ``candidates [[sentences, score]]`` and ``_untok`` twins).

    The scores in the file are ROUGE against the reference, so they never become first-stage scores.
    """
    p = Path(path)
    files = sorted(
        p.glob("*.json"), key=lambda f: (not f.stem.isdigit(), int(f.stem) if f.stem.isdigit() else 0, f.name)
    )
    for file in files if p.is_dir() else [p]:
        value = read_json(file)
        tail = "_untok" if untokenised and isinstance(value, dict) and "candidates_untok" in value else ""
        try:
            source = " ".join(value[f"article{tail}"])
            reference = "\n".join(value[f"abstract{tail}"])
            texts = ["\n".join(c[0]) for c in value[f"candidates{tail}"]]
        except (KeyError, TypeError, IndexError) as error:
            raise InputError(f"is no BRIO sample: {error}", file) from None
        if not texts:
            raise InputError("has no candidates", file)
        request = Request(file.stem, source, tuple(Candidate(str(j), t) for j, t in enumerate(texts)))
        yield Record(request, (reference,) if labels else ())
    if p.is_dir() and not files:
        raise InputError("holds no *.json samples", p)


def read_edu(
    path: str | Path, *, candidates: str = "abstract", source: str = "source", reference: str = "reference",
    labels: bool = True,
) -> Iterator[Record]:  # fmt: skip
    """Read edu-sum's prediction table: one row a document, its candidates joined by ``<cand>``.

    Parameters
    ----------
    candidates, source, reference
        Column names.
    """
    csv.field_size_limit(sys.maxsize)
    with open_text(path) as file:
        try:
            rows = csv.DictReader(file)
            header = rows.fieldnames or []
            if candidates not in header:
                raise InputError(f"has no column {candidates!r}; columns: {', '.join(header)}", path)
            for i, row in enumerate(rows):
                texts = [t.strip() for t in (row[candidates] or "").split("<cand>")]
                if not any(texts):
                    raise InputError("has no candidates", path, rows.line_num)
                target = row.get(reference) or ""
                request = Request(
                    str(row.get("dataset_idx") or row.get("id") or i),
                    re.sub(r"</?[es]>", "", row.get(source) or ""),
                    tuple(Candidate(str(j), t) for j, t in enumerate(texts)),
                )
                yield Record(request, (target,) if labels and target else (), line=rows.line_num)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"is no UTF-8 CSV table: {error}", path) from None


def with_run(records: Iterable[Record], path: str | Path) -> Iterator[Record]:
    """Give candidates the first-stage scores and order of a TREC run; candidates it lacks go last."""
    run = read_run(path)
    for record in records:
        scores = run.get(record.id, {})
        if not scores:
            raise InputError(f"has no line for document {record.id!r}", path)
        low = min(scores.values())
        ordered = sorted(record.request.candidates, key=lambda c: -scores.get(c.id, float("-inf")))
        candidates = tuple(replace(c, score=scores.get(c.id, low - 1)) for c in ordered)
        yield replace(record, request=replace(record.request, candidates=candidates))


def write_best(path: str | Path, rankings: Sequence[Ranking], texts: Mapping[str, Mapping[str, str]]) -> None:
    """Write the chosen text of each document, one line each (newlines become spaces)."""
    with atomic_write(path) as file:
        for ranking in rankings:
            file.write(" ".join(texts[ranking.id][ranking.items[0].id].split()) + "\n")

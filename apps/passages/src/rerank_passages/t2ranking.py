"""T2Ranking: Chinese passage ranking with grades 0 to 3, and how Chinese text is cut into terms.

Xie et al., "T2Ranking: A Large-scale Chinese Benchmark for Passage Ranking", SIGIR 2023. Files are tab-separated, with or
without a header: ``collection.tsv`` (pid, text), ``queries.{split}.tsv`` (qid, text), ``qrels.{split}.tsv`` (qid, -, pid,
grade), ``qrels.retrieval.{split}.tsv`` (qid, pid). Rank by MRR@10 with grades from 2 as relevant: ``parse("MRR@10")`` over
`official_gold`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from rerank_core.errors import InputError, require
from rerank_core.io import read_lines
from rerank_core.types import Gold

RELEVANT = 2
"""Least grade that counts as relevant."""

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+")
_OTHER = re.compile(r"[a-z0-9]+")


def chinese_terms(text: str) -> list[str]:
    """Cut Chinese text into words with jieba (extra ``rerank-passages[chinese]``); punctuation is left out.

    Raises
    ------
    MissingExtra
        Without jieba; `character_terms` needs nothing.
    """
    import logging

    jieba = require("jieba", "rerank-passages[chinese]", "Chinese words")
    jieba.setLogLevel(logging.WARNING)  # it announces its dictionary on stderr otherwise
    return [w.lower() for w in jieba.cut_for_search(text) if any(c.isalnum() for c in w)]


def character_terms(text: str) -> list[str]:
    """Cut Chinese text into single characters and overlapping pairs; Latin words and numbers stay whole."""
    out = _OTHER.findall(text.lower())
    for run in _HAN.findall(text):
        out += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
    return out


def read_texts(path: str | Path, keep: Collection[str] | None = None) -> dict[str, str]:
    """Read ``collection.tsv`` or ``queries.*.tsv``: id, tab, text.

    Raises
    ------
    InputError
        A line without a tab or an id twice, with file and line; no text at all.
    """
    texts: dict[str, str] = {}
    for line, key, text in _rows(path):
        if keep is not None and key not in keep:
            continue
        if key in texts:
            raise InputError(f"id {key!r} occurs twice", path, line)
        texts[key] = text
    if not texts:
        raise InputError("holds no texts", path)
    return texts


def _rows(path: str | Path) -> Iterator[tuple[int, str, str]]:
    for line, row in read_lines(path):
        key, tab, text = row.rstrip("\r\n").partition("\t")
        if not row.strip() or (line == 1 and key in ("pid", "qid")):
            continue
        if not tab:
            raise InputError("a line is id<TAB>text; this one has no tab", path, line)
        yield line, key, text


def read_grades(path: str | Path) -> Gold:
    """Read qrels with two columns (qid, pid: grade 1 each) or four (qid, -, pid, grade)."""
    gold: dict[str, dict[str, float]] = {}
    for line, row in read_lines(path):
        columns = row.split()
        if not columns or (line == 1 and columns[0] == "qid"):
            continue
        if len(columns) not in (2, 4):
            raise InputError(f"{len(columns)} columns; a line is qid, pid or qid, -, pid, grade", path, line)
        try:
            grade = float(columns[3]) if len(columns) == 4 else 1.0
        except ValueError:
            raise InputError(f"grade {columns[3]!r} is no number", path, line) from None
        gold.setdefault(columns[0], {})[columns[-2] if len(columns) == 4 else columns[1]] = grade
    if not gold:
        raise InputError("holds no judgments", path)
    return gold


def official_gold(gold: Gold, least: float = RELEVANT) -> Gold:
    """Return 1 for grades from ``least``, 0 below: what the official MRR@10 counts."""
    return {q: {d: float(g >= least) for d, g in docs.items()} for q, docs in gold.items()}

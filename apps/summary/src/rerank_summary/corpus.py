"""Corpus ROUGE of two files of texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.io import read_jsonl, read_lines
from rerank_core.measures import Row
from rerank_core.statistics import bootstrap
from rerank_summary.rouge import MEASURES, Flavour, Rouge
from rerank_summary.text import sentence_lines


def read_texts(path: str | Path, field: str | None = None) -> list[str]:
    """Read one text a line, or one field of each JSON line.

    Raises
    ------
    InputError
        With file and line, where a field is missing or no text; when there is no text at all.
    """
    if field is None:
        texts = [t for _, t in read_lines(path)]
    else:
        texts = []
        for line, row in read_jsonl(path):
            value = row.get(field)
            if not isinstance(value, str):
                raise InputError(f"field {field!r} is missing or no text; fields: {', '.join(row)}", path, line)
            texts.append(value)
    if not texts:
        raise InputError("holds no texts", path)
    return texts


def corpus_rouge(
    hypotheses: Sequence[str],
    references: Sequence[str],
    flavour: Flavour,
    *,
    system: str = "hypotheses",
    separator: str | None = None,
    by_rule: bool = False,
    seed: int = 0,
    n_boot: int = 1000,
) -> list[dict[str, Any]]:
    """Mean F1 x 100 over pairs, with bootstrap intervals.

    Parameters
    ----------
    separator
        Separates sentences inside a text, for rougeLsum; None takes texts as they are (sentences are lines).
    by_rule
        Cut texts without newlines into sentences by rule first.

    Raises
    ------
    UsageError
        When the files differ in length.
    """

    def cut(text: str) -> str:
        text = text.replace(separator, "\n") if separator else text
        return sentence_lines(text) if by_rule else text

    scores = Rouge(flavour, MEASURES).score_batch([cut(t) for t in references], [cut(t) for t in hypotheses])
    rows = []
    for m in MEASURES:
        column = np.array([[100 * s[m].f] for s in scores])
        low, high = bootstrap(column, lambda r: float(r.mean()), seed=seed, n_boot=n_boot)
        rows.append({**Row(system, m, float(column.mean()), len(column), low, high).as_dict(), "flavour": flavour.name})
    return rows

"""Variants of a column to learn from without labels: the same column, called and filled differently.

``exact``
    Magneto's structural variants: another sample of the values, now and then one changed letter in the name.
``lexical``
    Ours, in place of a language model: the name abbreviated, without vowels, with its table's name before it, in other
    case, or made of the column's documentation; typing errors in values.
``semantic``
    Magneto's other half: a language model writes alternative names with alternative values.

Source: Liu et al., PVLDB 18(8), 2025, and the released ``finetune`` scripts, whose constants these are (at most 15 values,
two variants, a letter changed with probability 0.3, three names asked for).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank_core.budget import Budget, Meter
from rerank_schema.fabricate import header_of, rename, typo
from rerank_schema.lexical import split_name
from rerank_schema.tables import Column

if TYPE_CHECKING:
    from rerank_lm.backends.base import BackEnd

MAX_VALUES = 15
CHANGE = 0.3
EXACT_VARIANTS = 2
LEXICAL_VARIANTS = 2
ASKED_NAMES = 3
BATCH = 8
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 "

Augmentation = Callable[[Column, np.random.Generator], list[Column]]


def original(column: Column, rng: np.random.Generator) -> Column:
    """Return the column itself, with at most 15 of its values."""
    return column if len(column.values) <= MAX_VALUES else _with(column, column.name, _drawn(column, rng, MAX_VALUES))


def exact(column: Column, rng: np.random.Generator) -> list[Column]:
    """Return two variants: the same name, and the name with perhaps a changed letter; values drawn anew for each."""
    out = []
    for i in range(EXACT_VARIANTS):
        name = column.name
        if i and name and (not column.values or rng.random() < CHANGE):
            at = int(rng.integers(len(name)))
            name = name[:at] + _LETTERS[int(rng.integers(len(_LETTERS)))] + name[at + 1 :]
        size = int(rng.integers(1, min(len(column.values), MAX_VALUES) + 1)) if column.values else 0
        out.append(_with(column, name, _drawn(column, rng, size)))
    return out


def lexical(column: Column, rng: np.random.Generator) -> list[Column]:
    """Return two variants under other names; one of them from the documentation where there is any."""
    styles = ["abbreviate", "vowels", "prefix", "camel", "blanks", "reversed"]
    names = [restyle(column, styles[int(i)]) for i in rng.permutation(len(styles))[:LEXICAL_VARIANTS]]
    if column.description and (made := header_of(column.description)):
        names[0] = made
    out = []
    for name in names:
        drawn = _drawn(column, rng, int(rng.integers(1, MAX_VALUES + 1)))
        noisy = [(typo(v, rng) if isinstance(v, str) and rng.random() < 0.2 else v, n) for v, n in drawn]
        out.append(_with(column, name, noisy))
    return out


def restyle(column: Column, style: str) -> str:
    """Write a column's name in another style."""
    words = split_name(column.name).split() or [column.name]
    if style == "camel":
        return words[0] + "".join(w.capitalize() for w in words[1:])
    if style == "blanks":
        return " ".join(words)
    if style == "reversed":
        return "_".join(reversed(words))
    return rename(column.name, style, column.table or "tbl")


AUGMENTATIONS: dict[str, Augmentation] = {"exact": exact, "lexical": lexical}
"""Augmentations that need no model."""


def ask_names(column: Column) -> str:
    """Ask a language model for other names and values of a column."""
    values = json.dumps([v[:40] for v in column.samples(MAX_VALUES)], ensure_ascii=False)
    return (
        f"A database column is called {json.dumps(column.name, ensure_ascii=False)}"
        + (f" ({column.description})" if column.description else "")
        + f" and holds values such as {values}.\nGive {ASKED_NAMES} other names that another team might have chosen for the "
        "same column (underscores, abbreviations, synonyms), each with values it would hold there (synonyms, variants, "
        'abbreviations).\nAnswer with a JSON list: [{"name": "...", "values": ["...", "..."]}, ...]'
    )


def read_names(text: str, column: Column) -> list[Column]:
    """Read the answer; entries without a usable name are passed over, and an unusable answer gives an empty list."""
    found = re.search(r"\[.*\]", text, re.DOTALL)
    try:
        entries: Any = json.loads(found.group(0)) if found else []
    except json.JSONDecodeError:
        return []
    out = []
    for entry in entries[:ASKED_NAMES] if isinstance(entries, list) else []:
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not name.strip():
            continue
        given = entry.get("values", [])
        cells = [str(v) for v in given if isinstance(v, (str, int, float))] if isinstance(given, list) else []
        out.append(_with(column, name.strip()[:200], [(v, 1) for v in dict.fromkeys(cells[:MAX_VALUES])]))
    return out


def semantic(
    columns: Sequence[Column], backend: BackEnd, budget: Budget | None = None, *, max_tokens: int = 400
) -> tuple[list[list[Column]], int]:
    """Ask a language model for variants of every column.

    Returns
    -------
    variants
        One list a column; empty where the budget was spent or the answer unusable.
    unusable
        Answers of which nothing could be used.
    """
    from rerank_lm.backends.base import Prompt, Sampling

    out: list[list[Column]] = [[] for _ in columns]
    meter, unusable, at = Meter(budget), 0, 0
    while at < len(columns):
        left = meter.left()
        if budget is not None and left.spent:
            break
        size = BATCH if left.calls is None else min(BATCH, left.calls)
        part = columns[at : at + size]
        prompts = [Prompt.user(ask_names(c)) for c in part]
        for i, completion in enumerate(backend.generate(prompts, Sampling(max_tokens=max_tokens))):
            meter.add(completion.cost)
            out[at + i] = read_names(completion.text, part[i]) if not completion.error else []
            unusable += not out[at + i]
        at += len(part)
    return out, unusable


def _drawn(column: Column, rng: np.random.Generator, size: int) -> list[tuple[Any, int]]:
    chosen = rng.permutation(len(column.values))[:size]
    return [(column.values[i], int(column.counts[i])) for i in sorted(chosen.tolist())]


def _with(column: Column, name: str, values: Sequence[tuple[Any, int]]) -> Column:
    counts = np.array([n for _, n in values], dtype=np.int64)
    return replace(column, name=name, values=tuple(v for v, _ in values), counts=counts)

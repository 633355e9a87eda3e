"""What speaks for a pair of columns: names, values and descriptions, each as a similarity between 0 and 1.

Every signal is computed for a block of source columns against all target columns, so memory does not grow with their
product. None of them sees a gold correspondence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rerank_schema.cleaning import Cleaned, clean
from rerank_schema.encode import Encoder, Vectors
from rerank_schema.lexical import Matrix, TfIdf, split_name
from rerank_schema.sampling import sample
from rerank_schema.serialise import serialise
from rerank_schema.tables import Column
from rerank_schema.values import Overlap

SAMPLES = 10

Rows = Callable[[int, int], Matrix]
"""``f(start, stop)`` -> similarities of the source columns start..stop with all target columns."""


@dataclass(frozen=True)
class Signal:
    """A named similarity; ``words`` says it in a reason."""

    name: str
    words: str
    rows: Rows


@dataclass(frozen=True, eq=False)
class Texts:
    """The texts by which columns are embedded, one a column.

    ``tagged`` and ``repeated`` are Magneto's serialisations (verbose with mixed samples, repeat with priority
    samples); ``plain`` is the name as words with sample values; ``name`` the words alone; ``described`` adds the
    description, ``placed`` the table's name as well, ``context`` also the table's description.
    """

    tagged: list[str]
    repeated: list[str]
    plain: list[str]
    name: list[str]
    described: list[str]
    placed: list[str]
    context: list[str]


def texts_of(columns: Sequence[Column], cleaned: Sequence[Cleaned]) -> Texts:
    """Write the texts of columns."""
    out = Texts([], [], [], [], [], [], [])
    for column, c in zip(columns, cleaned, strict=True):
        mixed, priority = sample(c, "mixed", SAMPLES), sample(c, "priority_sampling", SAMPLES)
        words = split_name(column.name)
        out.tagged.append(serialise(column.name, c.type, mixed, "header_values_verbose"))
        out.repeated.append(serialise(column.name, c.type, priority, "header_values_repeat"))
        out.plain.append(f"{words}; values: {', '.join(priority)}" if priority else words)
        out.name.append(words)
        said = f": {column.description}" if column.description else ""
        placed = f"{split_name(column.table)} {words}{said}".strip()
        out.described.append(words + said)
        out.placed.append(placed)
        out.context.append(f"{placed} ({column.table_description})" if column.table_description else placed)
    return out


def signals(sources: Sequence[Column], targets: Sequence[Column], encoder: Encoder) -> list[Signal]:
    """Prepare the signals that the two sides allow.

    Values count only where both sides have some, descriptions only where either side has one.
    """
    left_clean, right_clean = [clean(c) for c in sources], [clean(c) for c in targets]
    left, right = texts_of(sources, left_clean), texts_of(targets, right_clean)
    with_values = any(c.values for c in left_clean) and any(c.values for c in right_clean)
    described = any(c.description for c in sources) or any(c.description for c in targets)

    kinds = {"name": (left.name, right.name)}
    if with_values:
        kinds |= {
            "plain": (left.plain, right.plain),
            "tagged": (left.tagged, right.tagged),
            "repeated": (left.repeated, right.repeated),
        }
    if described:
        kinds["described"] = (left.described, right.described)
        if len({c.table for c in targets}) > 1:
            kinds |= {"placed": (left.placed, right.placed), "context": (left.context, right.context)}
    vectors = _encode(kinds, encoder)

    out = [Signal(k, _WORDS[k], _cosines(*vectors[k])) for k in kinds]
    out.append(Signal("letters", _WORDS["letters"], TfIdf(left.name, right.name).rows))
    if with_values:
        out.append(Signal("overlap", _WORDS["overlap"], Overlap(left_clean, right_clean).rows))
    return out


_WORDS = {
    "name": "names mean alike",
    "plain": "name and values read alike",
    "tagged": "name, type and samples alike (Magneto)",
    "repeated": "name repeated, type and samples alike (Magneto)",
    "described": "description fits",
    "placed": "description fits, with its table",
    "context": "description and table's description fit",
    "letters": "names share letters",
    "overlap": "share values",
}
SIGNALS = tuple(_WORDS)
"""Names of all signals; a table pair has those that its two sides allow."""


def _encode(kinds: dict[str, tuple[list[str], list[str]]], encoder: Encoder) -> dict[str, tuple[Vectors, Vectors]]:
    """Encode all texts in one call, each distinct text once."""
    distinct = list(dict.fromkeys(t for left, right in kinds.values() for t in [*left, *right]))
    vectors = encoder.encode(distinct)
    place = {t: i for i, t in enumerate(distinct)}
    return {k: tuple(vectors[[place[t] for t in side]] for side in sides) for k, sides in kinds.items()}  # type: ignore[misc]


def _cosines(left: Vectors, right: Vectors) -> Rows:
    return lambda start, stop: np.asarray(left[start:stop] @ right.T, dtype=np.float32)

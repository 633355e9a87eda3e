"""Catalogues and conversations: what the field's JSON-lines files hold, as values.

A turn never carries its truth: `read_turns` gives turns, `read_gold` gives the truth, from the same file, so that
inference can only see what a deployed system would see. The answer that follows a turn (``response``/``resp``) is
read by neither.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError
from rerank_core.io import read_jsonl

_YEAR_IN_NAME = re.compile(r"\s*\(\s*((?:18|19|20)\d\d)[^()]*\)\s*$")
_YEAR_IN_URI = re.compile(r"_\(((?:18|19|20)\d\d)_[^()]*\)")


@dataclass(frozen=True, slots=True)
class Item:
    """What can be recommended: its title without the year, its year where known, and any further text."""

    id: str
    title: str
    year: int | None = None
    text: str = ""

    @property
    def label(self) -> str:
        """Title and year as shown to a person or a language model."""
        return f"{self.title} ({self.year})" if self.year else self.title


@dataclass(frozen=True)
class Catalogue:
    """The entities of a domain; some of them are items.

    Parameters
    ----------
    ids, names, years
        One of each an entity. Ids are text; names keep their original spelling (with the year where it had one).
    item_rows
        Shape (n_items,): rows of the entities that are items, rising.
    texts
        Item id -> further text (plot, genres), where known.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    years: tuple[int | None, ...]
    item_rows: NDArray[np.int64]
    texts: Mapping[str, str]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Entity id -> row."""
        return {i: r for r, i in enumerate(self.ids)}

    @cached_property
    def rows_by_name(self) -> dict[str, list[int]]:
        """Exact name -> rows, items before other entities, then by row."""
        found: dict[str, list[int]] = {}
        for row in [*self.item_rows.tolist(), *np.flatnonzero(self.item_of < 0).tolist()]:
            found.setdefault(self.names[row], []).append(row)
        return found

    @cached_property
    def item_of(self) -> NDArray[np.int64]:
        """Entity row -> item column, -1 where the entity is no item; shape (n_entities,)."""
        columns = np.full(len(self.ids), -1, dtype=np.int64)
        columns[self.item_rows] = np.arange(len(self.item_rows))
        return columns

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """The items, in row order."""
        return tuple(
            Item(self.ids[r], plain_title(self.names[r]), self.years[r], self.texts.get(self.ids[r], ""))
            for r in self.item_rows.tolist()
        )

    @cached_property
    def column_of(self) -> dict[str, int]:
        """Item id -> column."""
        return {item.id: c for c, item in enumerate(self.items)}

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.item_rows)


def plain_title(name: str) -> str:
    """Return a title without a year in trailing brackets and with single spaces."""
    return " ".join(_YEAR_IN_NAME.sub("", name).split()) or name


def year_of(name: str, uri: str = "") -> int | None:
    """Return the year in a title's trailing brackets, or in a DBpedia resource name such as ``Us_(2019_film)``."""
    found = _YEAR_IN_NAME.search(name) or _YEAR_IN_URI.search(uri)
    return int(found.group(1)) if found else None


def make_catalogue(rows: Sequence[Mapping[str, Any]], texts: Mapping[str, str] | None = None) -> Catalogue:
    """Build a catalogue from rows with ``id``, ``name`` and optionally ``is_item`` (default true), ``year``, ``uri``.

    HTML entities in names are undone. ``texts`` maps an item's id *or* exact name to further text.
    """
    ids = tuple(str(r["id"]) for r in rows)
    names = tuple(html.unescape(str(r["name"])).strip() for r in rows)
    years = tuple(
        int(r["year"]) if r.get("year") else year_of(n, str(r.get("uri") or ""))
        for r, n in zip(rows, names, strict=True)
    )
    item_rows = np.array([k for k, r in enumerate(rows) if r.get("is_item", True)], dtype=np.int64)
    given = texts or {}
    by_id = {}
    for k in item_rows.tolist():
        text = given.get(ids[k]) or given.get(names[k]) or str(rows[k].get("text") or "")
        if text:
            by_id[ids[k]] = text
    return Catalogue(ids, names, years, item_rows, by_id)


def read_catalogue(path: str | Path, iteminfo: str | Path | None = None) -> Catalogue:
    """Read entities: JSON lines with ``id``, ``name`` and optionally ``is_item``, ``year``, ``uri``, ``text``.

    Parameters
    ----------
    iteminfo
        JSON lines with ``name`` (or ``id``) and ``plot`` (or ``text``): further text of items.

    Raises
    ------
    InputError
        On a row without id or name, an id given twice, or a file without items, with file and line.
    """
    rows: list[dict[str, Any]] = []
    first: dict[str, int] = {}
    for line, row in read_jsonl(path):
        if row.get("id") is None or not isinstance(row.get("name"), str):
            raise InputError('an entity needs "id" and "name" (text)', path, line)
        if (key := str(row["id"])) in first:
            raise InputError(f"entity id {key} was given in line {first[key]} already", path, line)
        first[key] = line
        rows.append(row)
    texts: dict[str, str] = {}
    if iteminfo is not None:
        for _, row in read_jsonl(iteminfo):
            texts[str(row["id"]) if "id" in row else html.unescape(str(row.get("name", "")))] = str(
                row.get("plot") or row.get("text") or ""
            )
    catalogue = make_catalogue(rows, texts)
    if not catalogue.n_items:
        raise InputError('no entity is an item ("is_item": true)', path)
    return catalogue


@dataclass(frozen=True, slots=True)
class Turn:
    """A point in a conversation at which something is to be recommended.

    Parameters
    ----------
    id
        Unique in its file: ``index`` where the file has one, else dialogue and turn.
    dialogue
        Turns of one dialogue are never split apart.
    context
        Utterances so far, oldest first.
    mentions
        Names or ids of the entities mentioned so far, in order and with repeats, where the file gives them in order.
    mentioned
        The same without an order (CRSLab, UniCRS and He et al. store a set); only used to know what was mentioned.
    """

    id: str
    dialogue: str
    context: tuple[str, ...]
    mentions: tuple[Reference, ...] | None = None
    mentioned: tuple[Reference, ...] | None = None


Reference: TypeAlias = int | str
"""An entity as a file names it: a JSON number is an id, a text is a name (or, failing that, an id)."""


def _references(value: Any) -> tuple[Reference, ...] | None:
    return None if value is None else tuple(v if isinstance(v, int) else str(v) for v in value)


def _turn_rows(paths: Sequence[str | Path]) -> Iterator[tuple[Turn, Mapping[str, Any], Path, int]]:
    """Yield turns with their rows. Ids: ``index``, else ``dialog_id/turn_id`` (a second one gets ``#2``), else line."""
    counts: dict[str, int] = {}
    for path in map(Path, paths):
        for line, row in read_jsonl(path):
            turn = _turn(row, path, line)
            counts[turn.id] = counts.get(turn.id, 0) + 1
            if counts[turn.id] > 1:
                if row.get("index") is not None:
                    raise InputError(f"index {turn.id} occurs twice", path, line)
                turn = replace(turn, id=f"{turn.id}#{counts[turn.id]}")
            yield turn, row, path, line


def _turn(row: Mapping[str, Any], path: Path, line: int) -> Turn:
    context = row.get("context")
    if not isinstance(context, list) or not all(isinstance(u, str) for u in context):
        raise InputError('a turn needs "context", a list of texts', path, line)
    for key in ("entity", "prev_entity"):
        if not isinstance(row.get(key) or [], list):
            raise InputError(f'"{key}" is to be a list', path, line)
    dialogue = str(row["dialog_id"]) if row.get("dialog_id") is not None else f"line {line}"
    number = row.get("turn_id") if row.get("turn_id") is not None else line
    turn_id = str(row["index"]) if row.get("index") is not None else f"{dialogue}/{number}"
    return Turn(turn_id, dialogue, tuple(context), _references(row.get("entity")), _references(row.get("prev_entity")))


def read_turns(*paths: str | Path) -> list[Turn]:
    """Read the turns of JSON-lines files; the truth in them is not looked at.

    Raises
    ------
    InputError
        On a row without a context, or an ``index`` that occurs twice, with file and line.
    """
    turns = [turn for turn, *_ in _turn_rows(paths)]
    if not turns:
        raise InputError("no turns", paths[0] if paths else None)
    return turns


def read_gold(*paths: str | Path) -> dict[str, tuple[Reference, ...]]:
    """Read turn id -> gold (``rec``) as ids or names, repeats dropped; a row without ``rec`` has none."""
    gold: dict[str, tuple[Reference, ...]] = {}
    for turn, row, path, line in _turn_rows(paths):
        wanted = row.get("rec") or []
        if not isinstance(wanted, list):
            raise InputError('"rec" is to be a list of items', path, line)
        gold[turn.id] = tuple(dict.fromkeys(_references(wanted) or ()))
    return gold


def entity_rows(catalogue: Catalogue, names: Sequence[Reference]) -> list[int]:
    """Return the rows of entities given by id or by exact name; unknown ones are passed over."""
    rows = []
    for name in names:
        row = None
        if isinstance(name, str):
            row = catalogue.rows_by_name.get(html.unescape(name).strip(), [None])[0]
        if row is None:
            row = catalogue.row_of.get(str(name))
        if row is not None:
            rows.append(row)
    return rows


def gold_columns(catalogue: Catalogue, gold: Sequence[Reference]) -> list[int]:
    """Return the item columns of a turn's gold (ids or names); gold outside the catalogue is passed over."""
    columns = [int(catalogue.item_of[r]) for r in entity_rows(catalogue, gold)]
    return [c for c in dict.fromkeys(columns) if c >= 0]


def read_graph(path: str | Path, catalogue: Catalogue) -> NDArray[np.int64]:
    """Read knowledge-graph triples (JSON lines with ``h``, ``r``, ``t``) as pairs of entity rows, shape (n_edges, 2).

    Edges to entities that the catalogue lacks are left out.
    """
    edges = []
    for line, row in read_jsonl(path):
        if "h" not in row or "t" not in row:
            raise InputError('an edge needs "h" and "t"', path, line)
        head, tail = catalogue.row_of.get(str(row["h"])), catalogue.row_of.get(str(row["t"]))
        if head is not None and tail is not None:
            edges.append((head, tail))
    return np.array(sorted(set(edges)), dtype=np.int64).reshape(-1, 2)

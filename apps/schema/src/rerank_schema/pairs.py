"""Folders of table pairs with their gold, for training and for comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rerank_core.errors import InputError
from rerank_schema.fabricate import TablePair
from rerank_schema.gold import read_gold
from rerank_schema.readers import read_schema
from rerank_schema.tables import Schema

GOLD_NAMES = ("ground_truth.csv", "gold.csv", "matches.json")


def read_pairs(folder: Path) -> list[TablePair]:
    """Read every table pair at or below a folder.

    A pair is a folder that holds a gold file (``ground_truth.csv``, ``gold.csv`` or ``matches.json``), a source
    (``source`` or ``left``, a file or a folder) and a target (``target`` or ``right``). Where the target is not in the
    folder, the one beside it is taken: many sources then share one standard, which is read once.

    Raises
    ------
    InputError
        When there is no pair, or a side of one is missing.
    """
    golds = sorted(p for name in GOLD_NAMES for p in folder.rglob(name))
    if not golds:
        raise InputError(f"no table pair in it: a folder with {', '.join(GOLD_NAMES)} is one", folder)
    read: dict[Path, Schema] = {}

    def schema(path: Path) -> Schema:
        if path not in read:
            read[path] = read_schema(path, schema_only=path.name.startswith(("left.", "right.")))
        return read[path]

    out = []
    for gold in golds:
        source = _side(gold.parent, ("source", "left"))
        target = _side(gold.parent, ("target", "right")) or _side(gold.parent.parent, ("target", "right"))
        if source is None or target is None:
            raise InputError(f"no {'source' if source is None else 'target'} beside {gold.name}", gold.parent)
        name = gold.parent.relative_to(folder).as_posix()
        left, right = schema(source), schema(target)
        pairs = read_gold(gold).under(left.tables, right.tables)
        out.append(TablePair(folder.name if name == "." else name, left, right, pairs))
    return out


def _side(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next(_sides(folder, names), None)


def _sides(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        if (folder / name).is_dir():
            yield folder / name
        yield from sorted(p for p in folder.glob(f"{name}.*") if p.is_file())

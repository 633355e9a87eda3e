"""Readers of other tools' files: RecBole's atomic files, MovieLens CSV, CRSLab and UniCRS JSONL, reviews.

Every reader names file and line of what it cannot read; text is UTF-8 (MovieLens' old files are Latin-1: convert them).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from rerank_core.errors import InputError
from rerank_core.io import read_jsonl, read_lines
from rerank_recommend.data import Catalogue, Reference, Turn, make_catalogue, read_catalogue
from rerank_recommend.keywords import Review

FORMATS = ("turns", "crslab", "recbole", "movielens")


@dataclass(frozen=True)
class Interactions:
    """Users by items.

    Parameters
    ----------
    user_items
        csr (n_users, n_items), 1 where a user took an item; columns as the catalogue's items.
    users
        The users' names, in row order.
    """

    catalogue: Catalogue
    user_items: Any
    users: tuple[str, ...]


def _suffix(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def detect(path: Path) -> str:
    """Guess a format from the name, and for JSON lines from the first row."""
    suffix = _suffix(path)
    if suffix == ".inter":
        return "recbole"
    if suffix == ".csv":
        return "movielens"
    for _, row in read_jsonl(path):
        return "crslab" if "messages" in row or "dialog" in row else "turns"
    raise InputError("is empty", path)


def _columns(path: Path, separator: str, wanted: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, values of the wanted columns); headers may carry RecBole's types (``user_id:token``)."""
    lines = read_lines(path)
    try:
        _, header = next(lines)
    except StopIteration:
        raise InputError("is empty", path) from None
    names = [h.split(":")[0].strip() for h in next(csv.reader([header.lstrip("\ufeff")], delimiter=separator))]
    missing = [w for w in wanted if w not in names]
    if missing:
        raise InputError(f"has no column {missing[0]!r} (columns: {', '.join(names)})", path, 1)
    at = [names.index(w) for w in wanted]
    for number, line in lines:
        if not line:
            continue
        values = next(csv.reader([line], delimiter=separator)) if '"' in line else line.split(separator)
        if len(values) != len(names):
            raise InputError(f"has {len(values)} columns, the header {len(names)}", path, number)
        yield number, [values[k] for k in at]


def _rating(path: Path, number: int, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"rating {value!r} is not a number", path, number) from None


def read_interactions(
    paths: Sequence[Path], kind: str, items: Path | None = None, min_rating: float | None = None
) -> Interactions:
    """Read user-item pairs: RecBole ``.inter`` (with the ``.item`` beside it) or MovieLens ``ratings.csv``.

    Parameters
    ----------
    items
        Titles: ``.item``, ``movies.csv`` or JSON lines; by default the file of that name beside the first path, and
        where there is none the ids serve as titles.
    min_rating
        Pairs rated lower do not count.
    """
    separator = "\t" if kind == "recbole" else ","
    user_key, item_key = ("user_id", "item_id") if kind == "recbole" else ("userId", "movieId")
    wanted = [user_key, item_key, *(["rating"] if min_rating is not None else [])]
    users: dict[str, int] = {}
    columns: dict[str, int] = {}
    pairs_u, pairs_i = [], []
    for path in paths:
        for number, values in _columns(path, separator, wanted):
            if min_rating is not None and _rating(path, number, values[2]) < min_rating:
                continue
            pairs_u.append(users.setdefault(values[0], len(users)))
            pairs_i.append(columns.setdefault(values[1], len(columns)))
    if not pairs_u:
        raise InputError("no interactions", paths[0])
    catalogue = _titles(paths[0], kind, list(columns), items)
    index = catalogue.column_of
    unknown = [i for i in columns if i not in index]
    if unknown:
        raise InputError(f"item {unknown[0]!r} is not in the items' file ({len(unknown)} items are not)", paths[0])
    shift = np.array([index[i] for i in columns])
    matrix = sp.csr_matrix(
        (np.ones(len(pairs_u), dtype=np.float32), (pairs_u, shift[pairs_i])), shape=(len(users), catalogue.n_items)
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return Interactions(catalogue, matrix, tuple(users))


def _titles(first: Path, kind: str, ids: Sequence[str], items: Path | None) -> Catalogue:
    if items is None:
        name = first.name
        beside = {
            "recbole": name.replace(".inter", ".item"),
            "movielens": name.replace("ratings", "movies"),
        }[kind]
        items = first.with_name(beside) if beside != name and first.with_name(beside).exists() else None
    if items is None:
        return make_catalogue([{"id": i, "name": i} for i in ids])
    if _suffix(items) == ".jsonl":
        return read_catalogue(items)
    rows: dict[str, dict[str, Any]] = {}
    if _suffix(items) == ".item":
        lines = read_lines(items)
        names = [h.split(":")[0] for h in next(lines, (0, ""))[1].split("\t")]
        title = next((n for n in ("movie_title", "title", "name", "item_name") if n in names), None)
        if "item_id" not in names or title is None:
            raise InputError("needs the columns item_id and a title (movie_title, title, name or item_name)", items, 1)
        year = next((n for n in ("release_year", "year") if n in names), None)
        for number, values in _columns(items, "\t", ["item_id", title, *([year] if year else [])]):
            row: dict[str, Any] = {"id": values[0], "name": values[1]}
            if year and values[2].isdigit():
                row["year"] = int(values[2])
            _once(rows, row, items, number)
    else:
        for number, (i, name_, genres) in _columns(items, ",", ["movieId", "title", "genres"]):
            _once(rows, {"id": i, "name": name_, "text": genres.replace("|", ", ")}, items, number)
    return make_catalogue(list(rows.values()))


def _once(rows: dict[str, dict[str, Any]], row: dict[str, Any], path: Path, number: int) -> None:
    if row["id"] in rows:
        raise InputError(f"item {row['id']!r} occurs twice", path, number)
    rows[row["id"]] = row


def read_crslab(paths: Sequence[Path], catalogue: Catalogue) -> tuple[list[Turn], dict[str, tuple[Reference, ...]]]:
    """Read dialogues as CRSLab (``messages``/``dialog`` with roles) or UniCRS (``context``, ``entity``, ``rec``) keep them.

    Every recommender utterance that names items becomes a turn; its context is what was said before. Entities given
    as DBpedia names match by the last part of the resource.
    """
    turns: list[Turn] = []
    gold: dict[str, tuple[Reference, ...]] = {}
    for path in paths:
        for line, row in read_jsonl(path):
            if "context" in row:
                mentions = _names(row.get("entity"), path, line)
                _add(turns, gold, f"{line}", f"{line}", row["context"], mentions, _names(row.get("rec"), path, line))
                continue
            messages = row.get("messages", row.get("dialog"))
            if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
                raise InputError('needs "messages" or "dialog", a list of objects', path, line)
            dialogue = str(row.get("conv_id", row.get("dialog_id", line)))
            context: list[str] = []
            mentions_so_far: list[Reference] = []
            for n, message in enumerate(messages):
                entities = [*_names(message.get("movies"), path, line), *_names(message.get("entity"), path, line)]
                items = _names(message.get("movies", message.get("items")), path, line)
                role = str(message.get("role", "")).lower()
                if items and role.startswith(("rec", "assist", "sys")):
                    _add(turns, gold, dialogue, f"{dialogue}/{n}", list(context), list(mentions_so_far), items)
                context.append(str(message.get("text", "")))
                mentions_so_far += entities
    if not turns:
        raise InputError("no recommender utterance names an item", paths[0])
    return turns, gold


def _add(
    turns: list[Turn],
    gold: dict[str, tuple[Reference, ...]],
    dialogue: str,
    turn_id: str,
    context: Any,
    mentions: Sequence[Reference],
    items: Sequence[Reference],
) -> None:
    turns.append(Turn(turn_id, dialogue, tuple(map(str, context)), tuple(mentions)))
    gold[turn_id] = tuple(dict.fromkeys(items))


def _names(value: Any, path: Path, line: int) -> list[Reference]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError("entities are to be a list", path, line)
    return [v if isinstance(v, int) else _resource(str(v)) for v in value]


def _resource(name: str) -> str:
    if name.startswith("<http") and name.endswith(">"):
        return name[1:-1].rsplit("/", 1)[-1].replace("_", " ")
    return name


def read_reviews(path: Path) -> list[Review]:
    """Read reviews: JSON lines, or CSV with a header, with ``user``, ``item``, ``text`` and optionally ``split``.

    Without ``split`` every fifth user with at least three items is a test user, in order of a hash of the name.
    """
    reviews = []
    if _suffix(path) == ".csv":
        rows: Iterator[tuple[int, dict[str, Any]]] = (
            (n, dict(zip(("user", "item", "text"), v, strict=True)))
            for n, v in _columns(path, ",", ["user", "item", "text"])
        )
    else:
        rows = iter(read_jsonl(path))
    for line, row in rows:
        if row.get("user") is None or row.get("item") is None:
            raise InputError('a review needs "user", "item" and "text"', path, line)
        reviews.append(
            Review(str(row["user"]), str(row["item"]), str(row.get("text") or ""), str(row.get("split") or ""))
        )
    if not reviews:
        raise InputError("no reviews", path)
    return reviews if any(r.split == "test" for r in reviews) else _split(reviews)


def _split(reviews: Sequence[Review]) -> list[Review]:
    from zlib import crc32

    items: dict[str, set[str]] = {}
    for r in reviews:
        items.setdefault(r.user, set()).add(r.item)
    regular = sorted((u for u, i in items.items() if len(i) >= 3), key=lambda u: (crc32(u.encode()), u))
    test = set(regular[::5])
    split = {u: "test" if u in test else "train" if len(i) >= 3 else "lt3" for u, i in items.items()}
    return [Review(r.user, r.item, r.text, split[r.user]) for r in reviews]

"""Matches and their files: CSV, JSON and a page to read."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError, UsageError
from rerank_schema.match import NO, Match

FIELDS = tuple(f.name for f in fields(Match))


def write_matches(path: Path, matches: Sequence[Match], unmatched: Iterable[tuple[str, str]] = ()) -> None:
    """Write matches by suffix: ``.csv``, ``.tsv``, ``.json`` or ``.html``; nothing is left behind when it fails.

    Parameters
    ----------
    unmatched
        Source columns without any candidate. They get a line with an empty target, so that no column is lost.
    """
    from rerank_core.io import atomic_write

    suffix = path.suffix.lower()
    if suffix not in WRITERS:
        raise UsageError(f"{path}: write to a file that ends in {', '.join(WRITERS)}")
    text = WRITERS[suffix]
    rows = [*matches, *(Match(table, column, "", "", 0.0, 1) for table, column in unmatched)]
    with atomic_write(path) as stream:
        text(stream, rows)


def _write_csv(stream: Any, matches: Sequence[Match], delimiter: str = ",") -> None:
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    writer.writerow(FIELDS)
    writer.writerows(_plain(m).values() for m in matches)


def _plain(match: Match) -> dict[str, Any]:
    row = {f: getattr(match, f) for f in FIELDS}  # `asdict` copies every cell, at twenty times the price
    row["score"] = float(f"{match.score:.6g}")
    row["probability"] = "" if match.probability is None else round(match.probability, 4)
    return row


def _write_tsv(stream: Any, matches: Sequence[Match]) -> None:
    _write_csv(stream, matches, "\t")


def _write_json(stream: Any, matches: Sequence[Match]) -> None:
    rows = [_plain(m) | {"probability": m.probability} for m in matches]
    json.dump(rows, stream, ensure_ascii=False, indent=1)
    stream.write("\n")


def _write_html(stream: Any, matches: Sequence[Match]) -> None:
    from rerank_schema.review.page import static_page

    stream.write(static_page(matches))


WRITERS = {".csv": _write_csv, ".tsv": _write_tsv, ".json": _write_json, ".html": _write_html}


def read_matches(path: Path) -> list[Match]:
    """Read matches from CSV, TSV or JSON.

    Raises
    ------
    InputError
        With file and line, when a column is missing or a number is none.
    """
    from rerank_core.io import open_text

    with open_text(path) as stream:
        if _bare_suffix(path) == ".json":
            rows = _json_rows(stream.read(), path)
        else:
            delimiter = "\t" if _bare_suffix(path) == ".tsv" else ","
            rows = list(enumerate(csv.DictReader(stream, delimiter=delimiter), start=2))
    return [m for number, row in rows if (m := _match(row, path, number)).target_column]


def _bare_suffix(path: Path) -> str:
    name = path.name[: -len(".gz")] if path.name.endswith(".gz") else path.name
    return Path(name).suffix.lower()


def _json_rows(text: str, path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", path, error.lineno) from error
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise InputError("expected a list of matches", path)
    return list(enumerate(rows, start=1))


def _match(row: dict[str, Any], path: Path, number: int) -> Match:
    missing = [f for f in FIELDS[:6] if row.get(f) is None]
    if missing:
        raise InputError(f"no {', '.join(missing)}; a result of `rerank-schema match` is expected", path, number)
    try:
        probability = row.get("probability")
        return Match(
            str(row["source_table"]),
            str(row["source_column"]),
            str(row["target_table"]),
            str(row["target_column"]),
            score=float(row["score"]),
            rank=int(row["rank"]),
            probability=None if probability in (None, "") else float(probability),
            decision=str(row.get("decision") or NO),
            reason=str(row.get("reason") or ""),
        )
    except ValueError as error:
        raise InputError(f"{error}", path, number) from error

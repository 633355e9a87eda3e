"""Candidate files of every engine into one table.

Known: mzTab of Casanovo (inline masses up to 4.x, ProForma column from 5.2), AdaNovo and this program; InstaNovo CSV
with or without beams; PrimeNovo, HelixNovo and PepNet TSV; DeepNovo tab; and any CSV, TSV or Parquet with a spectrum
(title or index), a sequence and, where there is one, a score and a rank. A row that is no peptide is skipped and
counted, never guessed at.
"""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from rerank_core.errors import InputError
from rerank_core.files import open_text
from rerank_peptide.masses import PeptideError, parse_peptide

MAX_LENGTH: Final = 98  # tokens; longer ones are beyond every model's position table

Key = tuple[Literal["index", "title", "scan"], str]


@dataclass(frozen=True)
class Hit:
    """One row of a candidate file.

    Parameters
    ----------
    key
        How the file names the spectrum: by index in its file, by title, or by scan number.
    rank
        From 1 within engine and spectrum.
    score
        On the engine's scale, higher is better; None where absent or not finite.
    raw
        The sequence as it stood in the file.
    """

    engine: str
    key: Key
    rank: int
    tokens: tuple[str, ...]
    score: float | None
    raw: str


@dataclass
class CandidateFile:
    """The usable rows of a file, and why others were not."""

    name: str
    path: str
    hits: list[Hit] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_examples: dict[str, str] = field(default_factory=dict)

    def skip(self, reason: str, where: str) -> None:
        """Count a row that cannot be used."""
        self.skipped[reason] += 1
        self.skipped_examples.setdefault(reason, where)


_Row = tuple[str, Key, int | None, str | None, float | None]  # engine, key, rank, sequence, score


def read_candidates(path: str | Path, name: str) -> CandidateFile:
    """Read a candidate file of any known kind.

    Parameters
    ----------
    name
        What the engine is called in the output; a column ``engine`` inside the file overrides it.

    Raises
    ------
    InputError
        When the file is absent, empty, of no known layout, or holds no usable peptide at all.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such candidate file", path)
    base = path.name.lower().removesuffix(".gz")
    if base.endswith(".mztab"):
        rows: Iterator[_Row] = _mztab(path, name)
    elif base.endswith((".parquet", ".pq")):
        rows = _parquet(path, name)
    elif base.endswith((".csv", ".tsv", ".tab", ".txt")):
        rows = _text(path, name)
    else:
        raise InputError("unknown candidate format; give .mztab, .csv, .tsv, .tab or .parquet", path)
    out = CandidateFile(name, str(path))
    ranks: Counter[tuple[str, Key]] = Counter()
    for number, (engine, key, rank, sequence, score) in enumerate(rows, 1):
        where = f"row {number} ({key[0]} {key[1]})"
        if sequence is None or str(sequence).strip().lower() in {"", "null", "nan", "none"}:
            out.skip("no sequence", where)
            continue
        try:
            tokens = parse_peptide(str(sequence))
        except PeptideError as error:
            out.skip(_reason(str(error)), f"{where}: {error}")
            continue
        if len(tokens) > MAX_LENGTH:
            out.skip(f"longer than {MAX_LENGTH} residues", where)
            continue
        ranks[engine, key] += 1
        finite = score is not None and math.isfinite(score)
        if score is not None and not finite:
            out.skip("score not finite (candidate kept, score dropped)", where)
        out.hits.append(Hit(engine, key, rank or ranks[engine, key], tokens, score if finite else None, str(sequence)))
    if not out.hits:
        why = f": {next(iter(out.skipped_examples.values()))}" if out.skipped else ""
        raise InputError(f"no usable candidate{why}", path)
    return out


def _reason(message: str) -> str:
    return re.sub(r" in (peptide )?'.*", "", message)


# -- mzTab ---------------------------------------------------------------------------------------------------------


def _mztab(path: Path, name: str) -> Iterator[_Row]:
    header: list[str] | None = None
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            cells = line.rstrip("\r\n").split("\t")
            if cells[0] == "PSH":
                header = cells
            elif cells[0] == "PSM":
                if header is None:
                    raise InputError("PSM row before the PSH header; the file is damaged", path, number)
                if len(cells) != len(header):
                    raise InputError(f"{len(cells)} columns where the header has {len(header)}", path, number)
                yield _psm(dict(zip(header, cells, strict=True)), name, path, number)
    if header is None:
        raise InputError("no PSH line; this is no mzTab identification file", path)


def _psm(row: Mapping[str, str], name: str, path: Path, number: int) -> _Row:
    sequence = row.get("opt_global_cv_MS:1003169_proforma_peptidoform_sequence")
    if sequence in (None, "null", ""):
        sequence = row.get("sequence")
        if sequence and sequence.isalpha() and row.get("modifications", "null") not in ("null", ""):
            sequence = _apply_modifications(sequence, row["modifications"])
    reference = row.get("spectra_ref", "null").rpartition(":")[2]
    kind, _, value = reference.rpartition("=")
    key: Key = ("scan" if kind.endswith("scan") else "index", value)
    if not value.isdigit():
        raise InputError(f"spectra_ref {row.get('spectra_ref')!r} names no index or scan", path, number)
    rank = row.get("opt_global_rank", "")
    return name, key, int(rank) if rank.isdigit() else None, sequence, _float(row.get("search_engine_score[1]"))


def _apply_modifications(sequence: str, modifications: str) -> str:
    at: dict[int, str] = {}
    for item in modifications.split(","):
        position, _, what = item.strip().partition("-")
        if position.isdigit() and what:
            at[int(position)] = at.get(int(position), "") + f"[{what.removeprefix('CHEMMOD:')}]"
    body = "".join(f"{r}{at.get(i, '')}" for i, r in enumerate(sequence, 1))
    return f"{at[0]}-{body}" if 0 in at else body


# -- text and parquet ----------------------------------------------------------------------------------------------


def _float(value: Any) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _int(value: Any) -> int | None:
    number = _float(value)
    return int(number) if number is not None and math.isfinite(number) else None


def _text(path: Path, name: str) -> Iterator[_Row]:
    with open_text(path) as lines:
        first = lines.readline()
        if not first.strip():
            raise InputError("empty file", path)
        delimiter = "\t" if first.count("\t") >= first.count(",") and "\t" in first else ","
        header = next(csv.reader([first.rstrip("\r\n")], delimiter=delimiter))
        dialect = _dialect(header)
        csv.field_size_limit(10_000_000)
        if dialect is None and len(header) == 3 and _float(header[2]) is not None:
            # HelixNovo has no header: title, sequence, score.
            for cells in csv.reader([first, *lines], delimiter=delimiter):
                if len(cells) >= 3:
                    yield name, ("title", cells[0]), None, cells[1], _float(cells[2])
            return
        if dialect is None:
            raise InputError(
                f"columns {', '.join(header[:8])} name no spectrum and sequence; needed: title or spectrum_index, and "
                "sequence",
                path,
                1,
            )
        for number, cells in enumerate(csv.reader(lines, delimiter=delimiter), 2):
            if not cells:
                continue
            if len(cells) != len(header):
                raise InputError(f"{len(cells)} columns where the header has {len(header)}", path, number)
            yield from dialect(dict(zip(header, cells, strict=True)), name)


def _parquet(path: Path, name: str) -> Iterator[_Row]:
    import pyarrow.parquet as pq
    from pyarrow import ArrowException

    try:
        table = pq.read_table(path)
    except (ArrowException, OSError) as error:
        raise InputError(f"cannot be read as Parquet: {error}", path) from error
    dialect = _dialect(table.column_names)
    if dialect is None:
        raise InputError(
            f"columns {', '.join(table.column_names[:8])} name no spectrum and sequence; needed: title or "
            "spectrum_index, and sequence",
            path,
        )
    for batch in table.to_batches(max_chunksize=20_000):
        columns = {n: batch.column(i).to_pylist() for i, n in enumerate(batch.schema.names)}
        names = list(columns)
        for values in zip(*columns.values(), strict=True):
            yield from dialect(dict(zip(names, values, strict=True)), name)


_Dialect = Callable[[Mapping[str, Any], str], Iterator[_Row]]


def _dialect(header: Sequence[str]) -> _Dialect | None:
    columns = set(header)
    if {"predictions_beam_0", "predictions_log_probability_beam_0"} <= columns:
        return _instanovo_beams
    if {"scan", "output_seq", "output_score"} <= columns:
        return _deepnovo
    if {"TITLE", "DENOVO"} <= columns:
        return _pepnet
    if {"label", "prediction"} <= columns:
        return _primenovo
    if "predictions" in columns and ("log_probs" in columns or "spectrum_id" in columns):
        return _instanovo
    lower = {c.lower(): c for c in header}
    spectrum = next((lower[c] for c in _SPECTRUM if c in lower), None)
    sequence = next((lower[c] for c in _SEQUENCE if c in lower), None)
    if spectrum is None or sequence is None:
        return None
    score = next((lower[c] for c in _SCORE if c in lower), None)
    rank, engine = lower.get("rank"), lower.get("engine")
    kind: Literal["index", "title", "scan"] = "title"
    if spectrum.lower() in {"spectrum_index", "index", "spectrum"}:
        kind = "index"
    elif spectrum.lower() in {"scan", "scan_number"}:
        kind = "scan"

    def generic(row: Mapping[str, Any], name: str) -> Iterator[_Row]:
        value = row[spectrum]
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        yield (
            str(row[engine]) if engine else name,
            (kind if kind != "index" or text.isdigit() else "title", text),
            _int(row[rank]) if rank else None,
            row[sequence],
            _float(row[score]) if score else None,
        )

    return generic


_SPECTRUM: Final = (
    "title",
    "spectrum_title",
    "spectrum_index",
    "index",
    "spectrum_id",
    "spectrum",
    "scan",
    "scan_number",
)
_SEQUENCE: Final = ("proforma", "sequence", "peptide", "modified_sequence", "prediction", "predictions", "peptidoform")
_SCORE: Final = ("score", "log_prob", "log_probs", "confidence", "probability", "search_engine_score", "-10lgp")


def _instanovo_key(row: Mapping[str, Any]) -> Key:
    identity = str(row.get("spectrum_id") or row.get("scan_number"))
    tail = identity.rpartition(":")[2]
    return ("index" if tail.isdigit() else "title", tail)


def _instanovo_beams(row: Mapping[str, Any], name: str) -> Iterator[_Row]:
    key, beam = _instanovo_key(row), 0
    while f"predictions_beam_{beam}" in row:
        sequence = row[f"predictions_beam_{beam}"]
        if sequence:
            yield name, key, beam + 1, sequence, _float(row.get(f"predictions_log_probability_beam_{beam}"))
        beam += 1


def _instanovo(row: Mapping[str, Any], name: str) -> Iterator[_Row]:
    yield name, _instanovo_key(row), None, row["predictions"], _float(row.get("log_probs"))


def _deepnovo(row: Mapping[str, Any], name: str) -> Iterator[_Row]:
    tail = str(row["scan"]).rpartition(":")[2]
    yield (
        name,
        ("index" if ":" in str(row["scan"]) else "scan", tail),
        None,
        row["output_seq"],
        _float(row["output_score"]),
    )


def _pepnet(row: Mapping[str, Any], name: str) -> Iterator[_Row]:
    yield name, ("title", str(row["TITLE"])), None, row["DENOVO"], _float(row.get("Score"))


def _primenovo(row: Mapping[str, Any], name: str) -> Iterator[_Row]:
    yield name, ("title", str(row["label"])), None, row["prediction"], _float(row.get("score"))

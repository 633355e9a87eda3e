"""Delimited text and JSON tables: encoding, delimiter and ragged rows are found out; large files are sampled."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_core.errors import InputError
from rerank_core.files import open_binary
from rerank_schema.tables import Schema, from_frame

if TYPE_CHECKING:
    import pandas as pd

    from rerank_schema.readers.source import Limits

DELIMITERS = (",", "\t", ";", "|")
_SNIFF_LINES = 50
_BLOCK = 1 << 20


def table_name(path: Path) -> str:
    """Return the file's name without its suffixes."""
    name = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem


def read_delimited(path: Path, limits: Limits) -> Schema:
    """Read CSV, TSV and their kin."""
    data, sampled = read_bytes(path, limits.bytes)
    text, encoding = decode(data)
    del data
    notes = []
    if sampled:
        notes.append(f"{path.name}: larger than {limits.bytes >> 20} MiB, sampled")
    if encoding not in ("utf-8", "utf-8-sig"):
        notes.append(f"{path.name}: read as {encoding}")
    frame, ragged = to_frame(text, path, skip_bad=sampled)
    if ragged:
        notes.append(f"{path.name}: {ragged} rows do not have as many cells as the header; short ones were padded")
    return Schema(tuple(from_frame(frame, table_name(path))), str(path), tuple(notes))


def read_bytes(path: Path, limit: int) -> tuple[bytes, bool]:
    """Return a file's bytes, or its head and whole lines of blocks spread over it where it is larger than ``limit``.

    The sample is the same for the same file. Memory stays near ``limit`` whatever the size of the file.
    """
    packed = path.suffix.lower() == ".gz"
    if not packed and path.stat().st_size <= limit:
        return path.read_bytes(), False
    stream_blocks: Iterable[bytes]
    with open_binary(path) as stream:
        head = stream.read(limit if packed else limit // 2)
        if packed:
            rest = stream.read(1)
            if not rest:
                return head, False
            stream_blocks = _reservoir(stream, max(1, limit // 2 // _BLOCK))
            head = head[: limit // 2]
        else:
            stream_blocks = _spread(stream, path.stat().st_size, len(head), max(1, limit // 2 // _BLOCK))
        parts = [head[: head.rfind(b"\n") + 1]]
        parts += [whole for block in stream_blocks if (whole := _whole_lines(block))]
    return b"".join(parts), True


def _whole_lines(block: bytes) -> bytes:
    first, last = block.find(b"\n"), block.rfind(b"\n")
    return block[first + 1 : last + 1] if first < last else b""


def _spread(stream: Any, size: int, start: int, n: int) -> Iterator[bytes]:
    step = max(_BLOCK, (size - start) // n)
    for offset in range(start, size, step):
        stream.seek(offset)
        yield stream.read(_BLOCK)


def _reservoir(stream: Any, n: int) -> list[bytes]:
    import numpy as np

    rng = np.random.default_rng(0)
    kept: list[bytes] = []
    seen = 0
    while block := stream.read(_BLOCK):
        seen += 1
        if len(kept) < n:
            kept.append(block)
        elif (place := int(rng.integers(seen))) < n:
            kept[place] = block
    return kept


def decode(data: bytes) -> tuple[str, str]:
    """Decode bytes whose encoding is unknown.

    UTF-8 (with or without a byte order mark) and UTF-16 with a mark are recognised for sure. A file that is UTF-8 on
    some lines and not on others is decoded line by line, the others as Windows-1252. Anything else is guessed.

    Returns
    -------
    text, encoding
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace"), "utf-16"
    try:
        return data.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        pass
    lines = data.split(b"\n")
    foreign = [line for line in lines if not line.isascii()]
    valid = sum(_is_utf8(line) for line in foreign)
    if valid:
        return "\n".join(_line(x) for x in lines).removeprefix("\ufeff"), "mixed utf-8 and windows-1252"
    # A guess needs something to go by: a few accented letters are as likely under a dozen code pages.
    if sum(byte > 127 for line in foreign for byte in line[:1000]) < 40:
        return data.decode("cp1252", "replace"), "windows-1252"
    from charset_normalizer import from_bytes

    best = from_bytes(b"\n".join(lines[:1] + foreign[:2000])[:_BLOCK]).best()
    encoding = best.encoding if best is not None else "cp1252"
    return data.decode(encoding, "replace"), encoding


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _line(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("cp1252", "replace")


def sniff(text: str, path: Path) -> str:
    """Return the delimiter under which the first lines have the most cells of equal number."""
    if "tsv" in path.name.lower().split("."):
        return "\t"
    lines = [line for line in text[: 1 << 18].splitlines()[:_SNIFF_LINES] if line]
    best, best_key = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        except csv.Error:
            continue
        if widths and widths[0] > 1:
            same = sum(w == widths[0] for w in widths) / len(widths)
            if (same, widths[0]) > best_key:
                best, best_key = delimiter, (same, widths[0])
    return best


def to_frame(text: str, path: Path, *, skip_bad: bool = False, as_text: bool = False) -> tuple[pd.DataFrame, int]:
    """Parse delimited text; returns the frame and how many rows did not fit the header.

    Parameters
    ----------
    skip_bad
        Leave rows of the wrong width out: in a sampled file they are the ends of rows whose start was cut off.
    as_text
        Keep cells as they stand: no numbers, no missing values.
    """
    import pandas as pd

    if not text.strip():
        raise InputError("is empty; a header line is expected", path)
    if "\0" in text:
        text = text.replace("\0", "")
    delimiter = sniff(text, path)
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False} if as_text else {"low_memory": False}
    if not skip_bad and not _wider_than_header(text, delimiter):
        try:
            frame = pd.read_csv(io.StringIO(text), sep=delimiter, index_col=False, **options)
            return frame, 0
        except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError):
            pass  # ragged, or a quote that never closes: the slow way below takes any text
    return _ragged_frame(text, delimiter, skip_bad, options)


def _wider_than_header(text: str, delimiter: str) -> bool:
    """Whether an early row has more cells than the header; pandas would drop its last cells without a word."""
    reader = csv.reader(io.StringIO(text[: 1 << 20]), delimiter=delimiter)
    try:
        header = next(reader)
        return any(len(row) > len(header) for _, row in zip(range(_SNIFF_LINES), reader, strict=False))
    except (csv.Error, StopIteration):
        return True


def _ragged_frame(text: str, delimiter: str, skip_bad: bool, options: dict[str, Any]) -> tuple[pd.DataFrame, int]:
    import pandas as pd

    csv.field_size_limit(1 << 28)
    reader = (row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row)
    header, bad = next(reader), 0
    buffer = io.BytesIO()  # bytes: a StringIO takes four of them a character
    file = io.TextIOWrapper(buffer, encoding="utf-8", errors="surrogatepass", newline="")
    writer = csv.writer(file)
    if skip_bad:  # as they come: a sample is large, and a list of its rows many times that
        writer.writerow(header)
        for row in reader:
            if len(row) == len(header):
                writer.writerow(row)
            else:
                bad += 1
    else:
        body = list(reader)
        bad = sum(len(row) != len(header) for row in body)
        width = max([len(header), *(len(row) for row in body)])
        writer.writerow([*header, *[""] * (width - len(header))])
        writer.writerows([*row, *[""] * (width - len(row))] for row in body)
    file.flush()
    buffer.seek(0)
    return pd.read_csv(buffer, index_col=False, encoding_errors="surrogatepass", **options), bad


def read_json_table(path: Path, limits: Limits) -> Schema:
    """Read a list of objects, JSON lines, or an object that maps table names to lists of objects."""
    import json

    data, sampled = read_bytes(path, limits.bytes)
    lines = any(s in path.name.lower().split(".") for s in ("jsonl", "ndjson"))
    if sampled and not lines:
        raise InputError(f"larger than {limits.bytes >> 20} MiB; write it as JSON lines (.jsonl)", path)
    text, _ = decode(data)
    try:
        value = [json.loads(line) for line in text.splitlines() if line.strip()] if lines else json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not valid JSON: {error.msg}", path, error.lineno) from error
    tables = value if isinstance(value, dict) else {table_name(path): value}
    columns = []
    for name, rows in tables.items():
        if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
            raise InputError("expected a list of objects, or an object of such lists by table name", path)
        columns += from_frame(_records(rows), str(name))
    return Schema(tuple(columns), str(path))


def _records(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    names = list(dict.fromkeys(k for row in rows for k in row))
    return pd.DataFrame({name: [row.get(name) for row in rows] for name in names})

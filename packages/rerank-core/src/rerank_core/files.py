"""Reading and writing files so that errors name a line and nothing is ever half-written."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from rerank_core.errors import InputError


def open_binary(path: str | Path) -> IO[bytes]:
    """Open a file for reading bytes; ``.gz`` is unpacked.

    Raises
    ------
    InputError
        When the file does not exist or cannot be opened.
    """
    p = Path(path)
    try:
        return gzip.open(p, "rb") if p.suffix == ".gz" else p.open("rb")  # type: ignore[return-value]
    except IsADirectoryError as error:
        raise InputError("is a folder, a file was expected", path) from error
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from error


def read_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text without its line end) of a UTF-8 file; ``.gz`` is unpacked.

    Raises
    ------
    InputError
        On invalid UTF-8 or a damaged gzip file, with file and line.
    """
    number = 0
    try:
        with open_binary(path) as file:
            for number, raw in enumerate(file, 1):
                try:
                    yield number, raw.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    byte = error.object[error.start]
                    raise InputError(
                        f"invalid UTF-8 (byte 0x{byte:02x} at column {error.start + 1})", path, number
                    ) from None
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"damaged gzip file after this line: {error}", path, number or 1) from error
    except IsADirectoryError as error:
        raise InputError("is a folder, a file was expected", path) from error


def open_text(path: str | Path) -> TextIO:
    """Open a UTF-8 text file for reading; ``.gz`` is unpacked. Prefer `read_lines`, whose errors name the line."""
    p = Path(path)
    try:
        return gzip.open(p, "rt", encoding="utf-8") if p.suffix == ".gz" else p.open(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from error


def read_jsonl(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file; empty lines are passed over.

    Raises
    ------
    InputError
        When a line is not a JSON object, with file and line.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"not JSON: {error.msg} at column {error.colno}", path, number) from None
        except RecursionError:
            raise InputError("JSON is nested too deeply", path, number) from None
        if not isinstance(value, dict):
            raise InputError(f"a JSON object was expected, not {type(value).__name__}", path, number)
        yield number, value


def read_json(path: str | Path) -> Any:
    """Read one JSON file; ``.gz`` is unpacked.

    Raises
    ------
    InputError
        When it is not JSON, with file and line.
    """
    text = "\n".join(line for _, line in read_lines(path))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg}", path, error.lineno) from None


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success it takes its place, on failure it is removed.

    Parent folders are made. The old file stays whole until the new one is complete and on disk.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", path) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except IsADirectoryError as error:
        raise InputError("is a folder, a file was expected", path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file for writing that appears under its name only when it is complete; ``.gz`` is packed.

    Gzip output carries no time stamp, so that equal content gives equal bytes.
    """
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".gz":
            import io

            with (
                temporary.open("wb") as raw,
                gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
                io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
            ):
                yield text
        else:
            with temporary.open("w", encoding="utf-8", newline="\n") as text:
                yield text


def write_json(path: str | Path, value: Any) -> None:
    """Write one JSON file atomically."""
    with atomic_write(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=1, allow_nan=False)
        file.write("\n")

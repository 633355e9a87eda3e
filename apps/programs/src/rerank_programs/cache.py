"""Outcomes on disk, keyed by what was run on what: data hash, program, limits and engine.

One SQLite file rather than one file an entry: thousands of tiny outcomes are read in one go. Two processes may share
it. Every entry carries a checksum; a damaged entry reads as absent, a damaged file is set aside and started anew.
Timeouts and dead workers are not kept: they may be the machine's fault.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

_SCHEMA = "CREATE TABLE IF NOT EXISTS outcome (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"


class OutcomeCache:
    """Encoded outcomes under 32-byte keys.

    Parameters
    ----------
    path
        The cache's file; it and its folder are made when the first outcome is stored.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return what is there."""
        wanted = set(keys)
        if not self.path.exists() or not wanted:
            return {}
        found: dict[bytes, bytes] = {}
        try:
            with closing(self._connect()) as db:
                ordered = sorted(wanted)
                for start in range(0, len(ordered), 500):
                    part = ordered[start : start + 500]
                    marks = ",".join("?" * len(part))
                    for key, value in db.execute(f"SELECT key, value FROM outcome WHERE key IN ({marks})", part):
                        plain = _open(value)
                        if plain is not None:
                            found[key] = plain
        except sqlite3.DatabaseError:
            self._set_aside()
            return {}
        return found

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Store outcomes, all or none."""
        if not entries:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [(key, _seal(value)) for key, value in entries.items()]
        try:
            self._write(rows)
        except sqlite3.OperationalError:  # locked beyond the wait, read-only, full: a cache may fail to remember
            return
        except sqlite3.DatabaseError:
            self._set_aside()
            self._write(rows)

    def _write(self, rows: list[tuple[bytes, bytes]]) -> None:
        with closing(self._connect()) as db, db:
            db.execute(_SCHEMA)
            db.executemany("INSERT OR REPLACE INTO outcome VALUES (?, ?)", rows)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=10)

    def _set_aside(self) -> None:
        if self.path.exists():
            self.path.replace(self.path.with_suffix(".damaged"))


def _seal(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=8).digest() + zlib.compress(value, 1)


def _open(value: bytes) -> bytes | None:
    try:
        plain = zlib.decompress(value[8:])
    except zlib.error:
        return None
    return plain if hashlib.blake2b(plain, digest_size=8).digest() == value[:8] else None


def hash_data(path: str | Path) -> str:
    """Return the SHA-256 of a data file, or of a folder's file names and contents."""
    root = Path(path)
    files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
    digest = hashlib.sha256()
    for file in files:
        if root.is_dir():
            digest.update(str(file.relative_to(root)).encode() + b"\0")
        with file.open("rb") as f:
            while block := f.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()

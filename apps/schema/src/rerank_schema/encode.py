"""Sentence embeddings of column texts, remembered on disk.

A text's vector depends only on the model and the text, so every vector is kept under the digest of both: a second run
against the same target encodes nothing, and does not even load the model.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]

DEFAULT_MODEL = "all-minilm-l6-v2"


class Encoder(Protocol):
    """Turns texts into unit vectors, shape (n_texts, d)."""

    def fingerprint(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> Vectors: ...


def cache_folder() -> Path:
    """Return the user's cache folder for column vectors."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "rerank" / "schema"


class VectorCache:
    """Vectors by digest in one SQLite file; safe for several processes.

    A damaged file or entry is never trusted: every vector carries its own digest, and what does not fit is encoded
    again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, keys: Sequence[str]) -> dict[str, Vectors]:
        """Return the vectors that are there."""
        found: dict[str, Vectors] = {}
        if not self.path.exists():
            return found
        with suppress(sqlite3.DatabaseError), closing(self._open()) as db:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                for key, digest, data in db.execute(f"SELECT key, digest, data FROM vectors WHERE key IN ({marks})", part):
                    if hashlib.blake2b(data, digest_size=8).hexdigest() == digest:
                        found[key] = np.frombuffer(data, dtype=np.float32)
        return found

    def put(self, vectors: dict[str, Vectors]) -> None:
        """Store vectors; a file that cannot be written only costs time later, so it is not an error."""
        rows = [(k, hashlib.blake2b(v.tobytes(), digest_size=8).hexdigest(), v.tobytes()) for k, v in vectors.items()]
        for attempt in range(2):
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with closing(self._open()) as db, db:
                    db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
                return
            except sqlite3.OperationalError:
                return
            except sqlite3.DatabaseError:
                if attempt == 0:
                    with suppress(OSError):
                        self.path.unlink()
            except OSError:
                return

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=30)
        db.execute("CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, digest TEXT, data BLOB) WITHOUT ROWID")
        return db


class CachedEncoder:
    """An encoder that asks the model only for texts it has not seen."""

    def __init__(self, encoder: Encoder, cache: VectorCache | None) -> None:
        self.encoder, self.cache = encoder, cache

    def fingerprint(self) -> str:
        """Return the model's fingerprint."""
        return self.encoder.fingerprint()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, shape (n_texts, d)."""
        model = self.fingerprint()
        keys = [hashlib.blake2b(f"{model}\0{t}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for t in texts]
        by_key = dict(zip(keys, texts, strict=True))
        known = self.cache.get(list(by_key)) if self.cache else {}
        missing = [k for k in by_key if k not in known]
        if missing:
            fresh = self.encoder.encode([by_key[k] for k in missing])
            new = dict(zip(missing, np.asarray(fresh, dtype=np.float32), strict=True))
            if self.cache:
                self.cache.put(new)
            known |= new
        return np.stack([known[k] for k in keys]) if keys else np.zeros((0, 1), dtype=np.float32)

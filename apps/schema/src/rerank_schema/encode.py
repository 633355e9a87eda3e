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
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rerank_lm.encoders import BiEncoder
    from rerank_lm.encoders.runtime import Precision

Vectors = NDArray[np.float32]

DEFAULT_MODEL = "all-minilm-l6-v2"


class Encoder(Protocol):
    """Turns texts into unit vectors, shape (n_texts, d)."""

    def fingerprint(self) -> str: ...

    def encode(self, texts: Sequence[str]) -> Vectors: ...


class LazyEncoder:
    """A bi-encoder of rerank-lm that is loaded when the first text has to be encoded.

    Parameters
    ----------
    name
        Alias, folder or hub name.
    precision
        ``auto`` computes in bf16 where the CPU can: about three times the speed, cosines off by up to 1e-3.

    Raises
    ------
    ModelNotFound
        When the name leads to no weights.
    """

    def __init__(self, name: str = DEFAULT_MODEL, precision: Precision = "auto") -> None:
        from rerank_lm.encoders.runtime import choose_precision
        from rerank_lm.models import resolve_model

        self.name = name
        self.precision = choose_precision(precision, "cpu")
        self._weights = resolve_model(name).fingerprint()
        self._model: BiEncoder | None = None

    def fingerprint(self) -> str:
        """Return a digest of weights and number format."""
        return f"{self._weights}:{self.precision}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, shape (n_texts, d)."""
        from rerank_lm.encoders import BiEncoder

        if self._model is None:
            self._model = BiEncoder.load(self.name, precision=self.precision)
        return self._model.encode(texts)


def load_encoder(name: str = DEFAULT_MODEL, precision: Precision = "auto", *, cache: bool = True) -> CachedEncoder:
    """Return the encoder of a model name; vectors are remembered in the user's cache folder."""
    return CachedEncoder(
        LazyEncoder(name, precision), VectorCache(cache_folder() / "vectors.sqlite") if cache else None
    )


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
                for key, digest, data in db.execute(
                    f"SELECT key, digest, data FROM vectors WHERE key IN ({marks})", part
                ):
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
        keys = [
            hashlib.blake2b(f"{model}\0{t}".encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for t in texts
        ]
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

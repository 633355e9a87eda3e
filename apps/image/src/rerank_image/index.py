"""A folder of pictures as an index on disk: memory-mapped float16 vectors and a manifest in SQLite.

``vectors-N.f16`` holds the rows, nothing else (little-endian float16, row-major); ``manifest.sqlite`` says how many
of them count, which picture each one is, and how they were made. A writer appends rows, flushes them to disk, and
only then commits them to the manifest in one transaction: killed at any point, the index stays what it was before,
and left-over bytes are cut off by the next writer. Removed pictures leave a hole; when holes outweigh a quarter, the
rows are copied into a new file and the manifest switches over. One writer at a time holds a lock; readers need none.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError, UsageError
from rerank_image.arrays import Matrix
from rerank_image.search import Hits, search

MANIFEST = "manifest.sqlite"
LOCK = "write.lock"
FORMAT = 1
F16 = np.dtype("<f2")

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (
    row INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, sha256 TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL
);
"""


@dataclass(frozen=True)
class Item:
    """One picture of an index: its path as it was given, and what tells whether the file has changed."""

    path: str
    sha256: str = ""
    size: int = 0
    mtime_ns: int = 0


@dataclass(frozen=True)
class Index:
    """An open index; a snapshot, later writes do not show.

    Parameters
    ----------
    vectors
        Rows, shape (n_rows, d), float16, memory-mapped, read-only; rows that are not ``alive`` are holes.
    alive
        Shape (n_rows,).
    fingerprint
        Of the extractor.
    config
        How descriptors were made.
    """

    folder: Path
    vectors: NDArray[np.float16]
    alive: NDArray[np.bool_]
    fingerprint: str
    config: dict[str, Any]
    holes: bool = field(default=False)

    def __len__(self) -> int:
        return int(self.alive.sum())

    @property
    def dims(self) -> int:
        """Dimensions of a descriptor."""
        return int(self.vectors.shape[1])

    def rows(self, ids: NDArray[np.integer]) -> Matrix:
        """Gather rows as float32."""
        return np.asarray(self.vectors[ids], dtype=np.float32)

    def paths(self, ids: Iterable[int]) -> list[str]:
        """Return the paths of rows."""
        with _connect(self.folder) as db:
            if _meta(db)["generation"] != self.config["generation"]:
                raise InputError("was rewritten since it was opened; open it again", self.folder)
            return [_path_of(db, int(i), self.folder) for i in ids]

    def items(self) -> Iterator[tuple[int, str]]:
        """Yield (row, path), by row."""
        with _connect(self.folder) as db:
            yield from db.execute("SELECT row, path FROM items ORDER BY row")

    def search(self, queries: Matrix, k: int, *, threads: int = 1) -> Hits:
        """Find the ``k`` best rows of each query, exactly.

        Blocks are read from the file into a buffer instead of through the map, so that the process stays small.
        """
        if queries.shape[1] != self.dims:
            raise InputError(f"queries have {queries.shape[1]} dimensions, the index {self.dims}", self.folder)
        try:
            descriptor = os.open(vectors_file(self.folder, self.config), os.O_RDONLY)
        except FileNotFoundError:  # compacted by a writer meanwhile; the map still holds the old rows
            return search(queries, self.vectors, min(k, len(self)), alive=self.alive, threads=threads)
        width = self.dims * F16.itemsize

        def read(start: int, stop: int) -> Matrix:
            data = os.pread(descriptor, (stop - start) * width, start * width)
            return np.frombuffer(data, F16).reshape(stop - start, self.dims).astype(np.float32)

        try:
            alive = self.alive if self.holes else None
            return search(queries, self.vectors, min(k, len(self)), alive=alive, threads=threads, read=read)
        finally:
            os.close(descriptor)


def vectors_file(folder: Path, config: dict[str, Any]) -> Path:
    """Return the vectors' file of an index."""
    return folder / f"vectors-{config['generation']}.f16"


@contextmanager
def _connect(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"is no index (no {MANIFEST} in it); make one with: rerank-image index FOLDER -o INDEX", folder
        )
    mode = "rw" if os.access(path, os.W_OK) and os.access(folder, os.W_OK) else "ro"
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, timeout=10)
    try:
        yield db
    except sqlite3.DatabaseError as error:
        raise InputError(f"damaged manifest: {error}; make the index again", path) from None
    finally:
        db.close()


def _path_of(db: sqlite3.Connection, row: int, folder: Path) -> str:
    found = db.execute("SELECT path FROM items WHERE row = ?", (row,)).fetchone()
    if found is None:
        raise InputError(f"row {row} is not in the manifest", folder)
    return str(found[0])


def _meta(db: sqlite3.Connection) -> dict[str, Any]:
    return {k: json.loads(v) for k, v in db.execute("SELECT key, value FROM meta")}


def _set(db: sqlite3.Connection, **values: Any) -> None:
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(k, json.dumps(v)) for k, v in values.items()])


def open_index(folder: str | Path) -> Index:
    """Open an index for reading; memory-mapped, so it takes no longer for a large one.

    Raises
    ------
    InputError
        When it is no index, its manifest is damaged, or its vectors are cut off.
    """
    root = Path(folder)
    with _connect(root) as db:
        meta = _meta(db)
        if meta.get("format") != FORMAT:
            raise InputError(f"index format {meta.get('format')!r} is not {FORMAT}: make the index again", root)
        n, d, count = int(meta["rows"]), int(meta["dims"]), db.execute("SELECT count(*) FROM items").fetchone()[0]
        alive = np.ones(n, dtype=bool)
        if count != n:
            alive[:] = False
            alive[[r for (r,) in db.execute("SELECT row FROM items")]] = True
    path = vectors_file(root, meta)
    have = path.stat().st_size if path.is_file() else 0
    if have < n * d * F16.itemsize:
        raise InputError(
            f"is cut off: {have} bytes where {n} vectors of {d} need {n * d * F16.itemsize}; make the index again", path
        )
    vectors = np.memmap(path, F16, "r", shape=(n, d)) if n else np.zeros((0, d), F16)
    return Index(root, vectors, alive, meta["fingerprint"], meta, holes=count != n)


def create(folder: str | Path, dims: int, fingerprint: str, config: dict[str, Any] | None = None) -> None:
    """Make an empty index.

    Raises
    ------
    InputError
        When something that is no index lies there.
    """
    root = Path(folder)
    if root.exists() and (not root.is_dir() or any(p.name != LOCK for p in root.iterdir())):
        raise InputError("exists already and is not an empty folder", root)
    root.mkdir(parents=True, exist_ok=True)
    vectors_file(root, {"generation": 1}).touch()
    temporary = root / f".{MANIFEST}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    db = sqlite3.connect(temporary)
    with db:
        db.executescript(_SCHEMA)
        _set(db, format=FORMAT, dims=dims, rows=0, generation=1, fingerprint=fingerprint, extractor=config or {})
    db.close()
    temporary.replace(root / MANIFEST)


@contextmanager
def writer(folder: str | Path) -> Iterator[Writer]:
    """Lock an index for writing.

    Raises
    ------
    UsageError
        When another process is writing to it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError("is no index", root)
    handle = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{root}: another process is writing to this index; wait until it is done") from None
        yield Writer(root)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Writer:
    """Changes an index; made by [`writer`][rerank_image.index.writer]."""

    folder: Path

    def known(self) -> dict[str, Item]:
        """Return the pictures in the index by path."""
        with _connect(self.folder) as db:
            rows = db.execute("SELECT path, sha256, size, mtime_ns FROM items")
            return {r[0]: Item(*r) for r in rows}

    def append(self, items: Sequence[Item], vectors: NDArray[Any], fingerprint: str) -> None:
        """Add pictures; a path that is there already is replaced. All of them or, on failure, none.

        Raises
        ------
        InputError
            When the vectors come from another extractor or are not finite.
        """
        if not len(items):
            return
        with _connect(self.folder) as db:
            meta = _meta(db)
            if meta["fingerprint"] != fingerprint:
                raise InputError(
                    "was made by another extractor (other weights, size, scales or pooling); their descriptors cannot "
                    "be mixed: make a new index",
                    self.folder,
                )
            rows = np.asarray(vectors, dtype=np.float32)
            if rows.shape != (len(items), meta["dims"]):
                raise InputError(
                    f"{rows.shape} vectors for {len(items)} pictures of {meta['dims']} dimensions", self.folder
                )
            bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if bad.size:
                raise InputError(f"the descriptor of {items[int(bad[0])].path} holds NaN or infinity", self.folder)
            start = int(meta["rows"])
            self._write(vectors_file(self.folder, meta), start * meta["dims"], rows)
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.executemany("DELETE FROM items WHERE path = ?", [(i.path,) for i in items])
                db.executemany(
                    "INSERT INTO items VALUES (?, ?, ?, ?, ?)",
                    [(start + n, i.path, i.sha256, i.size, i.mtime_ns) for n, i in enumerate(items)],
                )
                _set(db, rows=start + len(items))
        self._compact()

    @staticmethod
    def _write(path: Path, offset: int, rows: Matrix) -> None:
        with path.open("r+b") as file:
            file.truncate(offset * F16.itemsize)  # what a killed writer left behind
            file.seek(offset * F16.itemsize)
            rows.astype(F16).tofile(file)
            file.flush()
            os.fsync(file.fileno())

    def touch(self, items: Iterable[Item]) -> None:
        """Remember new modification times of unchanged files."""
        with _connect(self.folder) as db, db:
            db.executemany(
                "UPDATE items SET mtime_ns = ?, size = ? WHERE path = ?", [(i.mtime_ns, i.size, i.path) for i in items]
            )

    def remove(self, paths: Iterable[str]) -> int:
        """Take pictures out; returns how many were there."""
        with _connect(self.folder) as db, db:
            gone = sum(db.execute("DELETE FROM items WHERE path = ?", (p,)).rowcount for p in paths)
        self._compact()
        return gone

    def _compact(self, share: float = 0.25) -> None:
        """Copy the living rows into a new file when more than a share of the rows are holes."""
        with _connect(self.folder) as db:
            meta = _meta(db)
            keep = [r for (r,) in db.execute("SELECT row FROM items ORDER BY row")]
            if len(keep) >= (1 - share) * meta["rows"]:
                return
            old, new = (
                vectors_file(self.folder, meta),
                vectors_file(self.folder, {"generation": meta["generation"] + 1}),
            )
            source = np.memmap(old, F16, "r", shape=(meta["rows"], meta["dims"]))
            with new.open("wb") as file:
                for start in range(0, len(keep), 65536):
                    source[keep[start : start + 65536]].tofile(file)
                file.flush()
                os.fsync(file.fileno())
            with db:
                db.execute("BEGIN IMMEDIATE")
                # through negative numbers: row numbers are unique at every moment
                db.executemany("UPDATE items SET row = ? WHERE row = ?", [(-1 - i, r) for i, r in enumerate(keep)])
                db.execute("UPDATE items SET row = -1 - row")
                _set(db, rows=len(keep), generation=meta["generation"] + 1)
        with suppress(OSError):  # a reader on another system may still hold it; it costs space only
            old.unlink()


@dataclass
class Report:
    """What a build did: counts and (path, reason) of what was skipped."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON shows it."""
        return asdict(self)


def add_pictures(
    index: Writer,
    files: Sequence[Path],
    describe: Callable[[Sequence[Path]], tuple[Matrix, list[tuple[int, str]]]],
    fingerprint: str,
    batch: int = 32,
    note: Callable[[int, int], None] | None = None,
) -> Report:
    """Bring pictures into an index; only new and changed ones are described, and every batch is committed.

    Parameters
    ----------
    describe
        ``describe(paths) -> (descriptors of the readable ones, [(position, reason)] of the others)``.
    note
        Called with (done, total) after each batch.
    """
    from rerank_image.pictures import sha256

    known, report = index.known(), Report()
    pending: list[tuple[Path, Item]] = []
    touched: list[Item] = []
    for path in files:
        try:
            str(path).encode("utf-8")  # the manifest holds text
            status = path.stat()
            old = known.get(str(path))
            if old and (old.size, old.mtime_ns) == (status.st_size, status.st_mtime_ns):
                report.unchanged += 1
                continue
            item = Item(str(path), sha256(path), status.st_size, status.st_mtime_ns)
        except (OSError, ValueError) as error:
            report.skipped.append((str(path), getattr(error, "strerror", None) or str(error)))
            continue
        if old and old.sha256 == item.sha256:
            touched.append(item)
            report.unchanged += 1
        else:
            pending.append((path, item))
    if touched:
        index.touch(touched)
    for start in range(0, len(pending), batch):
        part = pending[start : start + batch]
        vectors, failures = describe([p for p, _ in part])
        failed = dict(failures)
        good = [item for i, (_, item) in enumerate(part) if i not in failed]
        report.skipped.extend((str(part[i][0]), reason) for i, reason in failures)
        index.append(good, vectors, fingerprint)
        report.changed += sum(i.path in known for i in good)
        report.added += sum(i.path not in known for i in good)
        if note:
            note(min(start + batch, len(pending)), len(pending))
    return report

"""The field's files: ground truth (JSON, revisitop pickles, class folders, GLDv2 CSV), matrices, rankings."""

from __future__ import annotations

import csv
import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError
from rerank_core.files import atomic_path, read_json
from rerank_image.arrays import Matrix
from rerank_image.revisited import Truth
from rerank_image.search import Hits


@dataclass(frozen=True)
class GroundTruth:
    """Pictures and what is known of each query.

    Parameters
    ----------
    images, queries
        Names of the database pictures (rows) and of the queries.
    truths
        One a query.
    open
        Whether there may be more pictures than are named (a plain list of right rows says only so much).
    """

    images: tuple[str, ...]
    queries: tuple[str, ...]
    truths: tuple[Truth, ...]
    open: bool = False

    def covering(self, n: int) -> GroundTruth:
        """Return it with at least ``n`` pictures, if it is open; names are row numbers."""
        if not self.open or n <= len(self.images):
            return self
        return replace(self, images=tuple(map(str, range(n))))

    def gold(self) -> dict[str, dict[str, float]]:
        """Gains by name: easy 2, hard 1; junk is not in it."""
        return {
            q: {self.images[i]: 2.0 for i in t.easy} | {self.images[i]: 1.0 for i in t.hard}
            for q, t in zip(self.queries, self.truths, strict=True)
        }


# -- ground truth --------------------------------------------------------------------------------------------------


def read_truth(path: str | Path) -> GroundTruth:
    """Read a ground truth: revisitop's pickle (.pkl), the same as JSON, or a folder with one subfolder a class.

    A JSON list with one list of right rows a query (as place recognition has it) counts them all as easy.

    Raises
    ------
    InputError
        When it does not have the layout ``{imlist, qimlist, gnd: [{easy, hard, junk, bbx}]}``, with what is wrong.
    """
    p = Path(path)
    if p.is_dir():
        return class_folders(p)
    return truth_of(load_pickle(p) if p.suffix in (".pkl", ".pickle") else read_json(p), p)


def truth_of(value: Any, path: str | Path) -> GroundTruth:
    """Check and convert the revisitop layout; old ``ok`` lists count as easy."""
    if isinstance(value, list):
        entries = [{"easy": rows} for rows in value]
        n = max((int(i) + 1 for e in value if isinstance(e, list) for i in e if isinstance(i, int)), default=0)
        names, queries = tuple(map(str, range(n))), tuple(map(str, range(len(value))))
        return GroundTruth(names, queries, tuple(_truth(e, i, n, path) for i, e in enumerate(entries)), open=True)
    if not isinstance(value, Mapping):
        raise InputError(f"expected an object with imlist, qimlist and gnd, not {type(value).__name__}", path)
    missing = [k for k in ("imlist", "qimlist", "gnd") if k not in value]
    if missing:
        raise InputError(f"has no {missing[0]!r}; expected imlist, qimlist and gnd", path)
    images, queries = tuple(map(str, value["imlist"])), tuple(map(str, value["qimlist"]))
    entries = value["gnd"]
    if len(entries) != len(queries):
        raise InputError(f"{len(entries)} entries in gnd for {len(queries)} queries", path)
    return GroundTruth(images, queries, tuple(_truth(e, i, len(images), path) for i, e in enumerate(entries)))


def _truth(entry: Any, number: int, n: int, path: str | Path) -> Truth:
    if not isinstance(entry, Mapping):
        raise InputError(f"gnd[{number}] is not an object", path)
    lists: dict[str, tuple[int, ...]] = {}
    for key in ("easy", "hard", "junk"):
        raw = entry.get(key, entry.get("ok", ()) if key == "easy" else ())
        try:
            ids = tuple(int(i) for i in raw)
        except (TypeError, ValueError):
            raise InputError(f"gnd[{number}].{key} is not a list of row numbers", path) from None
        bad = [i for i in ids if not 0 <= i < n]
        if bad:
            raise InputError(f"gnd[{number}].{key} names row {bad[0]}, but imlist has {n} pictures", path)
        lists[key] = ids
    box = entry.get("bbx")
    if box is not None:
        corners = tuple(float(v) for v in box)
        if len(corners) != 4:
            raise InputError(f"gnd[{number}].bbx needs four numbers [x0, y0, x1, y1]", path)
        return Truth(lists["easy"], lists["hard"], lists["junk"], corners)
    return Truth(lists["easy"], lists["hard"], lists["junk"])


def class_folders(folder: Path) -> GroundTruth:
    """Every picture is a query; the others of its subfolder are its positives, the picture itself is junk."""
    from rerank_image.pictures import find_pictures

    files = [f for f in find_pictures(folder).files if f.parent != folder]
    if not files:
        raise InputError("holds no subfolders with pictures (one subfolder a class is expected)", folder)
    names = tuple(f.relative_to(folder).as_posix() for f in files)
    classes: dict[str, list[int]] = {}
    for i, f in enumerate(files):
        classes.setdefault(f.relative_to(folder).parts[0], []).append(i)
    truths = tuple(
        Truth(easy=tuple(j for j in classes[f.relative_to(folder).parts[0]] if j != i), junk=(i,))
        for i, f in enumerate(files)
    )
    return GroundTruth(names, names, truths)


# Only what the published ground-truth files need: containers and numbers are the pickle machine's own opcodes.
_ALLOWED: dict[tuple[str, str], Any] = {}


def _allowed() -> dict[tuple[str, str], Any]:
    if not _ALLOWED:
        from numpy._core import multiarray

        for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            _ALLOWED[module, "_reconstruct"] = multiarray._reconstruct
            _ALLOWED[module, "scalar"] = multiarray.scalar
        _ALLOWED["numpy", "ndarray"] = np.ndarray
        _ALLOWED["numpy", "dtype"] = np.dtype
        _ALLOWED["_codecs", "encode"] = _encode_latin1
    return _ALLOWED


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """What pickles of protocol 2 call to write bytes; no other codec is let through."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"codec {encoding!r} is not allowed")
    return text.encode("latin1")


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _allowed()[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed") from None


def load_pickle(path: str | Path) -> Any:
    """Load a pickle of plain containers, numbers and numeric arrays; anything that names other code is refused.

    Raises
    ------
    InputError
        When the file is damaged or asks for a function or class; nothing of it is executed.
    """
    data = _bytes(path)
    try:
        return _Restricted(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise InputError(f"pickle refused: {error}", path) from None
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything; it is the file's fault
        raise InputError(f"damaged pickle: {type(error).__name__}: {error}", path) from None


def _bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from error


# -- matrices and rankings -----------------------------------------------------------------------------------------


def read_matrix(path: str | Path, key: str | None = None) -> NDArray[Any]:
    """Read a matrix of shape (n, d): .npy (memory-mapped), .npz with ``key``, or revisitop's .mat (stored d x n).

    Raises
    ------
    InputError
        When the file is damaged, cut off, holds objects, or does not have the key.
    """
    p = Path(path)
    try:
        if p.suffix == ".mat":
            return _mat(p, key)
        if p.suffix == ".npz":
            with np.load(p, allow_pickle=False) as archive:
                names = list(archive.files)
                name = key or (names[0] if len(names) == 1 else "")
                if name not in names:
                    raise InputError(f"holds {', '.join(names)}; say which, as FILE.npz:NAME", path)
                return archive[name]
        return np.load(p, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        raise InputError(f"cannot be read as a matrix: {error}", path) from None


def read_named_matrix(spec: str) -> NDArray[Any]:
    """Read ``FILE`` or ``FILE:KEY``."""
    head, colon, key = spec.rpartition(":")
    if colon and Path(head).suffix in (".npz", ".mat"):
        return read_matrix(head, key)
    return read_matrix(spec)


def _mat(path: Path, key: str | None) -> NDArray[Any]:
    from scipy.io import loadmat

    content = loadmat(path)
    names = [k for k in content if not k.startswith("__")]
    name = key or ("X" if "X" in names else names[0] if len(names) == 1 else "")
    if name not in names:
        raise InputError(f"holds {', '.join(names)}; say which, as FILE.mat:NAME", path)
    return np.ascontiguousarray(content[name].T)


def write_ranks(path: str | Path, hits: Hits, info: Mapping[str, Any] | None = None) -> None:
    """Write rankings: ``ranks`` int64 and ``scores`` float32, both (n_queries, length); ``info`` is JSON text."""
    import json

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, ranks=hits.ids.astype(np.int64), scores=hits.scores, info=np.array(json.dumps(dict(info or {}))))


def read_ranks(path: str | Path) -> Hits:
    """Read rankings written by [`write_ranks`][rerank_image.data.write_ranks].

    Raises
    ------
    InputError
        When the file is damaged or holds no integer matrix ``ranks``.
    """
    ranks = read_matrix(path, "ranks")
    if ranks.ndim != 2 or ranks.dtype.kind not in "iu":
        raise InputError(
            f"ranks must be whole numbers of shape (n_queries, length), not {ranks.dtype} {ranks.shape}", path
        )
    try:
        scores: Matrix = read_matrix(path, "scores").astype(np.float32)
    except InputError:
        scores = -np.broadcast_to(np.arange(ranks.shape[1], dtype=np.float32), ranks.shape)
    if scores.shape != ranks.shape:
        raise InputError(f"scores have shape {scores.shape}, ranks {ranks.shape}", path)
    return Hits(ranks.astype(np.int64), scores)


def hits_of_run(run: Mapping[str, Mapping[str, float]], truth: GroundTruth, path: str | Path) -> Hits:
    """Turn a TREC run over picture names into rows; shorter rankings are padded with -1."""
    row = {name: i for i, name in enumerate(truth.images)}
    lists: list[list[int]] = []
    for query in truth.queries:
        docs = run.get(query, {})
        unknown = next((d for d in docs if d not in row), None)
        if unknown is not None:
            raise InputError(f"query {query} ranks {unknown!r}, which the ground truth does not list", path)
        lists.append([row[d] for d, _ in sorted(docs.items(), key=lambda x: (-x[1], row[x[0]]))])
    width = max((len(x) for x in lists), default=0)
    ids = np.full((len(lists), width), -1, dtype=np.int64)
    for i, x in enumerate(lists):
        ids[i, : len(x)] = x
    return Hits(ids, -np.broadcast_to(np.arange(width, dtype=np.float32), ids.shape))


# -- Google Landmarks v2 -------------------------------------------------------------------------------------------


def read_landmarks(path: str | Path) -> dict[str, set[str]]:
    """Read a GLDv2 retrieval solution: CSV with columns id and images (space-separated; ``None`` is ignored)."""
    return {q: set(images) for q, images in _landmark_rows(path, ("images",)).items()}


def read_submission(path: str | Path) -> dict[str, list[str]]:
    """Read a GLDv2 retrieval submission: CSV with columns id and images, best first."""
    return _landmark_rows(path, ("images", "predictions"))


def _landmark_rows(path: str | Path, columns: Sequence[str]) -> dict[str, list[str]]:
    text = _bytes(path).decode("utf-8", errors="replace")
    reader = csv.DictReader(io.StringIO(text))
    names = reader.fieldnames or []
    column = next((c for c in columns if c in names), None)
    if "id" not in names or column is None:
        raise InputError(f"expected the columns id and {columns[0]}, found {', '.join(names) or 'none'}", path, 1)
    out: dict[str, list[str]] = {}
    for row in reader:
        if row["id"] in out:
            raise InputError(f"query {row['id']!r} occurs twice", path, reader.line_num)
        images = (row[column] or "").split()
        if images != ["None"]:
            out[row["id"]] = images
    return out

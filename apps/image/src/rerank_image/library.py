"""What the commands do with folders of pictures: build, search, explain, show."""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rerank_core.errors import InputError, UsageError
from rerank_image.arrays import Matrix
from rerank_image.explain import explain, sentence
from rerank_image.extract import ExtractConfig, Extractor, extract_config, load_extractor
from rerank_image.index import MANIFEST, Index, Report, add_pictures, create, open_index, writer
from rerank_image.methods import METHODS, rank, split_settings
from rerank_image.pictures import SUFFIXES, crop, find_pictures, one_line, open_picture
from rerank_image.search import Hits
from rerank_image.sheet import Cell, Strip, write_html
from rerank_image.superglobal import SuperGlobalParams

if TYPE_CHECKING:
    from PIL import Image


def build(folder: Path, out: Path, config: ExtractConfig | None, *, threads: int = 1, prune: bool = False) -> Report:
    """Bring a folder's pictures into an index, made if it does not exist.

    Parameters
    ----------
    config
        How to describe; None takes the index's own.
    prune
        Whether pictures of this folder that are gone leave the index.

    Raises
    ------
    InputError
        When the folder has no pictures, or the index was made by another extractor.
    """
    found = find_pictures(folder)
    if not found.files:
        why = f" ({len(found.problems)} could not be read)" if found.problems else ""
        raise InputError(f"holds no pictures{why}; known suffixes: {', '.join(sorted(SUFFIXES))}", folder)
    new = not (out / MANIFEST).is_file()
    if config is None:
        config = extract_config(open_index(out).config["extractor"])
    extractor = load_extractor(config)
    if new:
        create(out, dims_of(extractor), extractor.fingerprint, asdict(config))
    elif open_index(out).fingerprint != extractor.fingerprint:
        raise InputError("was made by another extractor; descriptors cannot be mixed: choose another folder", out)
    with writer(out) as lock:
        report = add_pictures(
            lock, found.files, lambda p: describe_files(extractor, p, threads), extractor.fingerprint, note=_progress
        )
        if prune:
            root, have = str(folder).rstrip("/") + "/", {str(f) for f in found.files}
            lock.remove([p for p in lock.known() if p.startswith(root) and p not in have])
    report.skipped.extend((str(p), reason) for p, reason in found.problems)
    if not len(open_index(out)):
        raise InputError(f"none of its {len(found.files)} pictures could be read", folder)
    return report


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def dims_of(extractor: Extractor) -> int:
    """Find the dimensions of a descriptor by describing a grey picture."""
    from PIL import Image

    return int(extractor.describe([Image.new("RGB", (64, 64), (127, 127, 127))]).shape[1])


def describe_files(
    extractor: Extractor, paths: Sequence[Path], threads: int = 1
) -> tuple[Matrix, list[tuple[int, str]]]:
    """Describe files in parallel, one thread each, so that the number of threads changes no bit of a descriptor."""

    def one(path: Path) -> Matrix | str:
        try:
            return extractor.describe([open_picture(path)])[0]
        except InputError as error:
            return str(error).removeprefix(f"{path}:").strip()

    with ThreadPoolExecutor(max(1, threads)) as pool:
        results = list(pool.map(one, paths))
    good = [r for r in results if not isinstance(r, str)]
    failures = [(i, r) for i, r in enumerate(results) if isinstance(r, str)]
    return (np.stack(good) if good else np.zeros((0, 0), np.float32)), failures


def take_out(folder: Path, paths: Sequence[Path]) -> int:
    """Remove pictures, or everything below folders, from an index."""
    with writer(folder) as lock:
        known = lock.known()
        names = [str(p).rstrip("/") for p in paths]
        gone = [k for k in known if any(k == n or k.startswith(n + "/") for n in names)]
        return lock.remove(gone)


def first_stage(index: Index, queries: Matrix, k: int, *, fast: bool = False, threads: int = 1) -> Hits:
    """Search exactly, or by the quantised copy with exact rescoring."""
    if not len(index):
        raise InputError("is empty: add pictures first", index.folder)
    if not fast:
        return index.search(queries, k, threads=threads)
    from rerank_image.fast import load_fast, search_fast

    return search_fast(index, load_fast(index), queries, k, threads)


def rerank_hits(index: Index, queries: Matrix, first: Hits, method: str, settings: Mapping[str, Any]) -> Hits:
    """Rerank each query's own candidate list, gathered from the index; every method works on a list alone."""
    if method == "none":
        return first
    ids, scores = np.empty_like(first.ids), np.empty_like(first.scores)
    for q, candidates in enumerate(first.ids):
        local = rank(method, queries[q : q + 1], index.rows(candidates), top=len(candidates), settings=settings)
        ids[q], scores[q] = candidates[local.ids[0]], local.scores[0]
    return Hits(ids, scores)


def choose_for(index: Index, method: str, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Resolve ``auto`` on a sample of the index; other names stay."""
    if method != "auto":
        split_settings(settings)
        if method not in METHODS:
            raise UsageError(f"unknown method {method!r}; methods: {', '.join([*METHODS, 'auto'])}")
        return method, dict(settings)
    from rerank_image.auto import choose, sample_rows

    alive = np.flatnonzero(index.alive)
    choice = choose(index.rows(alive[sample_rows(len(alive))]))
    print(choice.explain(), file=sys.stderr)
    return choice.method, {**choice.settings, **settings}


def describe_queries(
    index: Index, pictures: Sequence[Path], boxes: Sequence[Sequence[float] | None], threads: int
) -> Matrix:
    """Describe query pictures as the index's were; a query that cannot be read is an error."""
    extractor = load_extractor(extract_config(index.config["extractor"]))
    if extractor.fingerprint != index.fingerprint:
        raise InputError(
            "was made with other weights than are installed here; its descriptors do not compare", index.folder
        )
    images = []
    for path, box in zip(pictures, boxes, strict=True):
        image = open_picture(path)
        images.append(image if box is None else crop(image, box, path))
    with ThreadPoolExecutor(max(1, threads)) as pool:
        return np.concatenate(list(pool.map(lambda image: extractor.describe([image]), images)))


def parse_box(text: str | None) -> list[float] | None:
    """Parse ``x0,y0,x1,y1``."""
    if text is None:
        return None
    try:
        values = [float(v) for v in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise UsageError(f"--box is x0,y0,x1,y1 in pixels, not {text!r}")
    return values


def search_pictures(
    folder: Path,
    pictures: Sequence[Path],
    *,
    top: int = 400,
    method: str = "superglobal",
    fast: bool = False,
    box: str | None = None,
    explain: bool = False,
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Search with pictures and rerank; one object a query, with path, rank, rank before, score and reason a result."""
    index = open_index(folder)
    name, chosen = choose_for(index, method, settings or {})
    if explain and name != "superglobal":
        raise UsageError(f"--explain works with --method superglobal, not {name}")
    queries = describe_queries(index, pictures, [parse_box(box)] * len(pictures), threads)
    first = first_stage(index, queries, top, fast=fast, threads=threads)
    final = rerank_hits(index, queries, first, name, chosen)
    out = []
    for q, path in enumerate(pictures):
        paths = index.paths(final.ids[q])
        was = {int(i): n + 1 for n, i in enumerate(first.ids[q])}
        results = [
            {"rank": n + 1, "path": p, "score": float(s), "was": was[int(i)], "row": int(i)}
            for n, (p, i, s) in enumerate(zip(paths, final.ids[q], final.scores[q], strict=True))
        ]
        if explain:
            _reasons(index, queries[q], first.ids[q], results, chosen)
        out.append({"query": str(path), "method": name, "results": results})
    return out


def _reasons(
    index: Index, query: Matrix, candidates: Any, results: list[dict[str, Any]], settings: Mapping[str, Any]
) -> None:
    rows = index.rows(candidates)
    names = [Path(p).name for p in index.paths(candidates)]
    at = {int(i): n for n, i in enumerate(candidates)}
    for r in results[:50]:
        r["reason"] = sentence(explain(query, rows, at[r["row"]], SuperGlobalParams(**settings)), names)


def explain_picture(
    folder: Path,
    picture: Path,
    result: Path,
    *,
    top: int = 400,
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Take one result's score apart."""
    index = open_index(folder)
    queries = describe_queries(index, [picture], [None], threads)
    first = index.search(queries, top, threads=threads)
    paths = index.paths(first.ids[0])
    if str(result) not in paths:
        raise InputError(f"is not among the first {len(paths)} results", result)
    params = METHODS["superglobal"].configure(settings or {})
    e = explain(queries[0], index.rows(first.ids[0]), paths.index(str(result)), params)
    neighbours = [
        {"path": paths[s.candidate], "weight": s.weight, "similarity": s.similarity, "contribution": s.contribution}
        for s in e.shares
    ]
    return {
        "path": str(result), "was": e.before_rank + 1, "rank": e.rank + 1, "before": e.before, "score": e.score,
        "neighbours": neighbours,
    }  # fmt: skip


# -- the contact sheet ---------------------------------------------------------------------------------------------


def write_sheet(
    folder: Path,
    queries: Path,
    out: Path,
    *,
    method: str = "superglobal",
    top: int = 400,
    show: int = 10,
    gnd: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    threads: int = 1,
) -> int:
    """Write the contact sheet of all query pictures; returns how many."""
    index = open_index(folder)
    name, chosen = choose_for(index, method, settings or {})
    files, boxes, labels = _queries(queries, gnd)
    vectors = describe_queries(index, files, boxes, threads)
    first = first_stage(index, vectors, top, threads=threads)
    final = rerank_hits(index, vectors, first, name, chosen)
    strips = (
        Strip(path.name, _query_picture(path, boxes[q]), *_cells(index, first, final, q, show, labels[q]))
        for q, path in enumerate(files)
    )
    return write_html(out, strips, _try_open, f"{method} on {folder.name}")


def _query_picture(path: Path, box: Sequence[float] | None) -> Image.Image:
    image = open_picture(path)
    return image if box is None else crop(image, box, path)


def _try_open(path: str) -> Image.Image | None:
    try:
        return open_picture(path)
    except InputError as error:
        print(f"no thumbnail: {one_line(str(error))}", file=sys.stderr)
        return None


def _queries(
    queries: Path, gnd: Path | None
) -> tuple[list[Path], list[Sequence[float] | None], list[Mapping[str, str] | None]]:
    if gnd is None:
        found = [queries] if queries.is_file() else find_pictures(queries).files
        if not found:
            raise InputError("holds no pictures", queries)
        return found, [None] * len(found), [None] * len(found)
    from rerank_image.data import read_truth

    truth = read_truth(gnd)
    files: list[Path] = []
    labels: list[Mapping[str, str] | None] = []
    judged = {Path(name).stem: "negative" for name in truth.images}  # others, the query itself say, are unlabelled
    for name, t in zip(truth.queries, truth.truths, strict=True):
        path = queries / name if (queries / name).is_file() else queries / f"{name}.jpg"
        if not path.is_file():
            raise InputError(f"holds no picture {name!r}, which the ground truth names as a query", queries)
        files.append(path)
        kinds = {"easy": t.easy, "hard": t.hard, "junk": t.junk}
        own = {Path(truth.images[i]).stem: kind for kind, rows in kinds.items() for i in rows}
        labels.append(ChainMap(own, judged))
    return files, [t.bbx for t in truth.truths], labels


def _cells(
    index: Index, first: Hits, final: Hits, q: int, show: int, labels: Mapping[str, str] | None
) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
    before = {int(i): n + 1 for n, i in enumerate(first.ids[q])}
    after = {int(i): n + 1 for n, i in enumerate(final.ids[q])}

    def cells(hits: Hits) -> tuple[Cell, ...]:
        ids = hits.ids[q][:show]
        rows = zip(index.paths(ids), ids.tolist(), hits.scores[q][:show].tolist(), strict=True)
        return tuple(Cell(p, before[i], after[i], s, _label(labels, p)) for p, i, s in rows)

    return cells(first), cells(final)


def _label(labels: Mapping[str, str] | None, path: str) -> str:
    return "" if labels is None else labels.get(Path(path).stem, "")

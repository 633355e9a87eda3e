"""Training lists as flat arrays on disk: made once by several processes, memory-mapped, padded when drawn.

A shard is a folder of ``.npy`` files that holds the lists of one batch of spectra. Arrays of different levels (lists,
candidates, tokens, peaks) are joined by offsets, so that a list of any shape costs what it holds. Shards are written
atomically and found again: an interrupted preparation goes on where it stopped, and a collection larger than memory
trains from the page cache.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError
from rerank_core.files import read_json, write_json
from rerank_peptide.config import FitAxial
from rerank_peptide.evidence import N_SITE, N_SUMMARY, evidence
from rerank_peptide.lists import Example, Task, build, tasks
from rerank_peptide.masses import token_mass
from rerank_peptide.matching import pmd, rmd

Arrays = dict[str, NDArray[Any]]


def pack(lists: Sequence[Example], max_peaks: int, kinds: Sequence[str]) -> Arrays:
    """Turn lists into flat arrays.

    Returns
    -------
    Per list: ``mass``, ``charge``, ``group`` (a 32-bit digest), ``kind``, ``peak_start`` and ``row_start`` (one longer);
    per candidate: ``pmd``, ``match``, ``summary`` (44), ``token_start`` (one longer); per token: ``token``, ``rmd``, ``site``
    (37); per peak: ``peak`` (m/z, intensity).
    """
    from rerank_peptide.axial import preprocess, tokenise

    out: dict[str, list[Any]] = {k: [] for k in ("peak", "pmd", "match", "summary", "token", "rmd", "site")}
    n_peaks, n_rows, lengths = [0], [0], [0]
    for e in lists:
        spectrum, contents = e.request.query, [c.content for c in e.request.candidates]
        out["peak"].append(preprocess(spectrum, max_peaks))
        sites, summary = evidence(spectrum, contents)
        truth = np.array([token_mass(t) for t in e.truth])
        masses = [np.array([token_mass(t) for t in c]) for c in contents]
        out["pmd"].append([pmd(m, truth) for m in masses])
        out["rmd"] += [rmd(m, truth) for m in masses]
        out["match"].append(e.gains())
        out["summary"].append(summary)
        out["token"] += [tokenise([c])[0, 1:] for c in contents]
        out["site"] += sites
        n_peaks.append(len(out["peak"][-1]))
        n_rows.append(len(contents))
        lengths += [len(c) for c in contents]
    types = {"peak": "f4", "pmd": "f4", "match": "i1", "summary": "f4", "token": "i1", "rmd": "f4", "site": "f2"}
    arrays = {k: np.concatenate(v).astype(types[k]) for k, v in out.items()}
    return arrays | {
        "mass": np.array([e.request.query.mass for e in lists]),
        "charge": np.array([e.request.query.charge for e in lists], np.int8),
        "group": np.array([zlib.crc32(e.group.encode()) for e in lists], np.uint32),
        "kind": np.array([kinds.index(e.kind) for e in lists], np.int8),
        "peak_start": np.cumsum(n_peaks),
        "row_start": np.cumsum(n_rows),
        "token_start": np.cumsum(lengths),
    }


def _make(task: Task, folder: Path, kinds: Sequence[str], seed: int, max_peaks: int) -> int:
    lists = build(task, kinds, seed)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    if lists:
        for name, array in pack(lists, max_peaks, kinds).items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
    write_json(temporary / "shard.json", {"lists": len(lists)})
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    return len(lists)


def prepare(config: FitAxial, folder: Path, kinds: Sequence[str]) -> ListStore:
    """Make what is missing of a configuration's shards, with ``config.workers`` processes, and open them.

    Raises
    ------
    InputError
        When the folder holds the lists of another configuration.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {
        "real": [r.model_dump(mode="json") for r in config.real], "seed": config.seed, "kinds": list(kinds),
        "simulated": None if config.simulated is None else config.simulated.model_dump(mode="json"),
        "max_peaks": config.max_peaks,
    }  # fmt: skip
    note = folder / "lists.json"
    if note.is_file() and read_json(note) != wanted:
        raise InputError("holds the lists of other data or settings; give another output folder", folder)
    write_json(note, wanted)
    begun, made = time.monotonic(), 0
    for n in _run(config, folder, kinds):
        made += n
        print(f"{made} lists made ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)
    return ListStore.open(folder)


def _run(config: FitAxial, folder: Path, kinds: Sequence[str]) -> Iterator[int]:
    todo = (t for t in tasks(config) if not (folder / f"{t.number:06d}" / "shard.json").is_file())
    arguments = (kinds, config.seed, config.max_peaks)
    if config.workers < 2:
        for task in todo:
            yield _make(task, folder / f"{task.number:06d}", *arguments)
        return
    # Forked after the compiled functions are loaded here, so that no worker compiles them again; LightGBM, whose
    # threads do not survive a fork, is left to the workers.
    first = next(todo, None)
    if first is None:
        return
    one = replace(first, file=replace(first.file, spectra=first.file.spectra[:1]))
    pack(build(one, ("graph", "mutated"), config.seed), config.max_peaks, ("graph", "mutated"))
    with ProcessPoolExecutor(config.workers, mp_context=get_context("fork")) as pool:
        waiting: list[Future[int]] = []
        for task in chain((first,), todo):
            waiting.append(pool.submit(_make, task, folder / f"{task.number:06d}", *arguments))
            while len(waiting) > 2 * config.workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


@dataclass(frozen=True)
class ListStore:
    """Memory-mapped lists of several shards.

    Parameters
    ----------
    shards
        Arrays a shard.
    place
        (shard, list) of every list, shape (n_lists, 2).
    """

    shards: tuple[Arrays, ...]
    place: NDArray[np.int64]

    @classmethod
    def open(cls, folder: Path) -> ListStore:
        """Map every shard of a folder."""
        shards: list[Arrays] = []
        place: list[tuple[int, int]] = []
        for path in sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()):
            if read_json(path / "shard.json")["lists"]:
                arrays = {f.stem: np.load(f, mmap_mode="r", allow_pickle=False) for f in path.glob("*.npy")}
                place += [(len(shards), i) for i in range(len(arrays["mass"]))]
                shards.append(arrays)
        if not place:
            raise InputError("the data give no list of two candidates", folder)
        return cls(tuple(shards), np.array(place, np.int64))

    @classmethod
    def of(cls, lists: Sequence[Example], max_peaks: int) -> ListStore:
        """Hold lists in memory."""
        kinds = sorted({e.kind for e in lists})
        return cls((pack(lists, max_peaks, kinds),), np.array([(0, i) for i in range(len(lists))], np.int64))

    def __len__(self) -> int:
        return len(self.place)

    def column(self, name: str) -> NDArray[Any]:
        """Return one value a list, for instance ``group`` or ``kind``."""
        whole = [s[name] for s in self.shards]
        return np.array([whole[s][i] for s, i in self.place])

    def select(self, keep: NDArray[Any]) -> ListStore:
        """Return the lists of a mask or of indices."""
        return ListStore(self.shards, self.place[keep])

    def moments(self, most: int = 2000) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mean and standard deviation of the candidates' features, from at most so many lists."""
        step = max(1, len(self) // most)
        rows = [
            self.shards[s]["summary"][slice(*self.shards[s]["row_start"][i : i + 2])] for s, i in self.place[::step]
        ]
        table = np.concatenate(rows)
        return table.mean(axis=0), np.maximum(table.std(axis=0), 1e-3)

    def gains(self, i: int) -> NDArray[np.float64]:
        """Return 1 for each candidate of list ``i`` that is right, else 0."""
        shard, at = self.place[i]
        begin, end = self.shards[shard]["row_start"][at : at + 2]
        return np.asarray(self.shards[shard]["match"][begin:end], np.float64)

    def batch(self, chosen: Sequence[int] | NDArray[np.int64], rows: int, rng: np.random.Generator | None) -> Arrays:
        """Pad lists into arrays, with at most ``rows`` candidates each: the one nearest to the truth, others by chance.

        Without ``rng`` candidates keep their order and are all there.

        Returns
        -------
        ``peaks`` (n, peaks, 2), ``mass``, ``charge`` (n,), ``tokens`` (n, rows, columns), ``sites`` (n, rows, columns, 37),
        ``summary`` (n, rows, 44); labels ``pmd``, ``match`` (n, rows) and ``rmd`` (n, rows, columns); masks ``is_row`` and
        ``is_residue`` of the last two shapes.
        """
        lists = [_List(self.shards[s], int(i)) for s, i in self.place[list(chosen)]]
        picks = [x.draw(rows, rng) for x in lists]
        width = 1 + max(int(x.lengths[p].max()) for x, p in zip(lists, picks, strict=True))
        n, most = len(lists), max(len(p) for p in picks)
        from rerank_peptide.axial import CLS, GAP, PAD

        out: Arrays = {
            "peaks": np.zeros((n, max(x.n_peaks for x in lists), 2), np.float32),
            "mass": np.array([x.mass for x in lists], np.float32),
            "charge": np.array([min(max(x.charge, 1), 10) for x in lists], np.int64),
            "tokens": np.full((n, most, width), PAD, np.int64),
            "sites": np.zeros((n, most, width, N_SITE), np.float32),
            "summary": np.zeros((n, most, N_SUMMARY), np.float32),
            "pmd": np.zeros((n, most), np.float32), "match": np.zeros((n, most), np.float32),
            "rmd": np.zeros((n, most, width), np.float32),
            "is_row": np.zeros((n, most), bool), "is_residue": np.zeros((n, most, width), bool),
        }  # fmt: skip
        for b, (x, pick) in enumerate(zip(lists, picks, strict=True)):
            k, lengths = len(pick), x.lengths[pick]
            here = np.zeros((most, width), bool)
            here[:k] = (np.arange(width) >= 1) & (np.arange(width) <= lengths[:, None])
            flat = np.concatenate([np.arange(s, s + m) for s, m in zip(x.starts[pick], lengths, strict=True)])
            out["peaks"][b, : x.n_peaks] = x.peaks
            out["tokens"][b, :k, : int(lengths.max()) + 1] = GAP
            out["tokens"][b, :k, 0] = CLS
            out["is_row"][b, :k], out["is_residue"][b] = True, here
            for name, source in (("tokens", "token"), ("rmd", "rmd"), ("sites", "site")):
                out[name][b][here] = x.arrays[source][flat]
            for name in ("pmd", "match", "summary"):
                out[name][b, :k] = x.arrays[name][x.first + pick]
        return out


class _List:
    """One list's place in its shard."""

    def __init__(self, arrays: Arrays, i: int) -> None:
        self.arrays = arrays
        self.mass, self.charge = float(arrays["mass"][i]), int(arrays["charge"][i])
        begin, end = (int(v) for v in arrays["peak_start"][i : i + 2])
        self.n_peaks, self.peaks = end - begin, arrays["peak"][begin:end]
        self.first, last = (int(v) for v in arrays["row_start"][i : i + 2])
        edges = np.asarray(arrays["token_start"][self.first : last + 1])
        self.starts, self.lengths = edges[:-1], np.diff(edges)

    def draw(self, rows: int, rng: np.random.Generator | None) -> NDArray[np.int64]:
        n = self.lengths.size
        if rng is None:
            return np.arange(n)
        order = rng.permutation(n)
        if n <= rows:
            return order
        best = int(self.arrays["pmd"][self.first : self.first + n].argmin())
        kept = np.concatenate([[best], order[order != best][: rows - 1]])
        return rng.permutation(kept)

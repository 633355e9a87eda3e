"""What a cell is about: its data, loaded once, and the digests that name data and code."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core import domain as domains
from rerank_core.ablation.cells import Cell
from rerank_core.domain import Domain
from rerank_core.engine import input_hash
from rerank_core.errors import InputError, UsageError
from rerank_core.files import read_json, write_json
from rerank_core.reranker import digest
from rerank_core.types import Dataset


def code_version(packages: Iterable[str]) -> str:
    """Return a digest of the source files of packages, so that changed code makes new cells."""
    h = hashlib.sha256()
    for package in sorted(set(packages)):
        spec = importlib.util.find_spec(package)
        if spec is None:
            continue
        roots = sorted(spec.submodule_search_locations or ())
        files = [f for root in roots for f in sorted(Path(root).rglob("*.py"))] or [Path(spec.origin or "")]
        for path in files:
            h.update(path.name.encode())
            h.update(path.read_bytes())
    return h.hexdigest()[:16]


def data_version(path: Path) -> str:
    """Return a digest of a data folder's file names, sizes and times: what tells that it changed without reading it."""
    h = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        stat = file.stat()
        h.update(f"{file.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return h.hexdigest()[:16]


class Inputs:
    """Datasets by (domain, data, limits), loaded once, and their content's digest, remembered across runs.

    The digest of an unchanged folder or sample is looked up in ``inputs.json`` instead of loading the data again.
    """

    def __init__(self, out: Path, data: Path | None, available: Mapping[str, Domain[Any, Any]]) -> None:
        self.data, self.available = data, available
        self._file = out / "inputs.json"
        self._known: dict[str, str] = read_json(self._file) if self._file.exists() else {}
        self._loaded: dict[str, Dataset[Any, Any]] = {}
        own = {n: e.value.partition(":")[0].partition(".")[0] for n, e in domains.installed().items()}
        self._code = {n: code_version(["rerank_core", "rerank_lm", own[n]]) for n in available}

    def code(self, name: str) -> str:
        """Return the digest of the code behind a domain's cells."""
        return self._code[name]

    def _folder(self, data: str) -> Path:
        assert self.data is not None, "cells on folders are left out where there is none"
        path = self.data / data
        if not path.exists():
            raise InputError("does not exist", path)
        return path

    def key(self, cell: Cell) -> str:
        """Return the cell's key: content of its input, code, parameters."""
        place = "sample" if cell.data == "sample" else data_version(self._folder(cell.data))
        identity = digest(
            cell.domain,
            cell.data,
            place,
            cell.requests,
            cell.candidates,
            cell.whole_groups,
            cell.seed,
            self.code(cell.domain),
        )
        if identity not in self._known:
            dataset = self.load(cell)
            codec = self.available[cell.domain].codec
            self._known[identity] = digest(input_hash(dataset.requests, codec), dataset.gold, dataset.splits)
            write_json(self._file, self._known)
        return digest(self._known[identity], self.code(cell.domain), asdict(cell))

    def load(self, cell: Cell) -> Dataset[Any, Any]:
        """Return the cell's dataset, cut to its limits."""
        whole_key = digest(cell.domain, cell.data)
        if whole_key not in self._loaded:
            domain = self.available[cell.domain]
            if cell.data == "sample":
                self._loaded[whole_key] = domain.sample()
            elif domain.load is None:
                raise UsageError(f"domain {cell.domain!r} reads no data folders")
            else:
                self._loaded[whole_key] = domain.load(self._folder(cell.data))
        return limited(self._loaded[whole_key], cell.requests, cell.candidates, cell.seed, cell.whole_groups)


def limited(
    dataset: Dataset[Any, Any], requests: int | None, candidates: int | None, seed: int, whole_groups: bool = True
) -> Dataset[Any, Any]:
    """Draw requests and keep the first candidates of each.

    With ``whole_groups``, those that are ranked jointly (one ``group``) and those of one split stay together: whole groups
    are drawn until there are enough requests. Otherwise requests that have gold are drawn one by one.
    """
    chosen = list(dataset.requests)
    if requests is not None and len(chosen) > requests and not whole_groups:
        judged = [r for r in chosen if dataset.gold.get(r.id)] or chosen
        drawn = np.random.default_rng(seed).permutation(len(judged))[:requests]
        chosen = [judged[i] for i in sorted(drawn)]
    elif requests is not None and len(chosen) > requests:
        units: dict[str, list[Any]] = {}
        for r in chosen:
            units.setdefault(r.group or dataset.group_of(r.id), []).append(r)
        names = sorted(units)
        keep: set[str] = set()
        for i in np.random.default_rng(seed).permutation(len(names)):
            unit = units[names[i]]
            if len(keep) + len(unit) <= requests or not keep:
                keep.update(r.id for r in unit)
            if len(keep) >= requests:
                break
        chosen = [r for r in chosen if r.id in keep]
    if candidates is not None:
        chosen = [replace(r, candidates=r.candidates[:candidates]) for r in chosen]
    ids = {r.id for r in chosen}
    return replace(dataset, requests=chosen, gold={q: g for q, g in dataset.gold.items() if q in ids})

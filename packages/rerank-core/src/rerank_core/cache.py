"""A disk cache keyed by content: the second identical run asks no model."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank_core.budget import Budget
from rerank_core.codec import Codec
from rerank_core.io import ranking_from_json, ranking_to_json, request_to_json
from rerank_core.reranker import Reranker, digest, within
from rerank_core.types import Cost, Ranking, Request, Status

_MAGIC = b"rerank1\n"


def cache_home() -> Path:
    """Return the per-user cache folder (``$XDG_CACHE_HOME/rerank`` or ``~/.cache/rerank``); it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "rerank"


class Store:
    """Bytes under keys, one file an entry.

    Entries carry a checksum: a corrupt one reads as absent and is removed. Writing is atomic, so two processes may
    share a folder; the last writer of a key wins, and both wrote the same.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / name[:2] / name[2:]

    def get(self, key: str) -> bytes | None:
        """Return the bytes under a key, or None."""
        path = self._path(key)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        head, value = raw[: len(_MAGIC) + 32], raw[len(_MAGIC) + 32 :]
        if head == _MAGIC + hashlib.sha256(value).digest():
            return value
        path.unlink(missing_ok=True)
        return None

    def put(self, key: str, value: bytes) -> None:
        """Store bytes under a key."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(value).digest() + value)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


class Cached:
    """Keeps another reranker's rankings on disk.

    The key is the reranker's fingerprint and the request's content (not its group: requests that are ranked jointly
    are keyed by their whole group). Rankings that a budget cut short are not kept. A ranking from the cache costs
    nothing.

    Parameters
    ----------
    codec
        Turns queries and contents into JSON for the key.
    """

    def __init__(self, reranker: Reranker, store: Store | str | Path, codec: Codec[Any, Any]) -> None:
        self.reranker = reranker
        self.store = store if isinstance(store, Store) else Store(store)
        self.codec = codec

    @property
    def name(self) -> str:
        """The inner name."""
        return self.reranker.name

    def fingerprint(self) -> str:
        """Return the inner fingerprint: caching changes no ranking."""
        return self.reranker.fingerprint()

    def within(self, budget: Budget) -> Cached:
        """Bind a budget."""
        return Cached(within(self.reranker, budget), self.store, self.codec)

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Look up, rerank what is not there, store it."""
        keys = self._keys(requests)
        found = [self._get(key, request) for key, request in zip(keys, requests, strict=True)]
        groups_missing = {r.group for r, hit in zip(requests, found, strict=True) if hit is None and r.group}
        todo = [
            i
            for i, (request, hit) in enumerate(zip(requests, found, strict=True))
            if hit is None or request.group in groups_missing
        ]
        fresh = self.reranker.rerank([requests[i] for i in todo]) if todo else []
        for i, ranking in zip(todo, fresh, strict=True):
            found[i] = ranking
            if ranking.status is not Status.BUDGET:
                self.store.put(keys[i], json.dumps(ranking_to_json(ranking)).encode())
        return [r for r in found if r is not None]

    def _keys(self, requests: Sequence[Request[Any, Any]]) -> list[str]:
        print_ = self.reranker.fingerprint()
        own = [digest(request_to_json(r, self.codec)) for r in requests]
        groups: dict[str, list[str]] = {}
        for request, key in zip(requests, own, strict=True):
            if request.group is not None:
                groups.setdefault(request.group, []).append(key)
        joint = {g: digest(keys) for g, keys in groups.items()}
        return [digest(print_, k, joint.get(r.group or "", "")) for r, k in zip(requests, own, strict=True)]

    def _get(self, key: str, request: Request[Any, Any]) -> Ranking | None:
        raw = self.store.get(key)
        if raw is None:
            return None
        ranking = ranking_from_json(json.loads(raw))
        if set(ranking.ids) != set(request.ids):
            return None
        return Ranking(request.id, ranking.items, ranking.status, Cost())

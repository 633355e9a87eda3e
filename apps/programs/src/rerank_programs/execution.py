"""Runs the candidates of many requests: distinct programs once, cached ones never, each behind the sandbox's walls."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rerank_core.budget import Budget, Meter
from rerank_core.errors import InputError
from rerank_core.types import Cost, Request
from rerank_programs.cache import OutcomeCache, hash_data
from rerank_programs.data import Program, Task
from rerank_programs.results import Outcome, Verdict, decode, encode, failed
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.pool import Pool
from rerank_programs.sandbox.walls import Walls

CACHE_VERSION = 1
"""Raised when a worker starts to give other results for the same program."""

CHUNK = 1000
"""Programs between two writes to the cache."""

TIMED_CHUNK = 8
"""Programs a worker between two looks at the clock, where there is a budget of seconds."""

_KEPT = {Verdict.OK, Verdict.DENIED, Verdict.ERROR, Verdict.OUTPUT_TOO_LARGE, Verdict.UNSUPPORTED}


@dataclass(frozen=True)
class Job:
    """One program to run: which engine, what to send, on which data."""

    engine: str
    message: Mapping[str, Any]
    data: str | None

    def key(self, limits: str, data_hash: str) -> bytes:
        """Return the cache key, for limits as text and a hash of the data."""
        text = json.dumps([CACHE_VERSION, self.engine, dict(self.message, database=None), limits, data_hash])
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


@dataclass
class Executor:
    """Runs requests' candidates and remembers what came out.

    Parameters
    ----------
    limits
        Per program.
    workers
        Processes at work at once.
    cache
        Where outcomes are kept, or None.
    unsafe_local
        Run code even where the machine offers no wall.
    walls
        Layers of isolation; by default what the machine has.
    budget
        Programs to run and seconds from now on; those beyond it get the verdict ``not_run``. What the cache has is free.

    Attributes
    ----------
    executed
        Programs that were run rather than found in the cache, so far.
    """

    limits: Limits = field(default_factory=Limits)
    workers: int = 2
    cache: OutcomeCache | None = None
    unsafe_local: bool = False
    walls: Walls | None = None
    budget: Budget | None = None
    executed: int = 0

    def __post_init__(self) -> None:
        self._meter = Meter(self.budget)

    def outcomes(self, requests: Sequence[Request[Task, Program]]) -> list[list[Outcome]]:
        """Run every candidate.

        Returns
        -------
        list of list of Outcome
            One list a request, one outcome a candidate, in their order.
        """
        plan: list[list[Job | None]] = [[job_of(r.query, c.content) for c in r.candidates] for r in requests]
        distinct: dict[tuple[Any, ...], Job] = {}
        keys: list[list[tuple[Any, ...] | None]] = []
        for jobs in plan:
            row: list[tuple[Any, ...] | None] = []
            for job in jobs:
                identity = None if job is None else (job.engine, job.data, json.dumps(job.message, sort_keys=True))
                if job is not None and identity is not None:
                    distinct.setdefault(identity, job)
                row.append(identity)
            keys.append(row)
        results = dict(zip(distinct, self.run(list(distinct.values())), strict=True))
        return [[_NOTHING if k is None else results[k] for k in row] for row in keys]

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs, from the cache where it has them."""
        hashes = {d: _hash(d) for d in {j.data for j in jobs if j.data is not None}}
        limits = self.limits.key()
        keys = [j.key(limits, hashes.get(j.data or "", "")) for j in jobs]
        kept = self.cache.get(keys) if self.cache else {}
        found: dict[int, Outcome] = {}
        opened: dict[bytes, Outcome] = {}
        for i, key in enumerate(keys):
            if key in kept:
                if key not in opened:
                    opened[key] = decode(kept[key])
                found[i] = opened[key]
        todo: dict[str, list[int]] = defaultdict(list)
        allowed = self._meter.left().calls
        for i in [i for i in range(len(jobs)) if i not in found]:
            if allowed is not None:
                allowed -= 1
            if allowed is not None and allowed < 0:
                found[i] = _OVER_BUDGET
            else:
                todo[jobs[i].engine].append(i)
        for engine, positions in todo.items():
            self._run_engine(engine, positions, jobs, keys, found)
        return [found[i] for i in range(len(jobs))]

    def _run_engine(
        self,
        engine: str,
        positions: Sequence[int],
        jobs: Sequence[Job],
        keys: Sequence[bytes],
        found: dict[int, Outcome],
    ) -> None:
        """Run one engine's jobs and keep what came out, chunk by chunk: an interrupted run goes on from there."""
        mine = [jobs[i] for i in positions]
        with Pool(
            engine,
            readable=sorted({j.data for j in mine if j.data is not None}),
            limits=self.limits,
            workers=self.workers,
            walls=self.walls,
            unsafe_local=self.unsafe_local,
        ) as pool:
            hard = _batch_seconds(self.limits, mine)
            timed = self.budget is not None and self.budget.seconds is not None
            size = TIMED_CHUNK * self.workers if timed else CHUNK
            for start in range(0, len(positions), size):
                part = positions[start : start + size]
                if self._meter.left().seconds == 0:
                    found.update(dict.fromkeys(part, _OVER_BUDGET))
                    continue
                outcomes = pool.run([jobs[i].message for i in part], seconds=hard)
                self.executed += len(part)
                self._meter.add(Cost(calls=len(part)))
                fresh: dict[bytes, bytes] = {}
                for i, outcome in zip(part, outcomes, strict=True):
                    found[i] = replace(outcome, isolation=pool.isolation)
                    if outcome.verdict in _KEPT and not (outcome.message or "").startswith("the worker"):
                        fresh[keys[i]] = encode(found[i])
                if self.cache:
                    self.cache.put(fresh)


_NOTHING = failed(Verdict.ERROR, "nothing to run it on")
_OVER_BUDGET = failed(Verdict.NOT_RUN, "the budget was spent before its turn")


def _batch_seconds(limits: Limits, jobs: Sequence[Job]) -> float:
    return limits.seconds * max((int(j.message.get("runs", 1)) for j in jobs), default=1)


def _hash(path: str) -> str:
    try:
        return hash_data(path)
    except OSError as error:
        raise InputError(f"the data cannot be read: {error.strerror or error}", path) from error


@lru_cache(maxsize=4096)
def _real(path: str) -> str:
    return str(Path(path).resolve())


@lru_cache(maxsize=4096)
def _is_folder(path: str) -> bool:
    return Path(path).is_dir()


def job_of(task: Task, program: Program) -> Job | None:
    """Return what to run for a candidate, or None where there is no data to run it on."""
    if task.language == "sql":
        if task.data is None:
            return None
        source = _real(task.data)
        engine = "duckdb" if _is_folder(source) or source.endswith(".duckdb") else "sqlite"
        return Job(engine, {"database": source, "program": program.text}, source)
    data = None if task.data is None else _real(task.data)
    if task.language == "m":
        return Job("m", {"database": data, "program": program.text}, data)
    if not task.inputs and not task.calls and task.data is None:
        return None
    message: dict[str, Any] = {"program": task.prefix + program.text, "database": data, "calls": list(task.calls)}
    message["runs"] = max(1, len(task.inputs))
    message["inputs"] = [
        {"variables": dict(i.variables), "files": dict(i.files), "output": i.output} for i in task.inputs
    ]
    return Job("pandas" if task.language == "pandas" else "python", message, data)


def need_data(requests: Sequence[Request[Task, Program]]) -> None:
    """Refuse requests whose programs cannot run because no data was named.

    Raises
    ------
    InputError
        Naming the first such request and what to pass.
    """
    for request in requests:
        task = request.query
        if task.language == "sql" and task.data is None:
            raise InputError(f"request {request.id!r} has no database: name their folder with --databases DIR")

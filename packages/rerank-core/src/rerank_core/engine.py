"""Runs many requests through a reranker: in batches, with progress, under a budget, and so that a killed run goes on.

Checkpoints: each finished batch is one file in ``OUT.parts`` beside the output, with a manifest that names input and
reranker. The same command after Ctrl-C or ``kill -9`` takes up where the files end; the final file equals an
undisturbed run's byte for byte. What differs between runs (seconds, machine) lies in ``OUT.meta.json``.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from rerank_core import __version__
from rerank_core.budget import Budget, Meter
from rerank_core.codec import Codec, PlainCodec
from rerank_core.errors import InputError
from rerank_core.files import read_json, write_json
from rerank_core.io import (
    ranking_from_json,
    read_jsonl,
    request_to_json,
    write_rankings,
    write_run,
)
from rerank_core.reranker import Budgeted, FirstStage, Reranker, digest, within
from rerank_core.types import Cost, Ranking, Request, Status

Batch: TypeAlias = list[Request[Any, Any]]


class Executor(Protocol):
    """Where batches run. Results may come in any order; the number says which batch they answer."""

    def __call__(
        self, reranker: Reranker, batches: Iterable[tuple[int, Batch]], meter: Meter
    ) -> Iterator[tuple[int, list[Ranking]]]: ...


def local(
    reranker: Reranker, batches: Iterable[tuple[int, Batch]], meter: Meter
) -> Iterator[tuple[int, list[Ranking]]]:
    """Run batches one after the other in this process."""
    for number, batch in batches:
        yield number, rerank_within(reranker, batch, meter)


def rerank_within(reranker: Reranker, batch: Batch, meter: Meter) -> list[Ranking]:
    """Rerank one batch under what is left of the budget; with nothing left it keeps its first-stage order, flagged."""
    left = meter.left()
    if left.spent and not isinstance(reranker, Budgeted):
        return [_flag(r) for r in FirstStage().rerank(batch)]
    start = meter.seconds
    rankings = within(reranker, left if left != Budget() else None).rerank(batch)
    seconds = (meter.seconds - start) / max(1, len(batch))
    out = []
    for request, ranking in zip(batch, rankings, strict=True):
        if ranking.id != request.id or set(ranking.ids) != set(request.ids):
            raise AssertionError(f"{reranker.name} did not return a permutation of request {request.id!r}")
        cost = Cost(ranking.cost.calls, ranking.cost.prompt_tokens, ranking.cost.output_tokens, seconds)
        out.append(Ranking(ranking.id, ranking.items, ranking.status, cost))
        meter.add(cost)
    return out


def _flag(ranking: Ranking) -> Ranking:
    return Ranking(ranking.id, ranking.items, Status.BUDGET, ranking.cost)


MOST_REQUESTS, MOST_PAIRS = 64, 256
"""A batch, unless told otherwise: few enough pairs that a slow model reports and saves within seconds."""


def cut(requests: Sequence[Request[Any, Any]], batch_size: int | None = None) -> list[Batch]:
    """Cut requests into batches; requests of one group always share one.

    ``batch_size`` is a number of requests; without it a batch has at most 64 requests and about 256 candidates.
    """
    most_requests, most_pairs = (batch_size, None) if batch_size else (MOST_REQUESTS, MOST_PAIRS)
    units: dict[object, Batch] = {}
    for i, request in enumerate(requests):
        units.setdefault(i if request.group is None else ("group", request.group), []).append(request)
    batches: list[Batch] = []
    current: Batch = []
    pairs = 0
    for unit in units.values():
        added = sum(len(r.candidates) for r in unit)
        full = len(current) + len(unit) > most_requests or (most_pairs is not None and pairs + added > most_pairs)
        if current and full:
            batches.append(current)
            current, pairs = [], 0
        current, pairs = [*current, *unit], pairs + added
    return [*batches, current] if current else batches


def input_hash(requests: Iterable[Request[Any, Any]], codec: Codec[Any, Any] | None = None) -> str:
    """Return a digest of the requests' content."""
    h = hashlib.sha256()
    for request in requests:
        h.update(digest(request_to_json(request, codec or PlainCodec())).encode())
    return h.hexdigest()[:32]


def run(
    requests: Sequence[Request[Any, Any]],
    reranker: Reranker,
    *,
    out: str | Path | None = None,
    resume: bool = True,
    budget: Budget | None = None,
    executor: Executor = local,
    batch_size: int | None = None,
    progress: bool = True,
    codec: Codec[Any, Any] | None = None,
    write: Callable[[Path, list[Ranking]], None] | None = None,
) -> Iterator[Ranking]:
    """Rerank requests batch by batch.

    Parameters
    ----------
    out
        Final file; it appears when everything is done. ``.trec`` and ``.run`` (also ``.gz``) are TREC runs,
        ``.parquet`` is a folder of shards, anything else is JSONL. None keeps nothing on disk.
    resume
        Take up an unfinished run of the same input and reranker; otherwise start afresh.
    budget
        For the whole run. When it is spent, the rest keeps its best order so far, flagged.
    batch_size
        Requests a batch, which is what is saved and reported at a time; see `cut` for what None means.
    codec
        Turns queries and contents into JSON for the input's hash.
    write
        Writes the final file, where another format than the above is wanted.

    Yields
    ------
    Ranking
        As they are ready; in the requests' order except where groups or the executor say otherwise.

    Raises
    ------
    InputError
        When ``OUT.parts`` is another input's or another reranker's, or another process is at work there.
    """
    batches = cut(requests, batch_size)
    done: dict[int, list[Ranking]] = {}
    with _checkpoint(out, requests, reranker, resume, batch_size, codec) as parts:
        if parts is not None:
            done = _read_parts(parts, batches)
        meter = Meter(budget)
        with _bar(progress, reranker.name, len(requests)) as advance:
            for number in sorted(done):
                advance(len(done[number]))
                yield from done[number]
            todo = ((i, b) for i, b in enumerate(batches) if i not in done)
            for number, rankings in executor(reranker, todo, meter):
                if parts is not None:
                    write_rankings(_part(parts, number), rankings)
                done[number] = rankings
                advance(len(rankings))
                yield from rankings
        if out is not None and parts is not None:
            by_id = {r.id: r for rankings in done.values() for r in rankings}
            (write or write_any)(Path(out), [by_id[r.id] for r in requests])
            write_json(
                Path(f"{out}.meta.json"), provenance(reranker, requests, codec, list(by_id.values()), meter.seconds)
            )
            shutil.rmtree(parts)


def write_any(path: Path, rankings: list[Ranking]) -> None:
    """Write a TREC run, a folder of Parquet shards, or JSONL rankings, as the name says."""
    name = path.name.removesuffix(".gz")
    if name.endswith((".trec", ".run")):
        write_run(path, rankings)
    elif name.endswith(".parquet"):
        from rerank_core.parquet import write_rankings_parquet

        write_rankings_parquet(path, rankings)
    else:
        write_rankings(path, rankings)


def provenance(
    reranker: Reranker,
    requests: Sequence[Request[Any, Any]],
    codec: Codec[Any, Any] | None,
    rankings: Sequence[Ranking],
    seconds: float,
) -> dict[str, Any]:
    """Say where a result comes from: command, versions, machine, input, cost, statuses."""
    total = sum((r.cost for r in rankings), Cost())
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()}",
        "reranker": reranker.name,
        "fingerprint": reranker.fingerprint(),
        "input": input_hash(requests, codec),
        "requests": len(requests),
        "statuses": {str(s): n for s in Status if (n := sum(r.status is s for r in rankings))},
        "calls": total.calls,
        "prompt_tokens": total.prompt_tokens,
        "output_tokens": total.output_tokens,
        "seconds": round(seconds, 3),
    }


def _part(parts: Path, number: int) -> Path:
    return parts / f"part-{number:06d}.jsonl"


def _read_parts(parts: Path, batches: list[Batch]) -> dict[int, list[Ranking]]:
    """Read finished batches; one that does not fit its requests is done again."""
    done: dict[int, list[Ranking]] = {}
    for number, batch in enumerate(batches):
        path = _part(parts, number)
        if not path.exists():
            continue
        try:
            rankings = [ranking_from_json(value, path, line) for line, value in read_jsonl(path)]
        except InputError:
            continue
        fits = [r.id for r in rankings] == [r.id for r in batch] and all(
            set(a.ids) == set(b.ids) for a, b in zip(rankings, batch, strict=True)
        )
        if fits:
            done[number] = rankings
    return done


@contextmanager
def _checkpoint(
    out: str | Path | None,
    requests: Sequence[Request[Any, Any]],
    reranker: Reranker,
    resume: bool,
    batch_size: int | None,
    codec: Codec[Any, Any] | None,
) -> Iterator[Path | None]:
    """Open ``OUT.parts`` for one process at a time and check that it belongs to this input and reranker."""
    if out is None:
        yield None
        return
    parts = Path(f"{out}.parts")
    manifest = {
        "input": input_hash(requests, codec),
        "fingerprint": reranker.fingerprint(),
        "batch_size": batch_size,
        "version": __version__,
    }
    try:
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot be written: {error.strerror or error}", parts) from error
    with _locked(parts / "lock"):
        path = parts / "manifest.json"
        if path.exists() and resume:
            if json.dumps(read_json(path), sort_keys=True) != json.dumps(manifest, sort_keys=True):
                raise InputError(
                    "is the unfinished run of another input, method or version; remove the folder or pass --no-resume",
                    parts,
                )
        else:
            for old in parts.glob("part-*.jsonl"):
                old.unlink()
            write_json(path, manifest)
        yield parts


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system releases even when the process is killed."""
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError("another process is writing this output", path.parent) from error
        yield


def _bar(progress: bool, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    if not progress or not sys.stderr.isatty():
        return nullcontext(lambda n: None)
    return _rich_bar(title, total)


@contextmanager
def _rich_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.advance(task, n)

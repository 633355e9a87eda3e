"""Requests that arrive together are reranked together; the queue is bounded; waiting has an end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from rerank_core.reranker import Reranker
from rerank_core.types import Ranking
from rerank_core.types import Request as Asked


@dataclass(frozen=True)
class Limits:
    """What the server accepts.

    Parameters
    ----------
    queue
        Requests that may wait; one more is answered 429.
    batch
        Most requests in one call of a reranker.
    wait_ms
        How long the first request of a batch waits for others.
    timeout
        Seconds after which a request that still waits is answered 408.
    body
        Bytes of one body; more is answered 413.
    documents, characters
        Candidates of one request, and characters of one text.
    """

    queue: int = 1024
    batch: int = 64
    wait_ms: float = 2.0
    timeout: float = 120.0
    body: int = 16 * 1024 * 1024
    documents: int = 1000
    characters: int = 200_000


class Metrics:
    """Prometheus metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("rerank_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram("rerank_request_seconds", "Seconds a request.", ["path"], registry=self.registry)
        self.batch = Histogram(
            "rerank_batch_requests", "Requests a batch.", registry=self.registry, buckets=(1, 2, 4, 8, 16, 32, 64, 128)
        )
        self.queue = Gauge("rerank_queue_requests", "Requests waiting.", registry=self.registry)


@dataclass
class _Waiting:
    key: str
    reranker: Reranker
    requests: list[Asked[Any, Any]]
    answer: asyncio.Future[list[Ranking]]
    since: float


class Busy(Exception):
    """The queue is full."""


class Batcher:
    """Collects requests that arrive together and reranks them in one call, on one worker thread."""

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits, self.metrics = limits, metrics
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(limits.queue)
        self._pool = ThreadPoolExecutor(1, "rerank")
        self._task: asyncio.Task[None] | None = None
        self._pending = 0
        self.stopping = False

    def start(self) -> None:
        """Start the worker."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Refuse new requests, finish those that wait, then stop."""
        self.stopping = True
        while self._pending:
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._pool.shutdown()

    async def rerank(self, key: str, reranker: Reranker, requests: list[Asked[Any, Any]]) -> list[Ranking]:
        """Wait for a place in a batch and return the rankings.

        Raises
        ------
        Busy
            When the queue is full.
        TimeoutError
            When the answer did not come in time.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(key, reranker, requests, loop.create_future(), time.perf_counter())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            raise Busy from None
        self._pending += 1
        self.metrics.queue.set(self._queue.qsize())
        try:
            return await asyncio.wait_for(waiting.answer, self.limits.timeout)
        finally:
            self._pending -= 1

    async def _work(self) -> None:
        while True:
            first = await self._queue.get()
            batch, count = [first], len(first.requests)
            until = time.perf_counter() + self.limits.wait_ms / 1000
            while count < self.limits.batch:
                left = until - time.perf_counter()
                try:
                    more = self._queue.get_nowait() if left <= 0 else await asyncio.wait_for(self._queue.get(), left)
                except (asyncio.QueueEmpty, TimeoutError):
                    break
                batch.append(more)
                count += len(more.requests)
            self.metrics.queue.set(self._queue.qsize())
            by_key: dict[str, list[_Waiting]] = {}
            for waiting in batch:
                if not waiting.answer.done():  # a client that gave up is not worked for
                    by_key.setdefault(waiting.key, []).append(waiting)
            for group in by_key.values():
                await self._answer(group)

    async def _answer(self, group: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        flat = [(i, j) for i, w in enumerate(group) for j in range(len(w.requests))]
        # Ids are the clients' and may collide between them: inside the batch they are numbers.
        asked = [replace(group[i].requests[j], id=f"{i}.{j}", group=_joint(i, group[i].requests[j])) for i, j in flat]
        self.metrics.batch.observe(len(asked))
        try:
            rankings = await loop.run_in_executor(self._pool, group[0].reranker.rerank, asked)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must reach its own request and no other
            if len(group) == 1:
                if not group[0].answer.done():
                    group[0].answer.set_exception(error)
                return
            for waiting in group:
                await self._answer([waiting])
            return
        at = 0
        for waiting in group:
            mine = rankings[at : at + len(waiting.requests)]
            at += len(waiting.requests)
            if not waiting.answer.done():
                named = [replace(r, id=q.id) for r, q in zip(mine, waiting.requests, strict=True)]
                waiting.answer.set_result(named)


def _joint(client: int, request: Asked[Any, Any]) -> str | None:
    return None if request.group is None else f"{client}/{request.group}"

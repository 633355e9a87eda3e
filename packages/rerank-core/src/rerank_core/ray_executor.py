"""Batches on Ray Data: the same rankings as in this process, on many cores or machines.

The reranker travels to each actor once, so that a model is loaded once an actor. A worker that dies is restarted and
its batches are done again; finished batches are in the checkpoint of the run and are not.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rerank_core.budget import Budget, Meter
from rerank_core.engine import Batch, Executor, rerank_within
from rerank_core.errors import UsageError, require
from rerank_core.io import ranking_from_json, ranking_to_json
from rerank_core.reranker import Reranker
from rerank_core.types import Ranking


class _Worker:
    """One actor: unpacks the reranker once, then reranks batches."""

    def __init__(self, packed: bytes, seconds: float | None) -> None:
        self.reranker: Reranker = pickle.loads(packed)
        self.meter = Meter(Budget(seconds=seconds))

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        packed = []
        for raw in rows["batch"]:
            rankings = rerank_within(self.reranker, pickle.loads(raw), self.meter)
            packed.append(json.dumps([ranking_to_json(r) for r in rankings]).encode())
        return {"number": rows["number"], "rankings": packed}


@contextmanager
def ray_executor(workers: int = 2) -> Iterator[Executor]:
    """Open Ray (an address in ``RAY_ADDRESS`` is honoured; else this machine) and close what was opened here.

    Raises
    ------
    MissingExtra
        Without the extra ``rerank-core[ray]``.
    """
    if "RAY_ADDRESS" not in os.environ:
        # Workers of this machine use this interpreter; started under ``uv run`` Ray would build them one of their own.
        os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = require("ray", "rerank-core[ray]", "the engine 'ray'")
    require("ray.data", "rerank-core[ray]", "the engine 'ray'")
    started = not ray.is_initialized()
    if started:
        local = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": workers}
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error", **local)
    try:
        yield lambda reranker, batches, meter: _run(ray, workers, reranker, batches, meter)
    finally:
        if started:
            ray.shutdown()


def _run(
    ray: Any, workers: int, reranker: Reranker, batches: Iterable[tuple[int, Batch]], meter: Meter
) -> Iterator[tuple[int, list[Ranking]]]:
    if meter.budget.calls is not None or meter.budget.tokens is not None:
        raise UsageError("a budget of calls or tokens is counted in one place: use the engine 'local' for it")
    from ray import cloudpickle

    rows = [{"number": n, "batch": cloudpickle.dumps(batch)} for n, batch in batches]
    if not rows:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    # One batch a block: a block is what is retried when a worker dies, and what comes back as soon as it is ready.
    dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _Worker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
        fn_constructor_args=(cloudpickle.dumps(reranker), meter.left().seconds),
        num_cpus=1,
    )
    for row in dataset.iter_rows():
        yield int(row["number"]), [ranking_from_json(r) for r in json.loads(row["rankings"])]

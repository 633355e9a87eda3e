"""Where batches run, by name. Every executor gives the same rankings, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rerank_core.engine import Executor, local
from rerank_core.errors import UsageError


@contextmanager
def executor(name: str = "local", *, workers: int = 2) -> Iterator[Executor]:
    """Open an executor: ``local`` (this process) or ``ray`` (a cluster, or this machine's cores).

    Raises
    ------
    UsageError
        For an unknown name.
    MissingExtra
        For ``ray`` without the extra ``rerank-core[ray]``.
    """
    if name == "local":
        yield local
    elif name == "ray":
        from rerank_core.ray_executor import ray_executor

        with ray_executor(workers) as run:
            yield run
    else:
        raise UsageError(f"unknown engine {name!r}; engines: local, ray")

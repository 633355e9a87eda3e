"""Several processes share the batches of a step.

``torchrun --nproc-per-node 2 "$(command -v rerank)" train RECIPE.yaml -o DIR`` starts them. Each takes every n-th batch of
a step and the gradients are summed, so that n processes take the steps of one, up to the order of float additions. Process
0 alone writes files and talks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Parameters
    ----------
    rank, size
        Its number, from 0, and how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batches: Sequence[T]) -> list[tuple[int, T]]:
        """Return this process's batches with their numbers."""
        return list(enumerate(batches))[self.rank :: self.size]

    def add_up(self, parameters: Iterable[torch.nn.Parameter], loss: float) -> float:
        """Sum gradients over the processes, in place, and return the summed loss."""
        if self.size == 1:
            return loss
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            dist.all_reduce(p.grad)
        total = torch.tensor(loss, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total)

    def wait(self) -> None:
        """Wait until all are here, for instance for a file that the first one writes."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def processes() -> Iterator[Processes]:
    """Join the processes that torchrun started; without it this one is alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield Processes()
        return
    dist.init_process_group("gloo")
    try:
        yield Processes(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()

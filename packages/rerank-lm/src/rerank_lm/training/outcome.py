"""What a training run came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Parameters
    ----------
    start, end
        nDCG@10 on the held-out groups before training and of the weights that were kept, as (value, low, high).
    """

    folder: Path
    steps: int
    stopped: str
    losses: tuple[float, ...]
    start: tuple[float, float, float] | None
    end: tuple[float, float, float] | None
    n_train: int
    n_held: int
    dropped: int

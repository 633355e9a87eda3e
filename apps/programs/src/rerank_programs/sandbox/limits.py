"""How much one program may use."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one run. They are part of the cache key: another limit may give another verdict.

    Parameters
    ----------
    seconds
        Wall time of one program. The soft limit stops it from inside; ``grace`` seconds later it is killed.
    grace
        Wait between the soft limit and the kill, in seconds.
    memory_mib
        Address space and data the program may take beyond what the worker has, in MiB.
    cells
        Most cells of a result; more is ``output_too_large``.
    result_bytes
        Most bytes of an encoded result that cross the wall.
    text_bytes
        Longest program, in bytes.
    file_mib
        Largest file in the private scratch folder, in MiB.
    """

    seconds: float = 2.0
    grace: float = 0.3
    memory_mib: int = 512
    cells: int = 1_000_000
    result_bytes: int = 32 << 20
    text_bytes: int = 100_000
    file_mib: int = 16

    def __post_init__(self) -> None:
        if min(self.seconds, self.memory_mib, self.cells, self.result_bytes, self.text_bytes) <= 0:
            raise ValueError("limits must be positive")

    def key(self) -> str:
        """Return the limits as text, for cache keys and for the worker's command line."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def parse(cls, text: str) -> Limits:
        """Read what [`key`][rerank_programs.sandbox.limits.Limits.key] wrote."""
        return cls(**json.loads(text))

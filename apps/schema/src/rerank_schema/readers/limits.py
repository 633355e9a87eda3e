"""How much of a source is read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much of a source is held in memory.

    Parameters
    ----------
    bytes
        Text files larger than this are sampled down to it: the head and blocks spread over the file.
    rows
        Rows taken of a database table or a Parquet file.
    """

    bytes: int = 32 << 20
    rows: int = 200_000

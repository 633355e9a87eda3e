"""Frames between the pool and a worker: a length, then that many bytes. Standard library only."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Iterable

HEADER = struct.Struct("!I")
MAX_FRAME = 256 << 20


class Closed(Exception):
    """The other end is gone."""


class Overdue(Exception):
    """Nothing complete came within the time given."""


class TooLarge(Exception):
    """A frame announces more bytes than allowed; the stream can no longer be trusted."""


def write_frame(fd: int, data: bytes) -> None:
    """Write one frame completely.

    Raises
    ------
    Closed
        When the reader is gone.
    """
    _write_all(fd, (HEADER.pack(len(data)), data))


def _write_all(fd: int, chunks: Iterable[bytes]) -> None:
    view = memoryview(b"".join(chunks))
    try:
        while view:
            view = view[os.write(fd, view) :]
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Closed from error


def read_frame(fd: int, deadline: float | None = None, limit: int = MAX_FRAME) -> bytes:
    """Read one frame.

    Parameters
    ----------
    deadline
        In ``time.monotonic()`` seconds; None waits for ever.
    limit
        Most bytes to accept.

    Raises
    ------
    Closed, Overdue, TooLarge
    """
    (size,) = HEADER.unpack(_read_exactly(fd, HEADER.size, deadline))
    if size > limit:
        raise TooLarge(size)
    return _read_exactly(fd, size, deadline)


def _read_exactly(fd: int, size: int, deadline: float | None) -> bytes:
    parts: list[bytes] = []
    while size:
        if deadline is not None:
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                raise Overdue
        try:
            part = os.read(fd, min(size, 1 << 20))
        except ConnectionResetError as error:
            raise Closed from error
        if not part:
            raise Closed
        parts.append(part)
        size -= len(part)
    return b"".join(parts)

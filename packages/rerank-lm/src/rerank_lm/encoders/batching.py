"""Batches for encoders: sorted by length, filled up to a number of padded tokens, answers back in input order.

On a CPU padding is what costs: random batches of 32 texts do twice the work of length-sorted small ones.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

T = TypeVar("T", bound=Hashable)

PAD_MULTIPLE = 8


def token_batches(lengths: ArrayLike, budget: int, *, multiple: int = PAD_MULTIPLE) -> Iterator[NDArray[np.intp]]:
    """Cut texts into batches of similar length.

    Parameters
    ----------
    lengths
        Shape (n,), tokens of each text.
    budget
        Most padded tokens (rows times padded width) in a batch; a longer text gets a batch of its own.
    multiple
        Widths are rounded up to a multiple of this.

    Yields
    ------
    ndarray
        Indices into ``lengths``, longest texts first, so that a lack of memory shows at once.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < len(order):
        width = padded(int(sizes[order[start]]), multiple)
        rows = max(1, budget // max(1, width))
        yield order[start : start + rows]
        start += rows


def padded(length: int, multiple: int = PAD_MULTIPLE) -> int:
    """Round a length up to a multiple."""
    return -(-length // multiple) * multiple


def distinct(items: Sequence[T]) -> tuple[list[T], NDArray[np.intp]]:
    """Return the distinct items in order of appearance, and for every item its place among them."""
    places: dict[T, int] = {}
    index = np.fromiter((places.setdefault(x, len(places)) for x in items), dtype=np.intp, count=len(items))
    return list(places), index


def chunks(n: int, size: int) -> Iterable[range]:
    """Cut ``range(n)`` into ranges of at most ``size``."""
    return (range(i, min(n, i + size)) for i in range(0, n, size))

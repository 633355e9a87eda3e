"""Measures: objects that parse from text (``nDCG@10``), compare, print and evaluate, in every domain alike.

A measure turns (gold, rankings) into *rows*, one a request, and rows into a value. For most measures a row is one
number and the value is the mean; ratios (gain recovered) and curves (area under a precision-coverage curve) keep
several numbers a row, so that the bootstrap can resample requests whatever the measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from rerank_core.types import FloatArray, Gold, Ranking, Request


@runtime_checkable
class Measure(Protocol):
    """Something a ranking is judged by.

    ``rows`` gives request id -> tuple of numbers, for every request of the gold it can judge. ``aggregate`` turns
    the rows, shape (n_requests, width), into the measure's value.
    """

    @property
    def name(self) -> str: ...

    def rows(
        self,
        gold: Gold,
        rankings: Mapping[str, Ranking],
        requests: Mapping[str, Request[Any, Any]],
    ) -> dict[str, tuple[float, ...]]: ...

    def aggregate(self, rows: FloatArray) -> float: ...

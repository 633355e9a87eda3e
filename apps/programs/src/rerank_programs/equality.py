"""When are two results the same? Named, versioned modes; the name and version stand in every output.

========  =======  =========  ==========  =============================================================
mode      rows     columns    row order   values
========  =======  =========  ==========  =============================================================
spider    bag      permuted   on request  Python equality (1 == 1.0 == True, '1' differs), NULL == NULL
bird      set      in order   no          Python equality
ordered   list     in order   yes         Python equality
bag       bag      in order   no          Python equality
set       set      in order   no          Python equality
approx    bag      in order   no          floats within a relative 1e-6
frame     list     in order   yes         floats within a relative 1e-6, labels count, dtypes do not
========  =======  =========  ==========  =============================================================

``spider`` follows the result comparison of test-suite-sql-eval (Zhong et al. 2020) with DISTINCT kept: two empty
results are equal whatever their columns. Its published search draws rows at random to prune column permutations;
here columns are matched by their value multisets first, so the answer never depends on chance. ``bird`` follows the
BIRD evaluator (Li et al. 2023): ``set(rows) == set(rows)``.

Every mode has a key: equal results have equal keys, so that results are hashed first and compared only inside a
bucket.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

from rerank_programs.results import Cell, Outcome, Row

RELATIVE = 1e-6


@dataclass(frozen=True)
class Mode:
    """A named way to compare two results.

    Parameters
    ----------
    key
        Equal results have equal keys.
    same
        The comparison itself.
    """

    name: str
    version: int
    key: Callable[[Outcome], Hashable]
    same: Callable[[Outcome, Outcome], bool]

    @property
    def label(self) -> str:
        """Name and version, as written into outputs: ``spider-1``."""
        return f"{self.name}-{self.version}"


def equal(a: Outcome, b: Outcome, mode: str = "spider", *, ordered: bool = False) -> bool:
    """Compare two results.

    Parameters
    ----------
    ordered
        Only for ``spider``: whether row order counts too (the reference query has an ORDER BY).

    Returns
    -------
    bool
        Always False when either did not run.
    """
    if not (a.ok and b.ok):
        return False
    if mode == "spider" and ordered:
        return _permuted_equal(a, b, keep_order=True)
    return MODES[mode].same(a, b)


def clusters(outcomes: Sequence[Outcome], mode: str = "spider") -> list[list[int]]:
    """Group the positions of equal results, in order of first appearance.

    Failed runs belong to no cluster; a nondeterministic one is alone in its own, so that two of them never form a
    majority by accident.
    """
    chosen = MODES[mode]
    found: list[list[int]] = []
    buckets: dict[Hashable, list[list[int]]] = defaultdict(list)
    for i, outcome in enumerate(outcomes):
        if not outcome.ok:
            continue
        if outcome.nondeterministic:
            found.append([i])
            continue
        bucket = buckets[chosen.key(outcome)]
        for cluster in bucket:
            first = outcomes[cluster[0]]
            if first is outcome or chosen.same(first, outcome):
                cluster.append(i)
                break
        else:
            bucket.append([i])
            found.append(bucket[-1])
    return sorted(found)


def _plain(cell: Cell) -> Hashable:
    """Return a hashable stand-in with Python equality, where NaN equals itself."""
    if isinstance(cell, float) and math.isnan(cell):
        return _NAN
    if isinstance(cell, list | tuple):
        return tuple(map(_plain, cell))
    if isinstance(cell, dict):
        return frozenset((k, _plain(v)) for k, v in cell.items())
    return cell


_NAN = ("nan",)


def _rows(outcome: Outcome) -> list[Row]:
    return [tuple(map(_plain, row)) for row in outcome.rows]


def _width(outcome: Outcome) -> int:
    return len(outcome.columns)


def _bag(outcome: Outcome) -> Hashable:
    return _width(outcome), frozenset(Counter(_rows(outcome)).items())


def _set(outcome: Outcome) -> Hashable:
    return frozenset(_rows(outcome))


def _ordered(outcome: Outcome) -> Hashable:
    return _width(outcome), tuple(_rows(outcome))


def _columns_key(outcome: Outcome) -> Hashable:
    if not outcome.rows:
        return 0
    columns = (frozenset(Counter(column).items()) for column in zip(*_rows(outcome), strict=True))
    return len(outcome.rows), frozenset(Counter(columns).items())


def _permuted_equal(a: Outcome, b: Outcome, *, keep_order: bool = False) -> bool:
    if not a.rows and not b.rows:
        return True
    if len(a.rows) != len(b.rows) or _width(a) != _width(b):
        return False
    left, right = _rows(a), _rows(b)
    if left == right or (not keep_order and Counter(left) == Counter(right)):
        return True
    wanted = Counter(left)
    for order in _permutations(list(zip(*left, strict=True)), list(zip(*right, strict=True)), keep_order):
        permuted = [tuple(row[i] for i in order) for row in right]
        if permuted == left if keep_order else Counter(permuted) == wanted:
            return True
    return False


def _permutations(left: list[Row], right: list[Row], keep_order: bool) -> Iterator[tuple[int, ...]]:
    """Yield the column orders of ``right`` that may make it ``left``.

    Depth first, and only along prefixes whose rows agree as bags, so that many look-alike columns do not make it
    factorial.
    """
    fingerprint: Callable[[Row], Hashable] = (lambda c: c) if keep_order else (lambda c: frozenset(Counter(c).items()))
    prints = [fingerprint(c) for c in right]
    options = [[j for j, p in enumerate(prints) if p == fingerprint(c)] for c in left]
    chosen: list[int] = []

    def extend(i: int) -> Iterator[tuple[int, ...]]:
        if i == len(left):
            yield tuple(chosen)
            return
        tried: set[Row] = set()
        for j in options[i]:
            if j in chosen or right[j] in tried:
                continue
            tried.add(right[j])  # an identical column leads to an identical subtree
            chosen.append(j)
            if keep_order or _prefix_agrees(left[: i + 1], [right[k] for k in chosen]):
                yield from extend(i + 1)
            chosen.pop()

    return extend(0)


def _prefix_agrees(left: list[Row], right: list[Row]) -> bool:
    return Counter(zip(*left, strict=True)) == Counter(zip(*right, strict=True))


def close(a: Cell, b: Cell, relative: float = RELATIVE) -> bool:
    """Compare two cells; numbers within the relative tolerance are equal, NaN and None equal themselves."""
    if isinstance(a, float) or isinstance(b, float):
        if isinstance(a, int | float) and isinstance(b, int | float):
            return a == b or (a != a and b != b) or math.isclose(a, b, rel_tol=relative, abs_tol=1e-12)
        return False
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(close(x, y, relative) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(v, b[k], relative) for k, v in a.items())
    return bool(a == b)


def _shape(outcome: Outcome) -> Hashable:
    """Return what survives any rounding: shape, and the multiset of the cells that are no numbers, per column.

    A rounded number would not do as a key: two floats a hair apart can round to different sides.
    """
    columns = zip(*outcome.rows, strict=True) if outcome.rows else ()
    solid = (frozenset(Counter(_plain(c) for c in col if not _is_number(c)).items()) for col in columns)
    return len(outcome.rows), _width(outcome), tuple(solid)


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float | list | tuple | dict)


def _approx_equal(a: Outcome, b: Outcome) -> bool:
    if len(a.rows) != len(b.rows) or _width(a) != _width(b):
        return False
    left, right = sorted(a.rows, key=_sort_key), sorted(b.rows, key=_sort_key)
    if all(close(x, y) for x, y in zip(left, right, strict=True)):
        return True
    # Rounding noise may have sorted near-equal rows differently: match greedily among the rows left over.
    rest = list(right)
    for row in left:
        match = next((i for i, other in enumerate(rest) if close(row, other)), None)
        if match is None:
            return False
        rest.pop(match)
    return True


def _sort_key(row: Row) -> tuple[tuple[int, str | float], ...]:
    return tuple(_cell_key(c) for c in row)


def _cell_key(cell: Cell) -> tuple[int, str | float]:
    if cell is None or cell != cell:
        return (0, 0.0)
    if isinstance(cell, int | float):
        return (1, float(f"{cell:.5g}") if abs(cell) < 1e300 else math.copysign(1e300, cell))
    return (2, repr(cell))


def _frame_equal(a: Outcome, b: Outcome) -> bool:
    if a.columns != b.columns or len(a.rows) != len(b.rows) or (a.kind == "value") != (b.kind == "value"):
        return False
    if (a.index is None) != (b.index is None):
        return False
    if a.index is not None and b.index is not None and not close(a.index, b.index):
        return False
    return all(close(x, y) for x, y in zip(a.rows, b.rows, strict=True))


def _frame_key(outcome: Outcome) -> Hashable:
    return outcome.columns, outcome.index is None, _shape(outcome)


MODES: dict[str, Mode] = {
    m.name: m
    for m in (
        Mode("spider", 1, _columns_key, _permuted_equal),
        Mode("bird", 1, _set, lambda a, b: _set(a) == _set(b)),
        Mode("ordered", 1, _ordered, lambda a, b: _ordered(a) == _ordered(b)),
        Mode("bag", 1, _bag, lambda a, b: _bag(a) == _bag(b)),
        Mode("set", 1, lambda o: (_width(o), _set(o)), lambda a, b: _width(a) == _width(b) and _set(a) == _set(b)),
        Mode("approx", 1, _shape, _approx_equal),
        Mode("frame", 1, _frame_key, _frame_equal),
    )
}
"""Every comparison mode, by name."""

"""Table context: columns of tables that correspond are more likely to correspond.

The affinity of two tables is the mean, over the source table's columns, of the best score any column of the target
table reaches; like column scores it is corrected for hubs. It is added to the scores of the tables' column pairs, in
units of their spread. One step of what similarity flooding (Melnik et al., ICDE 2002) does to a fixpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rerank_schema.hubness import csls
from rerank_schema.lexical import Matrix
from rerank_schema.tables import Column

WEIGHT = 0.4
NEIGHBOURS = 3


def table_positions(columns: Sequence[Column]) -> tuple[NDArray[np.int64], int]:
    """Return each column's table as a number, shape (n_columns,), and how many tables there are."""
    place = {t: i for i, t in enumerate(dict.fromkeys(c.table for c in columns))}
    return np.array([place[c.table] for c in columns], dtype=np.int64), len(place)


def affinity(scores: Matrix, source_tables: NDArray[np.int64], target_tables: NDArray[np.int64]) -> Matrix:
    """Return the affinity of tables, shape (n_source_tables, n_target_tables)."""
    n_target = int(target_tables.max()) + 1
    best = np.stack([scores[:, target_tables == t].max(axis=1) for t in range(n_target)], axis=1)
    n_source = int(source_tables.max()) + 1
    return np.stack([best[source_tables == s].mean(axis=0) for s in range(n_source)], axis=0)


def with_tables(scores: Matrix, sources: Sequence[Column], targets: Sequence[Column], weight: float = WEIGHT) -> Matrix:
    """Add table affinity to column scores; unchanged where each side is one table."""
    source_tables, _ = table_positions(sources)
    target_tables, n_target = table_positions(targets)
    if weight == 0 or n_target < 2:
        return scores
    tables = csls(affinity(scores, source_tables, target_tables), NEIGHBOURS)
    spread = float(tables.std())
    if spread == 0:
        return scores
    standard = ((tables - tables.mean()) / spread).astype(np.float32)
    return scores + weight * float(scores.std()) * standard[np.ix_(source_tables, target_tables)]

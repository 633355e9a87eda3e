"""One candidate of one source column, and what was decided about it."""

from __future__ import annotations

from dataclasses import dataclass

MATCH, REVIEW, NO = "match", "review", "no match"


DECISIONS = (MATCH, REVIEW, NO)


@dataclass(frozen=True, slots=True)
class Match:
    """One candidate of one source column.

    Parameters
    ----------
    score
        Comparable between source columns of one result.
    rank
        1-based place among the source column's candidates.
    probability
        Calibrated probability that the pair is right, or None where the method has none.
    decision
        ``match``, ``review`` or ``no match``.
    reason
        Why it stands where it stands, in words.
    """

    source_table: str
    source_column: str
    target_table: str
    target_column: str
    score: float
    rank: int
    probability: float | None = None
    decision: str = NO
    reason: str = ""

    @property
    def source(self) -> tuple[str, str]:
        """Source table and column."""
        return self.source_table, self.source_column

    @property
    def target(self) -> tuple[str, str]:
        """Target table and column."""
        return self.target_table, self.target_column

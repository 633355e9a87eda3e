"""The library in three lines: programs and a database in, ordered picks out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rerank_core.types import Candidate, Request
from rerank_programs.data import Program, Task
from rerank_programs.execution import Executor
from rerank_programs.rerank import ByOutcome, Semantic
from rerank_programs.results import Outcome
from rerank_programs.sandbox.limits import Limits
from rerank_programs.semantic import SemanticConfig


@dataclass(frozen=True, slots=True)
class Pick:
    """A program in its new place.

    Parameters
    ----------
    program, position
        Its text, and where it stood in the list given.
    confidence
        Share of the votes of its result; 0 where it did not run.
    result
        What it did.
    reason
        Why it stands here.
    """

    program: str
    position: int
    confidence: float
    result: Outcome
    reason: str


def rank(
    candidates: Sequence[str | Program],
    database: str | Path | None = None,
    question: str = "",
    *,
    language: str = "sql",
    config: SemanticConfig | None = None,
    limits: Limits | None = None,
    unsafe_local: bool = False,
) -> list[Pick]:
    """Order programs by what they do, the best first.

    Parameters
    ----------
    candidates
        Programs, as text or with counts and log-probabilities.
    database
        SQLite or DuckDB file, or a folder of CSV and Parquet files.
    question
        What was asked; helps where results tie.
    language
        ``sql``, ``pandas`` (the folder's tables are variables; the last expression is the result) or ``m``.

    Raises
    ------
    NoIsolation
        When code is to run on a machine without isolation.
    """
    programs = [c if isinstance(c, Program) else Program(c) for c in candidates]
    task = Task(question, language, None, None if database is None else str(database))
    request = Request("request", task, tuple(Candidate(str(i), p) for i, p in enumerate(programs)))
    executor = Executor(limits or Limits(), unsafe_local=unsafe_local)
    evidence = ByOutcome(Semantic(config or SemanticConfig()), executor).evidence([request])[0]
    share = {i: c.mass for c in evidence.picked.clusters for i in c.members}
    why = {r.id: r.reason or "" for r in evidence.ranking.items}
    return [
        Pick(programs[i].text, i, share.get(i, 0.0), evidence.outcomes[i], why[str(i)]) for i in evidence.picked.order
    ]


def execute(
    program: str, database: str | Path | None = None, *, language: str = "sql", limits: Limits | None = None
) -> Outcome:
    """Run one program behind the sandbox's walls and return how it ended."""
    return rank([program], database, language=language, limits=limits)[0].result

"""A small input on which two pandas programs differ: rows taken away from the frames they run on.

Nothing is evaluated out here. Each trial is one of the two programs behind lines that cut the frames to the rows in
question, run in the sandbox like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_programs.equality import equal
from rerank_programs.results import Outcome, Row
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.pool import Pool
from rerank_programs.witness import Distinguishing, reduce_rows, subset

_FRAMES = "[(k, len(v)) for k, v in list(globals().items()) if hasattr(v, 'iloc') and k.isidentifier()]"


@dataclass
class _Search:
    inputs: Mapping[str, Any]
    folder: str | None
    programs: tuple[str, str]
    mode: str
    pool: Pool
    budget: int
    runs: int = 0
    last: tuple[Outcome, Outcome] | None = None

    def run(self, *programs: str, output: bool = True) -> list[Outcome]:
        self.runs += len(programs)
        inputs = dict(self.inputs) if output else dict(self.inputs, output=None)
        job = {"database": self.folder, "calls": [], "runs": 1, "inputs": [inputs]}
        return self.pool.run([job | {"program": p} for p in programs])

    def differs(self, rows: Mapping[str, Sequence[Row]]) -> bool:
        # Empty frames tell many programs apart (NaN against 0) and ask nobody a question.
        if self.runs + 2 > self.budget or not any(rows.values()):
            return False
        cut = cuts(rows)
        a, b = self.run(*(cut + p for p in self.programs))
        if a.ok and b.ok and not equal(a, b, self.mode):
            self.last = (a, b)
            return True
        return False


def cuts(rows: Mapping[str, Sequence[Row]]) -> str:
    """Return the lines that cut frames to some of their rows."""
    return "".join(f"{name} = {name}.iloc[{[int(i) for (i,) in kept]}]\n" for name, kept in rows.items())


def distinguish_frames(
    inputs: Sequence[Mapping[str, Any]],
    folder: str | Path | None,
    first: str,
    second: str,
    *,
    mode: str = "frame",
    limits: Limits | None = None,
    max_rows: int = 2000,
    budget: int = 200,
) -> Distinguishing | None:
    """Search small frames on which two pandas programs differ; see [`distinguish`][rerank_programs.witness.distinguish].

    Parameters
    ----------
    inputs
        As a request carries them: ``variables`` (name -> expression), ``files``, ``output``. The first of them on which
        the programs differ is reduced; without any, the folder's tables are.
    folder
        Where files and tables lie.

    Returns
    -------
    Distinguishing or None
        None when the two never differ on what was tried, or no frame is among their inputs.
    """
    place = None if folder is None else str(Path(folder).resolve())
    with Pool("pandas", readable=[place] if place else [], limits=limits, workers=1) as pool:
        for one in inputs or [{}]:
            search = _Search(one, place, (first, second), mode, pool, budget)
            found = search.run(_FRAMES, output=False)[0]
            if not found.ok or not found.rows:
                continue
            lengths = [(str(name), min(int(n), max_rows)) for name, n in _pairs(found)]
            rows = {name: tuple((i,) for i in range(n)) for name, n in lengths if n}
            if not rows or not search.differs(rows):
                continue
            kept, minimal = reduce_rows([(t, i) for t in rows for i in range(len(rows[t]))], rows, search)
            small = subset(kept, rows)
            search.budget += 2 + len(small)
            search.differs(small)
            assert search.last is not None
            shown = search.run(*(cuts({t: r}) + t for t, r in small.items() if r), output=False)
            names = [t for t, r in small.items() if r]
            tables = {t: (o.columns, o.rows) for t, o in zip(names, shown, strict=True) if o.ok}
            return Distinguishing(tables, search.last, search.runs, minimal)
    return None


def _pairs(found: Outcome) -> list[tuple[str, int]]:
    """Read the list of frames out of the one cell of a value, or the rows it was spread over."""
    cells = found.rows[0][0] if len(found.columns) == 1 and len(found.rows) == 1 else [list(r) for r in found.rows]
    return [(pair[0], pair[1]) for pair in cells if len(pair) == 2]

"""A suite spread out into cells: one system on some data of a domain, with a seed and a budget."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rerank_core.ablation.suites import BudgetSpec, Experiment, MethodGrid, Suite, grid
from rerank_core.domain import Domain
from rerank_core.errors import UsageError
from rerank_core.reranker import digest

LEARNED = "learned"


@dataclass(frozen=True)
class System:
    """What a cell runs: a method or judge with settings, or a fusion of the experiment's methods."""

    name: str
    kind: str  # method | judge | fuse
    config: Mapping[str, Any]
    parts: tuple[tuple[str, str], ...] = ()  # of a fusion: (name, settings as JSON)

    @property
    def label(self) -> str:
        """Name and settings, as shown."""
        shown = ", ".join(f"{k}={v}" for k, v in self.config.items() if k != "seed")
        return f"{self.name}({shown})" if shown else self.name


@dataclass(frozen=True)
class Cell:
    """One run: a system on some data of a domain, with a seed and a budget.

    ``whole_groups``: requests are drawn by whole groups, as methods that rank jointly and learned fusions need them.
    """

    domain: str
    data: str
    requests: int | None
    candidates: int | None
    whole_groups: bool
    system: System
    seed: int
    budget: BudgetSpec

    @property
    def label(self) -> str:
        """The system with its budget."""
        limits = {k: v for k, v in self.budget.model_dump().items() if v is not None}
        shown = ", ".join(f"{k} <= {v:g}" for k, v in limits.items())
        return f"{self.system.label} [{shown}]" if shown else self.system.label


def spread(suite: Suite, available: Mapping[str, Domain[Any, Any]]) -> list[Cell]:
    """Spread a suite out into cells.

    Raises
    ------
    UsageError
        When it names a domain that is not installed.
    """
    cells: list[Cell] = []
    for e in suite.experiments:
        names = list(available) if e.domains == "all" else e.domains
        whole_groups = bool(e.methods or e.fuse)  # judges see one request at a time
        for name in names:
            if name not in available:
                raise UsageError(f"suite {suite.name!r}: domain {name!r} is not installed; {', '.join(available)}")
            for data in ["sample"] if e.data == "sample" else e.data.get(name, []):
                for seed in suite.seeds:
                    for system in _systems(e, available[name], seed):
                        cells.extend(
                            Cell(name, data, e.requests, e.candidates, whole_groups, system, seed, budget)
                            for budget in e.budgets
                        )
    return _distinct(cells)


def _distinct(cells: Iterable[Cell]) -> list[Cell]:
    seen: dict[str, Cell] = {}
    for cell in cells:
        seen.setdefault(digest(asdict(cell)), cell)
    return list(seen.values())


def _systems(e: Experiment, domain: Domain[Any, Any], seed: int) -> list[System]:
    if e.methods == "demo":
        wanted: Sequence[str | MethodGrid] = domain.demo_methods
    elif e.methods == "all":
        wanted = list(domain.methods)
    else:
        wanted = e.methods
    out = []
    for item in wanted:
        method = MethodGrid(name=item) if isinstance(item, str) else item
        for config in method.settings():
            known = domain.methods[method.name].default if method.name in domain.methods else {}
            out.append(System(method.name, "method", {**config, **({"seed": seed} if "seed" in known else {})}))
    if domain.rendering is not None:
        for judge in e.judges:
            out.extend(System(judge, "judge", {**c, "seed": seed}) for c in grid(e.judge_settings))
    parts = tuple((s.name, json.dumps(dict(s.config), sort_keys=True)) for s in out)
    return out + [System(name, "fuse", {}, parts) for name in e.fuse]

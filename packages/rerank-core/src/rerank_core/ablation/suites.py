"""Ablation suites: what to run, typed and validated, read from YAML.

A suite lists *experiments*; each spreads out into cells, one for every domain x data x system x setting x seed.

```yaml
name: quick
title: Every domain's sample through its own methods
seeds: [0]
experiments:
  - domains: all              # or a list of names
    data: sample              # or by domain, the sample and folders below --data: {passages: [sample, text/noveleval_2306]}
    requests: 100             # at most so many, drawn with the seed: whole split groups, or, for judges alone, one by one
    methods: demo             # demo, all, or a list of names and {name, set: {key: [values]}}
    judges: [yes-no, first]   # judges of rerank-lm through the domain's rendering
    judge_settings: {model: [smollm2], balanced: [false, true]}
    fuse: [rrf, zscore, learned]   # of the first stage and this experiment's methods
    budgets: [{calls: 100}, {calls: 1000}]
```
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from rerank_core.budget import Budget
from rerank_core.errors import InputError
from rerank_core.fusion import FUSIONS
from rerank_core.measures import parse


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MethodGrid(_Strict):
    """A method and the settings to try: every combination is a cell."""

    name: str
    set: dict[str, list[Any]] = Field(default_factory=dict)

    def settings(self) -> list[dict[str, Any]]:
        """Return every combination."""
        return grid(self.set)


class BudgetSpec(_Strict):
    """A budget a cell."""

    calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0)

    def budget(self) -> Budget:
        """Return the budget object."""
        return Budget(self.calls, self.tokens, self.seconds)


class Experiment(_Strict):
    """Some domains, some data, some systems. Fields: see the module's example."""

    domains: Literal["all"] | list[str] = "all"
    data: Literal["sample"] | dict[str, list[str]] = "sample"
    requests: int | None = Field(default=None, ge=1)
    candidates: int | None = Field(default=None, ge=2)
    methods: Literal["demo", "all"] | list[str | MethodGrid] = "demo"
    judges: list[str] = Field(default_factory=list)
    judge_settings: dict[str, list[Any]] = Field(default_factory=dict)
    fuse: list[str] = Field(default_factory=list)
    budgets: list[BudgetSpec] = Field(default_factory=lambda: [BudgetSpec()])

    @field_validator("fuse")
    @classmethod
    def _known_fusions(cls, names: list[str]) -> list[str]:
        for name in names:
            if name != "learned" and name not in FUSIONS:
                raise ValueError(f"unknown fusion {name!r}; known: learned, {', '.join(sorted(FUSIONS))}")
        return names


class Suite(_Strict):
    """A named set of experiments.

    ``familiar`` and ``new`` name data sets; where both are given, the report shows how far each system drops from
    the one to the other. ``measures`` are by default the common ones and the domain's own; the first is the one that
    plots and drops are about.
    """

    name: str
    title: str = ""
    seeds: list[int] = Field(default_factory=lambda: [0], min_length=1)
    measures: list[str] = Field(default_factory=list)
    experiments: list[Experiment] = Field(min_length=1)
    familiar: list[str] = Field(default_factory=list)
    new: list[str] = Field(default_factory=list)

    @field_validator("measures")
    @classmethod
    def _known_measures(cls, names: list[str]) -> list[str]:
        for name in names:
            parse(name)
        return names


def grid(values: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Return every combination of the listed values, in order."""
    keys = list(values)
    return [dict(zip(keys, combination, strict=True)) for combination in product(*values.values())]


def read_suite(path: str | Path) -> Suite:
    """Read a suite.

    Raises
    ------
    InputError
        With the file and what is wrong where: YAML syntax, an unknown key, a value of the wrong type.
    """
    import yaml

    try:
        raw = yaml.safe_load(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", path) from error
    except UnicodeDecodeError as error:
        raise InputError(f"invalid UTF-8: {error}", path) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InputError(
            f"not YAML: {getattr(error, 'problem', error)}", path, mark.line + 1 if mark else None
        ) from None
    if not isinstance(raw, dict):
        raise InputError("a suite is a mapping with name and experiments", path)
    try:
        return Suite(**raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(x) for x in first["loc"])
        raise InputError(f"{where}: {first['msg']}", path) from None
    except TypeError as error:
        raise InputError(str(error), path) from None

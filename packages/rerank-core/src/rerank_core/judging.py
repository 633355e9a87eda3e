"""Judges of other packages, by name, in any domain that renders. The core knows them through entry points only.

``rerank.judges`` names a function that lists judges (light), ``rerank.judge_builders`` one that builds a reranker out
of a judge's name and a rendering (heavy things happen at its first question, not before).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from rerank_core.errors import UsageError
from rerank_core.rendering import Rendering
from rerank_core.reranker import Reranker

JUDGES = "rerank.judges"
BUILDERS = "rerank.judge_builders"


def catalogue() -> list[dict[str, Any]]:
    """Return every installed judge as an object with at least ``name``, ``source``, ``capability``, ``domains``."""
    return [row for e in sorted(entry_points(group=JUDGES), key=lambda e: e.name) for row in e.load()()]


def names() -> list[str]:
    """Return the names of the installed judges."""
    return [str(row["name"]) for row in catalogue()]


def build(name: str, rendering: Rendering[Any, Any], config: Mapping[str, Any]) -> Reranker:
    """Build a judge with the strategy that fits it.

    Parameters
    ----------
    config
        ``model``, ``endpoint``, ``record``, ``replay``, ``window``, ``stride``, ``top``, ``seed`` and the judge's own
        options.

    Raises
    ------
    UsageError
        When no installed package builds judges, or the judge or an option is unknown.
    """
    builders = sorted(entry_points(group=BUILDERS), key=lambda e: e.name)
    if not builders:
        raise UsageError("no judges are installed; pip install rerank-lm")
    return builders[0].load()(name, rendering=rendering, **config)

"""From a judge's name to a reranker: back end, judge, the strategy that fits it, and how deep it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

from rerank_core.budget import Budget
from rerank_core.errors import UsageError
from rerank_core.reranker import Reranker
from rerank_core.strategies import (
    Groupwise,
    HeapSort,
    Pointwise,
    PositionBalanced,
    Setwise,
    Shuffled,
    SlidingWindow,
)
from rerank_lm.backends.base import BackEnd
from rerank_lm.backends.opening import open_backend
from rerank_lm.judges.catalogue import BY_NAME


@dataclass(frozen=True)
class Window:
    """Numbers that a strategy may need."""

    size: int
    stride: int
    top: int
    seed: int
    budget: Budget | None


@dataclass(frozen=True)
class Recipe:
    """How a judge is driven.

    Parameters
    ----------
    strategy
        ``strategy(judge, rendering, window, options)``.
    knobs
        Options that belong to the strategy, with their defaults; all others are the judge's own.
    preset
        Settings of the judge that the name stands for.
    model
        Model to use where the caller names none.
    """

    strategy: Callable[[Any, Any, Window, Mapping[str, Any]], Reranker]
    knobs: Mapping[str, Any] = field(default_factory=dict)
    preset: Mapping[str, Any] = field(default_factory=dict)
    model: str = "smollm2"


def _common(w: Window) -> dict[str, Any]:
    return {"depth": w.top, "seed": w.seed, "budget": w.budget}


def _pointwise(judge: Any, rendering: Any, w: Window, _: Mapping[str, Any]) -> Reranker:
    return Pointwise(judge, rendering, **_common(w))


def _heap(judge: Any, rendering: Any, w: Window, o: Mapping[str, Any]) -> Reranker:
    return HeapSort(judge, rendering, k=o["k"], **_common(w))


def _setwise(judge: Any, rendering: Any, w: Window, o: Mapping[str, Any]) -> Reranker:
    return Setwise(judge, rendering, k=o["k"], arity=o["arity"], **_common(w))


def _sliding(judge: Any, rendering: Any, w: Window, o: Mapping[str, Any]) -> Reranker:
    size = min(w.size, w.top)
    return SlidingWindow(judge, rendering, size=size, stride=min(w.stride, size), passes=o["passes"], **_common(w))


def _groups(judge: Any, rendering: Any, w: Window, o: Mapping[str, Any]) -> Reranker:
    size = min(w.size, w.top)
    return Groupwise(
        judge, rendering, size=size, interleaved=o["interleaved"], anchors=min(o["anchors"], size - 1), **_common(w)
    )


def _whole(judge: Any, rendering: Any, w: Window, _: Mapping[str, Any]) -> Reranker:
    return Groupwise(judge, rendering, size=w.top, **_common(w))


def _list_whole(judge: Any, rendering: Any, w: Window, o: Mapping[str, Any]) -> Reranker:
    return SlidingWindow(judge, rendering, size=w.top, stride=w.top, passes=o["passes"], **_common(w))


_SORT = {"k": 10}
_SET = {"k": 10, "arity": 2}
_SLIDE = {"passes": 1}
_GROUP = {"interleaved": False, "anchors": 0}
_REASONED_SET = {"k": 10, "arity": 19}

RECIPES: dict[str, Recipe] = {
    "yes-no": Recipe(_pointwise),
    "binary": Recipe(_pointwise),
    "graded": Recipe(_pointwise),
    "query-likelihood": Recipe(_pointwise),
    "pairwise": Recipe(_heap, _SORT),
    "setwise": Recipe(_setwise, _SET),
    "rank-r1": Recipe(_setwise, _REASONED_SET, {"reasoning": True, "max_tokens": 2048}),
    "first": Recipe(_sliding, _SLIDE),
    "letters": Recipe(_sliding, _SLIDE),
    "permutation": Recipe(_sliding, _SLIDE),
    "reasonrank": Recipe(_sliding, _SLIDE, {"reasoning": True}),
    "dear": Recipe(_sliding, _SLIDE, {"reasoning": True, "turns": True, "temperature": 0.5}),
    "insertrank": Recipe(_list_whole, _SLIDE, {"insert_scores": "minmax100"}),
    "groupwise": Recipe(_groups, _GROUP),
    "icr": Recipe(_whole),
    "e2rank": Recipe(_whole, model="all-minilm-l6-v2"),
    "faireval": Recipe(_heap, _SORT),
    "mm-r5": Recipe(_list_whole, _SLIDE),
    "gmr": Recipe(_pointwise),
}
"""Judges that need nothing but a back end; MVP and CLUE need a checkpoint or labelled traces and are made in Python."""

_FAIR = {"shuffle": 0, "balanced": False}


def build(
    name: str,
    *,
    rendering: Any,
    model: str | None = None,
    endpoint: str | None = None,
    record: str | Path | None = None,
    replay: str | Path | None = None,
    cache: str | Path | None = None,
    window: int = 20,
    stride: int = 10,
    top: int = 100,
    budget: Budget | None = None,
    seed: int = 0,
    threads: int | None = None,
    backend: BackEnd | None = None,
    backend_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Reranker:
    """Make a reranker out of a judge's name.

    Parameters
    ----------
    name
        One of ``RECIPES``.
    rendering
        The domain's: how query and candidate look as text or picture.
    model, endpoint
        A local model by name, or the name of a model that an OpenAI-compatible URL serves; by default the packaged
        SmolLM2 (MiniLM for ``e2rank``).
    record, replay, cache
        File to record answers in, file to answer from without a model, folder that remembers answers.
    window, stride, top
        Window of listwise judges (26 at most for letters), its stride, and how many candidates are reranked.
    backend
        An open back end instead of ``model`` and ``endpoint``.
    options
        The judge's own settings and its strategy's (``k``, ``arity``, ``passes``, ``interleaved``, ``anchors``), and
        ``shuffle`` (average over so many seeded orders) or ``balanced`` (both orders).

    Raises
    ------
    UsageError
        For an unknown judge or option, or a judge that needs more than the back end can do.
    """
    if name not in RECIPES:
        raise UsageError(f"no judge {name!r}; judges: {', '.join(sorted(RECIPES))}")
    if top < 1 or window < 2 or not 1 <= stride <= window:
        raise UsageError("top must be at least 1, window at least 2, and stride between 1 and the window")
    recipe = RECIPES[name]
    judge_type = judge_class(name)
    own = {f.name for f in fields(judge_type.options_type)}
    unknown = sorted(set(options) - own - set(recipe.knobs) - set(_FAIR))
    if unknown:
        known = ", ".join(sorted(own | set(recipe.knobs) | set(_FAIR)))
        raise UsageError(f"judge {name!r} has no option {unknown[0]!r}; options: {known}")
    if backend is None:
        backend = open_backend(
            resolve_alias(model or recipe.model) if endpoint is None else (model or "default"),
            endpoint=endpoint,
            record=record,
            replay=replay,
            cache=cache,
            threads=threads,
            **(backend_options or {}),
        )
    judge: Any = judge_type(backend, **{**recipe.preset, **{k: v for k, v in options.items() if k in own}})
    fair = {**_FAIR, **options}
    if fair["shuffle"]:
        judge = Shuffled(judge, int(fair["shuffle"]), seed)
    if fair["balanced"]:
        judge = PositionBalanced(judge)
    knobs = {**recipe.knobs, **{k: v for k, v in options.items() if k in recipe.knobs}}
    return recipe.strategy(judge, rendering, Window(window, stride, top, seed, budget), knobs)


def judge_class(name: str) -> Any:
    """Return a judge's class by its catalogue name."""
    module, _, attribute = BY_NAME[name].module.partition(":")
    return getattr(import_module(module), attribute)


def resolve_alias(name: str) -> str:
    """Return the full alias of the short names that commands use."""
    return {"smollm2": "smollm2-135m-instruct", "minilm": "all-minilm-l6-v2"}.get(name, name)

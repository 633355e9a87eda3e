"""What an app registers: everything the ablations, the report, the server and the umbrella command know of a domain.

An app's ``domain.py`` holds one [`Domain`][rerank_core.domain.Domain] object and names it in the entry-point group
``rerank.domains``. Discovery reads package metadata only; a domain's module is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from rerank_core import judging
from rerank_core.codec import Codec, PlainCodec
from rerank_core.errors import UsageError
from rerank_core.measures import Measure
from rerank_core.rendering import Rendering, TextRendering
from rerank_core.reranker import Reranker
from rerank_core.types import Dataset

Q = TypeVar("Q")
C = TypeVar("C")

GROUP = "rerank.domains"
JUDGE = "judge:"
NO_CONFIG: Mapping[str, Any] = MappingProxyType({})

__all__ = [
    "GROUP",
    "NO_CONFIG",
    "Codec",
    "Domain",
    "Method",
    "PlainCodec",
    "Rendering",
    "TextRendering",
    "installed",
    "load",
]


@dataclass(frozen=True)
class Method:
    """A named reranker of a domain.

    Parameters
    ----------
    make
        ``make(config) -> Reranker``; ``config`` is the default with the caller's values on top.
    title
        One line: what it does.
    source
        Paper or product it follows, or ``"ours"``.
    needs
        Extras, models or data it needs, for example ``("lightgbm", "model: ms-marco-minilm-l12")``.
    default
        Default configuration; also names every configuration key the method knows.
    cost
        In words, what it costs a query: ``"1 forward a candidate"``.
    """

    make: Callable[[Mapping[str, Any]], Reranker]
    title: str
    source: str = "ours"
    needs: tuple[str, ...] = ()
    default: Mapping[str, Any] = field(default_factory=lambda: NO_CONFIG)
    cost: str = ""

    def build(self, config: Mapping[str, Any] = NO_CONFIG) -> Reranker:
        """Make the reranker.

        Raises
        ------
        UsageError
            When the configuration names a key that the method does not know.
        """
        unknown = sorted(set(config) - set(self.default))
        if unknown:
            known = ", ".join(sorted(self.default)) or "none"
            raise UsageError(f"unknown setting {unknown[0]!r}; this method's settings: {known}")
        return self.make({**self.default, **config})


@dataclass(frozen=True)
class Domain(Generic[Q, C]):
    """One field of reranking.

    Parameters
    ----------
    name, title
        The entry point's name, and what a person calls the field.
    methods
        Named rerankers; ``"default"`` is what a user gets who names none.
    measures
        The field's official measures; the common ones come for free.
    codec
        JSON <-> query and content.
    rendering
        None where a judge cannot read the domain.
    sample
        Embedded real input with gold; no network, built in seconds, same for the same seed.
    load
        Reads a data folder (``data/<topic>``) into a dataset, for ablations; None where there is no such layout.
    demo_methods
        Methods the demo compares; by default ``("default",)``.
    notes
        Sentences for people, by topic (``sample``: what the embedded sample is).
    executes
        Whether reranking runs code that came with a request; the server then refuses it unless told otherwise.
    """

    name: str
    title: str
    methods: Mapping[str, Method]
    measures: Sequence[Measure]
    codec: Codec[Q, C]
    rendering: Rendering[Q, C] | None
    sample: Callable[[], Dataset[Q, C]]
    load: Callable[[Path], Dataset[Q, C]] | None = None
    demo_methods: tuple[str, ...] = ("default",)
    notes: Mapping[str, str] = field(default_factory=dict)
    executes: bool = False

    def method(self, name: str, config: Mapping[str, Any] = NO_CONFIG) -> Reranker:
        """Build a reranker by name: one of the domain's methods, or any installed judge through the rendering.

        ``judge:NAME`` is always the judge, also where a method of the domain bears its name.

        Raises
        ------
        UsageError
            When there is no such method; the text lists those there are.
        """
        if name in self.methods:
            return self.methods[name].build(config)
        judges = judging.names() if self.rendering is not None else []
        if self.rendering is not None and name.removeprefix(JUDGE) in judges:
            return judging.build(name.removeprefix(JUDGE), self.rendering, config)
        known = ", ".join([*sorted(self.methods), *sorted({self.judge_name(j) for j in judges} - set(self.methods))])
        raise UsageError(f"{self.name} has no method {name!r}; methods: {known}")

    def judge_name(self, judge: str) -> str:
        """Return what `method` calls a judge: by its own name, unless the domain has a method so called that asks no model."""
        taken = judge in self.methods and "model" not in self.methods[judge].default
        return JUDGE + judge if taken else judge


def installed() -> dict[str, EntryPoint]:
    """Return the installed domains' entry points by name, without importing any of them."""
    return {e.name: e for e in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def load(name: str) -> Domain[Any, Any]:
    """Import a domain.

    Raises
    ------
    UsageError
        When no such domain is installed.
    """
    found = installed()
    if name not in found:
        raise UsageError(f"no domain {name!r} is installed; installed: {', '.join(found) or 'none'}")
    domain = found[name].load()
    if not isinstance(domain, Domain):
        raise UsageError(f"entry point {name!r} of {GROUP} is not a Domain but {type(domain).__name__}")
    return domain

"""The named rerankers: matchers seen through the house's request and ranking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import UsageError
from rerank_core.types import Candidate, Gold, Ranking, Request
from rerank_schema.encode import DEFAULT_MODEL, load_encoder
from rerank_schema.gold import GoldPairs
from rerank_schema.reasons import reason
from rerank_schema.scored import Matcher
from rerank_schema.tables import Column, Schema

ColumnRequest = Request[Column, Column]


@dataclass(frozen=True)
class ColumnReranker:
    """Reranks columns with a matcher, a whole table pair at a time.

    Requests of one group are the source columns of one table pair; their candidates together are its target columns.
    A candidate that the matcher does not score goes last.
    """

    matcher: Matcher
    explain: bool = True

    @property
    def name(self) -> str:
        """The matcher's name."""
        return self.matcher.name

    def fingerprint(self) -> str:
        """Return the matcher's fingerprint."""
        return self.matcher.fingerprint()

    def rerank(self, requests: Sequence[ColumnRequest]) -> list[Ranking]:
        """Rerank requests, group by group."""
        groups: dict[object, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(request.group if request.group is not None else i, []).append(i)
        rankings: dict[int, Ranking] = {}
        for members in groups.values():
            for i, ranking in zip(members, self._group([requests[i] for i in members]), strict=True):
                rankings[i] = ranking
        return [rankings[i] for i in range(len(requests))]

    def _group(self, requests: Sequence[ColumnRequest]) -> list[Ranking]:
        targets = {c.id: c.content for r in requests for c in r.candidates}
        place = {id_: j for j, id_ in enumerate(targets)}
        columns = list(targets.values())
        scored = self.matcher.score([r.query for r in requests], columns)
        out = []
        for i, request in enumerate(requests):
            places = [place[c.id] for c in request.candidates]
            scores = np.asarray(scored.scores[i, places], dtype=np.float64)
            reasons = {}
            if self.explain and scored.words and places:
                best = int(np.nanargmax(scores)) if np.isfinite(scores).any() else 0
                why = reason(request.query, columns[places[best]], scored.evidence(i, places[best]), scored.words)
                reasons = {request.candidates[best].id: why}
            out.append(Ranking.from_scores(request, scores, reasons=reasons))
        return out


def requests_of(source: Schema, target: Schema, group: str) -> list[ColumnRequest]:
    """Turn a table pair into one request a source column; candidates are all target columns, those of like names first."""
    from rerank_schema.matchers import Header

    scores = Header().score(source.columns, target.columns).scores
    out = []
    for column, row in zip(source.columns, scores, strict=True):
        best_first = np.argsort(-row, kind="stable")
        candidates = tuple(Candidate(target.columns[j].id, target.columns[j], score=float(row[j])) for j in best_first)
        out.append(Request(f"{group}:{column.id}", column, candidates, group))
    return out


def gold_of(source: Schema, target: Schema, gold: GoldPairs, group: str) -> Gold:
    """Turn gold pairs into gains by request and candidate id."""
    tables = gold.has_tables
    name: Callable[[Column], tuple[str, str]] = lambda c: (c.table if tables else "", c.name)  # noqa: E731
    left = {name(c): c.id for c in source.columns}
    right = {name(c): c.id for c in target.columns}
    out: dict[str, dict[str, float]] = {}
    for s, t in gold.pairs:
        if s in left:
            gains = out.setdefault(f"{group}:{left[s]}", {})
            if t in right:
                gains[right[t]] = 1.0
    return out


def _magneto(config: Mapping[str, Any], official: bool) -> Matcher:
    from rerank_schema.magneto import MagnetoParams
    from rerank_schema.matchers import Magneto

    known = {f.name for f in fields(MagnetoParams)}
    params = MagnetoParams(**{k: v for k, v in config.items() if k in known}, official=official)
    return Magneto(
        load_encoder(config["model"], config["precision"], cache=config["cache"]),
        params,
        "magneto-official" if official else "magneto",
    )


def _default(config: Mapping[str, Any]) -> Matcher:
    from rerank_schema.fused import Fused, FusedParams

    return Fused(
        load_encoder(config["model"], config["precision"], cache=config["cache"]),
        FusedParams(int(config["neighbours"]), float(config["tables"]), tuple(config["without"])),
    )


def _header(config: Mapping[str, Any]) -> Matcher:
    from rerank_schema.matchers import Header

    return Header()


MATCHERS: dict[str, Callable[[Mapping[str, Any]], Matcher]] = {
    "default": _default,
    "magneto": lambda config: _magneto(config, official=False),
    "magneto-official": lambda config: _magneto(config, official=True),
    "header": _header,
}
"""Method name -> ``f(config)`` -> matcher."""

ENCODER_DEFAULTS: dict[str, Any] = {"model": DEFAULT_MODEL, "precision": "auto", "cache": True}
MAGNETO_DEFAULTS: dict[str, Any] = {
    **ENCODER_DEFAULTS,
    "precision": "fp32",  # equality with the released code asks for it
    "encoding": "header_values_verbose",
    "sampling": "mixed",
    "sample_size": 10,
    "topk": 20,
    "threshold": 0.1,
    "strings": False,
    "embeddings": True,
    "equal": True,
    "bipartite": True,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "default": {**ENCODER_DEFAULTS, "neighbours": 10, "tables": 0.4, "without": []},
    "magneto": MAGNETO_DEFAULTS | {"encoding": "header_values_repeat", "sampling": "priority_sampling"},
    "magneto-official": MAGNETO_DEFAULTS,
    "header": {},
}
"""Method name -> default configuration."""


def make_matcher(method: str, config: Mapping[str, Any] | None = None) -> Matcher:
    """Build a matcher by name, or from a folder that `fit` wrote.

    Raises
    ------
    UsageError
        When there is no such method or it does not know a setting.
    """
    if method not in MATCHERS:
        if (Path(method) / "ranker.json").exists():
            from rerank_schema.learned import load_learned

            return load_learned(Path(method), make_matcher("default", config))
        raise UsageError(f"no method {method!r}; methods: {', '.join(MATCHERS)}, or a folder written by `fit`")
    given = dict(config or {})
    if unknown := sorted(set(given) - set(DEFAULTS[method])):
        raise UsageError(
            f"{method} does not know {', '.join(unknown)}; settings: {', '.join(DEFAULTS[method]) or 'none'}"
        )
    return MATCHERS[method](DEFAULTS[method] | given)

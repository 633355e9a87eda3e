"""What the commands do, as functions on paths that return rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core.errors import InputError, UsageError
from rerank_core.io import read_jsonl
from rerank_recommend import evaluation, official
from rerank_recommend.data import read_catalogue, read_gold, read_turns
from rerank_recommend.grounding import Grounder
from rerank_recommend.measures import summarise

MODES = ("default", "official")
MATCHES = ("id", "name")


def _match(match: str | None, default: str) -> str:
    if match not in (None, *MATCHES):
        raise UsageError(f"unknown --match {match!r}; known: {', '.join(MATCHES)}")
    return match or default


def evaluate_recorded(
    recorded: Path, test: Path, entities: Path, *, mode: str = "default", match: str | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Judge recorded answers.

    ``official`` gives He et al.'s four settings, the quotable one (D: far-off names and mentioned items dropped)
    first; a file of stored matches (``index``, ``matches``) is judged as it is. ``default`` grounds with this
    project's rules. A model can only name titles, so both match by name unless told otherwise.
    """
    catalogue = read_catalogue(entities)
    turns, gold = read_turns(test), read_gold(test)
    _need_gold(gold, test)
    name = recorded.name.removesuffix(".gz").removesuffix(".jsonl")
    if mode == "official":
        if _match(match, "name") != "name":
            raise UsageError("the official mode matches by name")
        matches = _stored_matches(recorded) or official.ground_answers(evaluation.read_answers(recorded), catalogue)
        return [
            row.as_dict()
            for setting in official.SETTINGS
            for row in summarise(
                f"{name} official",
                evaluation.official_cases(turns, gold, matches, catalogue, setting),
                cutoffs=(1, 5, 10, 20),
                seed=seed,
                setting=setting.name,
                match="name",
            )
        ]
    if mode != "default":
        raise UsageError(f"unknown --mode {mode!r}; known: {', '.join(MODES)}")
    grounded = evaluation.ground_recorded(evaluation.read_answers(recorded), Grounder(catalogue))
    matched = _match(match, "name")
    cases = evaluation.list_cases(turns, gold, evaluation.answer_lists(grounded), catalogue, matched)
    rows = [r.as_dict() for r in summarise(f"{name} default", cases, seed=seed, match=matched)]
    audit = evaluation.validity(grounded)
    share = {"system": f"{name} default", "measure": "valid", "value": audit["valid"], "n": audit["lines"]}
    return [*rows, {**share, "ci_low": None, "ci_high": None, "subset": "lines", "match": matched}]


def _stored_matches(path: Path) -> dict[str, list[official.Match]] | None:
    """Read ``{"index", "matches": [[text, name, edits], ...]}`` rows; None where the file holds answers instead."""
    stored: dict[str, list[official.Match]] = {}
    for line, row in read_jsonl(path):
        if "matches" not in row:
            return None
        try:
            stored[str(row["index"])] = [official.Match(str(t), str(n), int(e)) for t, n, e in row["matches"]]
        except (KeyError, TypeError, ValueError):
            raise InputError('stored matches need "index" and [text, name, edits] triples', path, line) from None
    return stored


def _need_gold(gold: dict[str, tuple[Any, ...]], test: Path) -> None:
    if not any(gold.values()):
        raise InputError('holds no truth: no row has "rec"', test)


def evaluate_ranked(
    ranked: Path, test: Path, entities: Path | None = None, *, match: str | None = None, seed: int = 0
) -> list[dict[str, Any]]:
    """Judge a ranking file; items match by id where the test file gives ids."""
    turns, gold = read_turns(test), read_gold(test)
    _need_gold(gold, test)
    catalogue = read_catalogue(entities) if entities is not None else None
    matched = _match(match, "id")
    if matched == "name" and catalogue is None and any(isinstance(g, int) for gs in gold.values() for g in gs):
        raise UsageError("matching by name needs --entities where the test file gives ids")
    lines = evaluation.read_ranked(ranked)
    if not lines.keys() & {t.id for t in turns}:
        raise InputError(f"ranks none of the turns of {test.name}: do the ids belong together?", ranked)
    cases = evaluation.ranked_cases(turns, gold, lines, matched, catalogue)
    return [r.as_dict() for r in summarise(ranked.name.removesuffix(".jsonl"), cases, seed=seed, match=matched)]

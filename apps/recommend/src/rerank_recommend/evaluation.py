"""Judging recorded answers and ranking files against a test file's truth."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_core.errors import InputError
from rerank_core.io import read_jsonl
from rerank_recommend import official
from rerank_recommend.answers import parse_entries
from rerank_recommend.data import Catalogue, Reference, Turn, entity_rows, gold_columns
from rerank_recommend.grounding import Grounded, Grounder, listed
from rerank_recommend.live import drop_cut_entry
from rerank_recommend.measures import Case, cases_of


def read_answers(path: str | Path, *, whole: bool = False) -> dict[str, str]:
    """Read recorded answers: JSON lines with ``index`` (or ``id``) and ``text``. An answer without text is empty.

    The last line of an answer whose ``finish_reason`` is ``length`` may be half a title and is left out, unless
    ``whole``.

    Raises
    ------
    InputError
        On a row without an index, or one that occurs twice, with file and line.
    """
    answers: dict[str, str] = {}
    for line, row in read_jsonl(path):
        key = row.get("index", row.get("id"))
        if key is None:
            raise InputError('an answer needs "index" (the turn it belongs to) and "text"', path, line)
        if str(key) in answers:
            raise InputError(f"turn {key} has two answers", path, line)
        text = str(row.get("text") or "")
        answers[str(key)] = text if whole else drop_cut_entry(text, row.get("finish_reason"))
    if not answers:
        raise InputError("no answers", path)
    return answers


def item_key(catalogue: Catalogue, column: int, match: str) -> Hashable:
    """Return what two items must share to count as the same: the id, or the name (He et al.)."""
    item = catalogue.items[column]
    return item.id if match == "id" else catalogue.names[catalogue.row_of[item.id]]


def seen_rows(catalogue: Catalogue, turn: Turn, linked: Sequence[int] = ()) -> list[int]:
    """Return the rows of entities mentioned before a turn: as the file says, else as linked from the text."""
    given = turn.mentioned if turn.mentioned is not None else turn.mentions
    return entity_rows(catalogue, given) if given is not None else list(linked)


def official_cases(
    turns: Sequence[Turn],
    gold: Mapping[str, Sequence[Reference]],
    matches: Mapping[str, Sequence[official.Match]],
    catalogue: Catalogue,
    setting: official.Setting,
) -> list[Case]:
    """Return He et al.'s cases: everything by name, repeats in the list kept, all conditions from one list."""
    cases = []
    for turn in turns:
        seen = [catalogue.names[r] for r in seen_rows(catalogue, turn)]
        wanted = [catalogue.names[r] for r in entity_rows(catalogue, gold.get(turn.id, ()))]
        ranked = official.ranked_names(matches.get(turn.id, ()), seen, setting)
        cases += cases_of(turn.id, turn.dialogue, ranked, wanted, seen, drop_seen_for_new=False)
    return cases


def ground_recorded(answers: Mapping[str, str], grounder: Grounder) -> dict[str, list[Grounded]]:
    """Parse and ground all answers (turn id -> text) in one pass."""
    entries = {i: parse_entries(a) for i, a in answers.items()}
    flat = grounder.ground([e for es in entries.values() for e in es])
    grounded, at = {}, 0
    for i, es in entries.items():
        grounded[i] = flat[at : at + len(es)]
        at += len(es)
    return grounded


def list_cases(
    turns: Sequence[Turn],
    gold: Mapping[str, Sequence[Reference]],
    lists: Mapping[str, Sequence[int]],
    catalogue: Catalogue,
    match: str = "id",
    *,
    links: Mapping[str, Sequence[int]] | None = None,
    unclean: frozenset[str] = frozenset(),
) -> list[Case]:
    """Return the cases of lists of item columns (turn id -> best first); a missing list is empty.

    Parameters
    ----------
    unclean
        Dialogues that training has seen.
    """
    cases = []
    for turn in turns:
        rows = seen_rows(catalogue, turn, (links or {}).get(turn.id, ()))
        seen_columns = [int(c) for c in catalogue.item_of[rows] if c >= 0] if rows else []
        seen = [item_key(catalogue, c, match) for c in seen_columns]
        wanted = [item_key(catalogue, c, match) for c in gold_columns(catalogue, gold.get(turn.id, ()))]
        ranked = list(dict.fromkeys(item_key(catalogue, c, match) for c in lists.get(turn.id, ())))
        cases += cases_of(turn.id, turn.dialogue, ranked, wanted, seen, clean=turn.dialogue not in unclean)
    return cases


@dataclass(frozen=True)
class RankedTurn:
    """A line of a ranking file: ids and titles best first, what was mentioned, whether training knew the dialogue."""

    id: str
    ids: tuple[str, ...]
    titles: tuple[str, ...]
    seen: tuple[str, ...]
    in_training: bool


def read_ranked(path: str | Path) -> dict[str, RankedTurn]:
    """Read a ranking file as ``rerank`` writes it; ``title``, ``seen`` and ``in_training`` may be missing."""
    ranked: dict[str, RankedTurn] = {}
    for line, row in read_jsonl(path):
        items = row.get("ranking")
        if "id" not in row or not isinstance(items, list) or not all(isinstance(x, dict) and "id" in x for x in items):
            raise InputError('a ranking needs "id" and "ranking": [{"id", ...}, ...]', path, line)
        turn = RankedTurn(
            str(row["id"]),
            tuple(str(x["id"]) for x in items),
            tuple(str(x.get("title") or x["id"]) for x in items),
            tuple(map(str, row.get("seen") or ())),
            bool(row.get("in_training")),
        )
        if turn.id in ranked:
            raise InputError(f"turn {turn.id} occurs twice", path, line)
        if len(set(turn.ids)) != len(turn.ids):
            raise InputError(f"turn {turn.id} ranks an item twice", path, line)
        ranked[turn.id] = turn
    return ranked


def ranked_cases(
    turns: Sequence[Turn],
    gold: Mapping[str, Sequence[Reference]],
    ranked: Mapping[str, RankedTurn],
    match: str = "id",
    catalogue: Catalogue | None = None,
) -> list[Case]:
    """Return the cases of a ranking file. Gold given as text is compared with titles, gold given as a number with ids.

    A turn without a line counts as missed. With a catalogue, names lead to ids first.
    """
    named_ids = (
        {} if catalogue is None else {i: _title_key(n) for i, n in zip(catalogue.ids, catalogue.names, strict=True)}
    )
    cases = []
    for turn in turns:
        line = ranked.get(turn.id, RankedTurn(turn.id, (), (), (), False))
        wanted = gold.get(turn.id, ())
        named = match == "name" or any(isinstance(g, str) for g in (*wanted, *(turn.mentions or ())))
        keys = _keys(line, named)
        names = named_ids or (dict(zip(line.ids, keys, strict=True)) if named else {})

        def key(reference: Reference, named: bool = named, names: Mapping[str, str] = names) -> Hashable:
            if not named:
                return str(reference)
            return names.get(str(reference), _title_key(str(reference)))

        given = turn.mentioned if turn.mentioned is not None else turn.mentions
        seen: Iterable[Hashable] = [key(s) for s in given] if given is not None else [key(s) for s in line.seen]
        golds = list(dict.fromkeys(key(g) for g in wanted))
        ordered = list(dict.fromkeys(keys))
        cases += cases_of(turn.id, turn.dialogue, ordered, golds, list(seen), clean=not line.in_training)
    return cases


def _title_key(name: str) -> str:
    return " ".join(name.split())


def _keys(line: RankedTurn, named: bool) -> list[str]:
    return [_title_key(t) for t in line.titles] if named else list(line.ids)


def answer_lists(grounded: Mapping[str, Sequence[Grounded]]) -> dict[str, list[int]]:
    """Return turn id -> recommended item columns."""
    return {i: listed(g) for i, g in grounded.items()}


def validity(grounded: Mapping[str, Sequence[Grounded]]) -> dict[str, Any]:
    """Return the audit of grounding: lines, share that leads to an item, counts of every reason."""
    reasons: dict[str, int] = {}
    for lines in grounded.values():
        for g in lines:
            reasons[g.reason] = reasons.get(g.reason, 0) + 1
    total = sum(reasons.values())
    valid = sum(g.item is not None for lines in grounded.values() for g in lines)
    return {"lines": total, "valid": valid / total if total else 0.0, "reasons": dict(sorted(reasons.items()))}

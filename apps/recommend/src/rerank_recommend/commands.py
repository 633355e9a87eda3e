"""What the commands do, as functions on paths that return rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError, UsageError
from rerank_core.io import read_jsonl, write_run
from rerank_recommend import evaluation, kalm, live, official, readers
from rerank_recommend.care import CareParams, popularity_bias
from rerank_recommend.data import Turn, read_catalogue, read_gold, read_graph, read_turns
from rerank_recommend.encoding import ENCODER, CachedEncoder
from rerank_recommend.folder import beside
from rerank_recommend.grounding import Grounder
from rerank_recommend.linking import Linker
from rerank_recommend.measures import SUBSETS, Case, difference, summarise
from rerank_recommend.model import CLASSICAL, DENSE, INTERACTION_EXPERTS, Recommended, Recommender
from rerank_recommend.rerank import Outcome, ranking_rows, run_strategy, write_rows

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
    name = _stem(recorded)
    if mode == "official":
        if _match(match, "name") != "name":
            raise UsageError("the official mode matches by name")
        matches = _stored_matches(recorded) or official.ground_answers(
            evaluation.read_answers(recorded, whole=True), catalogue
        )
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
    rows.append(_row(f"{name} default", "valid", audit["valid"], audit["lines"], "lines", matched))
    return rows


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
    ranked: Path,
    test: Path,
    entities: Path | None = None,
    *,
    match: str | None = None,
    against: Path | None = None,
    popularity: Path | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Judge a ranking file; items match by id where the test file gives ids.

    Parameters
    ----------
    against
        A second ranking file: paired differences (first minus second) with dialogue-level intervals are added.
    popularity
        A saved recommender: adds ARP, coverage, head share and Gini of the top 10 by its training frequencies.
    """
    turns, gold = read_turns(test), read_gold(test)
    _need_gold(gold, test)
    catalogue = read_catalogue(entities) if entities is not None else None
    matched = _match(match, "id")
    if matched == "name" and catalogue is None and any(isinstance(g, int) for gs in gold.values() for g in gs):
        raise UsageError("matching by name needs --entities where the test file gives ids")

    def cases(path: Path) -> tuple[list[Case], dict[str, evaluation.RankedTurn]]:
        lines = evaluation.read_ranked(path)
        if not lines.keys() & {t.id for t in turns}:
            raise InputError(f"ranks none of the turns of {test.name}: do the ids belong together?", path)
        return evaluation.ranked_cases(turns, gold, lines, matched, catalogue), lines

    system = _stem(ranked)
    own, lines = cases(ranked)
    rows = [r.as_dict() for r in summarise(system, own, seed=seed, match=matched)]
    if against is not None:
        other, _ = cases(against)
        name = f"{system} - {_stem(against)}"
        for measure, k in (("R", 1), ("R", 10), ("R", 20), ("R", 50), ("nDCG", 10), ("MRR", 10)):
            for subset in SUBSETS:
                d = difference(own, other, measure, k, subset, seed=seed)
                rows.append(_row(name, f"{d.measure} difference", d.value, d.n, subset, matched, d.ci_low, d.ci_high))
    if popularity is not None:
        model = Recommender.load(popularity)
        column = model.catalogue.column_of
        shown = []
        for line in lines.values():
            fresh = [i for i, t in zip(line.ids, line.titles, strict=True) if i not in line.seen and t not in line.seen]
            shown.append([column[i] for i in fresh if i in column])
        bias = popularity_bias(shown, model.popularity.tolist())
        rows += [_row(system, f"{key}@10", value, len(shown), "lists", matched) for key, value in bias.items()]
    return rows


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")


def _row(
    system: str,
    measure: str,
    value: float,
    n: int,
    subset: str,
    match: str,
    low: float | None = None,
    high: float | None = None,
) -> dict[str, Any]:
    return {
        "system": system,
        "measure": measure,
        "value": value,
        "n": n,
        "ci_low": low,
        "ci_high": high,
        "subset": subset,
        "match": match,
    }


def fit_any(
    train: list[Path],
    out: Path,
    *,
    entities: Path | None = None,
    graph: Path | None = None,
    iteminfo: Path | None = None,
    experts: list[str] | None = None,
    encoder: str = ENCODER,
    data_format: str = "auto",
    seed: int = 0,
    threads: int = 1,
) -> Recommender:
    """Fit a recommender on dialogue turns or on interactions, and save it.

    A graph (``kg.jsonl``) and texts (``iteminfo.jsonl``, both also .gz) beside the catalogue are used unless others are
    named. ``experts`` may hold ``classical`` (all that neither encode nor train a network) and ``dense``.
    """
    kind = readers.detect(train[0]) if data_format == "auto" else data_format
    if kind not in readers.FORMATS:
        raise UsageError(f"unknown --format {kind!r}; known: auto, {', '.join(readers.FORMATS)}")
    edges, expanded = None, _expand(experts)
    if kind in ("recbole", "movielens"):
        data = readers.read_interactions(train, kind, entities)
        names = expanded or list(INTERACTION_EXPERTS)
        model = Recommender.fit_interactions(data, experts=names, seed=seed, threads=threads)
    else:
        if entities is None:
            raise UsageError("--entities says what can be recommended")
        graph, iteminfo = graph or beside(entities.parent, "kg"), iteminfo or beside(entities.parent, "iteminfo")
        catalogue = read_catalogue(entities, iteminfo)
        if kind == "crslab":
            turns, gold = readers.read_crslab(train, catalogue)
        else:
            turns, gold = read_turns(*train), read_gold(*train)
        edges = read_graph(graph, catalogue) if graph is not None else None
        model = Recommender.fit(
            turns,
            gold,
            catalogue,
            graph=edges,
            experts=expanded,
            encoder=CachedEncoder(encoder),
            seed=seed,
            threads=threads,
        )
    model.save(out)
    return model


def _expand(experts: list[str] | None) -> list[str] | None:
    if experts is None:
        return None
    groups = {"classical": CLASSICAL, "dense": DENSE}
    return list(dict.fromkeys(e for name in experts for e in groups.get(name, (name,))))


@dataclass(frozen=True)
class Ask:
    """Where a language model's answers come from: a recording, or a back end to ask now."""

    recorded: Path | None = None
    llm: str | None = None
    endpoint: str | None = None
    record: Path | None = None
    replay: Path | None = None
    strict: bool = False
    max_tokens: int = 512

    @property
    def live(self) -> bool:
        """Whether a back end is to be asked."""
        return self.llm is not None or self.endpoint is not None or self.replay is not None


def rerank(
    test: Path,
    folder: Path,
    out: Path,
    *,
    method: str = "experts",
    ask: Ask | None = None,
    explain: bool = False,
    run: Path | None = None,
    threads: int = 1,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Rank items for the turns of a file; returns the rows written and notes for the user."""
    model = Recommender.load(folder, threads=threads)
    turns = read_turns(test)
    wanted = ask or Ask()
    if wanted.recorded is not None and wanted.live:
        raise UsageError("--recorded and a live model do not go together")
    recommended = model.recommend(model.contexts(turns)) if method != "direct" or wanted.live else None
    answers = None
    if wanted.recorded is not None:
        answers = evaluation.read_answers(wanted.recorded)
        if not answers.keys() & {t.id for t in turns}:
            raise InputError(f"answers none of the turns of {test.name}: do the ids belong together?", wanted.recorded)
    elif wanted.live and method != "experts":
        assert recommended is not None
        answers = _ask(model, turns, recommended, method, wanted, threads)
    if recommended is None:
        recommended = [Recommended(np.empty(0, dtype=np.int64), np.empty(0)) for _ in turns]
    outcome = run_strategy(model, turns, method, answers, recommended=recommended)
    rows = ranking_rows(model, turns, outcome, explain)
    write_rows(out, rows)
    if run is not None:
        write_run(run, outcome.rankings, tag=method)
    return rows, _notes(model, turns, outcome)


def _ask(
    model: Recommender, turns: list[Turn], recommended: list[Recommended], method: str, ask: Ask, threads: int
) -> dict[str, str]:
    from rerank_lm.backends.opening import open_backend

    backend = open_backend(
        ask.llm or "smollm2", endpoint=ask.endpoint, record=ask.record, replay=ask.replay, threads=threads
    )
    p = CareParams()
    shown = {"rerank": p.rerank_from, "select": p.select_from, "expand": p.rerank_from}.get(method, 0)
    labels = [[model.catalogue.items[c].label for c in r.columns[:shown].tolist()] for r in recommended]
    strategy = "direct" if method == "fuse" else method
    return live.ask(backend, strategy, turns, labels, max_tokens=ask.max_tokens, strict=ask.strict)


def _notes(model: Recommender, turns: list[Turn], outcome: Outcome) -> list[str]:
    notes = []
    known = sum(t.dialogue in model.dialogues for t in turns)
    if known:
        notes.append(
            f"{known}/{len(turns)} turns belong to dialogues that training has seen; `eval` shows the others as clean-*"
        )
    if outcome.grounded:
        audit = evaluation.validity(outcome.grounded)
        notes.append(f"{audit['lines']} answer lines, {audit['valid']:.1%} lead to an item: {audit['reasons']}")
    fallback = sum(r.status == "fallback" for r in outcome.rankings)
    if fallback:
        notes.append(f"{fallback} turns without a usable answer keep the expert's list")
    if outcome.reliability is not None and outcome.reliability.value < 1:
        r = outcome.reliability
        notes.append(f"the answers hardly belong to their conversations (z = {r.z:.1f}): trusted by {r.value:.2f}")
    return notes


def recommend(texts: list[str], folder: Path, k: int) -> list[dict[str, Any]]:
    """Recommend k items for one conversation."""
    model = Recommender.load(folder)
    turn = Turn("1", "1", tuple(texts))
    context = model.contexts([turn])[0]
    best = model.recommend([context])[0]
    known = set(context.known)
    fresh = [(c, s) for c, s in zip(best.columns.tolist(), best.scores.tolist(), strict=True) if c not in known][:k]
    items = model.catalogue.items
    return [{"rank": n, "id": items[c].id, "title": items[c].label, "score": s} for n, (c, s) in enumerate(fresh, 1)]


def link(texts: Path, entities: Path, out: Path, *, items_only: bool = False) -> int:
    """Link every text of a file; one output line an input line. Returns the number of links."""
    catalogue = read_catalogue(entities)
    linker = Linker(catalogue)
    rows, n = [], 0
    for line, row in read_jsonl(texts):
        if not isinstance(row.get("text"), str):
            raise InputError('a line needs "id" and "text"', texts, line)
        links = [
            {
                "id": _plain_id(catalogue.ids[found.row]),
                "start": found.start,
                "end": found.end,
                "text": row["text"][found.start : found.end],
                "score": found.score,
                "reason": found.reason,
            }
            for found in linker.link(row["text"])
            if not items_only or catalogue.item_of[found.row] >= 0
        ]
        n += len(links)
        rows.append({"id": row.get("id", line), "links": links})
    write_rows(out, rows)
    return n


def _plain_id(entity: str) -> int | str:
    """Return an id as the catalogue's file had it: a number where it is one."""
    return int(entity) if entity.isdigit() and str(int(entity)) == entity else entity


def keywords(
    reviews: Path,
    out: Path | None = None,
    *,
    train: str = "all",
    protocol: str = "official",
    method: str = "default",
    neural: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Judge every keyword retriever on the test users, and write keywords and candidates of the chosen one."""
    task = kalm.make_task(readers.read_reviews(reviews), train=train, protocol=protocol)
    names = [*kalm.RETRIEVERS, *(kalm.NEURAL if neural else ())]
    if method not in names:
        raise UsageError(f"unknown method {method!r}; known: {', '.join(names)}")
    lists = {name: kalm.retrieve(task, name, seed=seed) for name in names}
    if out is not None:
        write_rows(out, kalm.candidate_rows(task, lists[method]))
    return [row for name in names for row in kalm.summarise(task, name, lists[name], seed=seed)]

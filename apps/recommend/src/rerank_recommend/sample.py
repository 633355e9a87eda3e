"""The embedded sample: a catalogue of well-known films and short conversations, written for this project.

Titles, years, directors and players are facts; the conversations and what suits them are ours. Candidates are the
whole catalogue without what was mentioned, in the order of BM25 over the films' descriptions.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.types import Candidate, Dataset, Request
from rerank_recommend.data import Catalogue, Item, Reference, Turn, entity_rows, make_catalogue
from rerank_recommend.experts import Context, GraphNeighbours, Log, encode
from rerank_recommend.linking import Linker
from rerank_recommend.rerank import Conversation
from rerank_recommend.texts import BM25, item_documents

CANDIDATES = 50


def _lines(name: str) -> list[list[str]]:
    text = files("rerank_recommend").joinpath(name).read_text("utf-8")
    return [line.split("\t" if "\t" in line else "|") for line in text.splitlines() if line]


@lru_cache(maxsize=1)
def sample_catalogue() -> tuple[Catalogue, NDArray[np.int64]]:
    """Return the films with directors, players and genres as further entities, and the graph between them."""
    rows: list[dict[str, Any]] = []
    neighbours: list[list[str]] = []
    for n, (title, year, genres, director, cast, words) in enumerate(_lines("sample_films.tsv"), 1):
        text = f"{genres}. Directed by {director}. With {cast}. {words}"
        rows.append({"id": n, "name": f"{title} ({year})", "is_item": True, "text": text})
        neighbours.append([*genres.split(", "), director, *cast.split(", "), *words.split()])
    others = list(dict.fromkeys(w for ws in neighbours for w in ws))
    first = len(rows)
    number = {w: first + k for k, w in enumerate(others)}
    rows += [{"id": number[w] + 1, "name": w, "is_item": False} for w in others]
    edges = [(film, number[w]) for film, ws in enumerate(neighbours) for w in ws]
    return make_catalogue(rows), np.array(edges, dtype=np.int64)


def sample_turns() -> tuple[list[Turn], dict[str, tuple[Reference, ...]]]:
    """Return the conversations and what suits them (names with years)."""
    catalogue, _ = sample_catalogue()
    by_title: dict[str, str] = {}
    for item in catalogue.items:
        by_title.setdefault(item.title, f"{item.title} ({item.year})")
    turns: list[Turn] = []
    gold: dict[str, tuple[Reference, ...]] = {}
    for n, (talk, wanted) in enumerate(_lines("sample_dialogues.tsv"), 1):
        turns.append(Turn(str(n), f"d{n}", tuple(u.strip() for u in talk.split(" | "))))
        gold[str(n)] = tuple(by_title[w.strip()] for w in wanted.split(";"))
    return turns, gold


def sample() -> Dataset[Conversation, Item]:
    """Return the sample as requests and gains; a candidate's features are what the experts say of it."""
    catalogue, graph = sample_catalogue()
    turns, gold = sample_turns()
    linker = Linker(catalogue)
    contexts = [encode(t, catalogue, linker) for t in turns]
    log = Log(catalogue, (), (), (), graph)
    words = BM25().fit_documents(item_documents(log, contexts=False)).score(contexts)
    knowledge = GraphNeighbours().fit(log).score(contexts)
    requests, gains, splits = [], {}, {}
    for turn, context, text, linked in zip(turns, contexts, words, knowledge, strict=True):
        requests.append(_request(catalogue, turn, context, text, linked))
        gains[turn.id] = {catalogue.ids[r]: 1.0 for r in entity_rows(catalogue, gold[turn.id])}
        splits[turn.id] = turn.dialogue
    return Dataset(requests, gains, splits, "films")


def _request(
    catalogue: Catalogue, turn: Turn, context: Context, text: NDArray[np.float32], linked: NDArray[np.float32]
) -> Request[Conversation, Item]:
    scores = text.astype(np.float64)
    scores[list(context.known)] = -np.inf
    best = np.argsort(-scores, kind="stable")[:CANDIDATES]
    items = catalogue.items
    candidates = tuple(
        Candidate(items[c].id, items[c], float(scores[c]), {"bm25": float(text[c]), "graph": float(linked[c])})
        for c in best.tolist()
        if np.isfinite(scores[c])
    )
    known = tuple(items[c].id for c in context.known)
    return Request(turn.id, Conversation(turn.context, known), candidates)

"""A data folder as a dataset of requests: train, test, entities and, where they are there, graph and plots."""

from __future__ import annotations

from pathlib import Path

from rerank_core.errors import InputError
from rerank_core.types import Dataset
from rerank_recommend.data import Item, gold_columns, read_catalogue, read_gold, read_graph, read_turns
from rerank_recommend.model import CLASSICAL, Recommender
from rerank_recommend.rerank import Conversation, make_request


def beside(folder: Path, name: str) -> Path | None:
    """Return ``name.jsonl.gz`` or ``name.jsonl`` in a folder, None where there is neither."""
    return next((p for p in (folder / f"{name}.jsonl.gz", folder / f"{name}.jsonl") if p.exists()), None)


def load_folder(folder: Path) -> Dataset[Conversation, Item]:
    """Fit the experts that need no encoder on the training turns and give every test turn their candidates."""
    test, entities = beside(folder, "test"), beside(folder, "entities")
    if test is None or entities is None:
        raise InputError("needs test.jsonl and entities.jsonl (.gz)", folder)
    train = [p for p in (beside(folder, "train"), beside(folder, "valid")) if p is not None]
    if not train:
        raise InputError("needs train.jsonl or valid.jsonl (.gz)", folder)
    catalogue = read_catalogue(entities, beside(folder, "iteminfo"))
    kg = beside(folder, "kg")
    graph = read_graph(kg, catalogue) if kg is not None else None
    names = (*CLASSICAL, "graph") if graph is not None else CLASSICAL
    model = Recommender.fit(read_turns(*train), read_gold(*train), catalogue, graph=graph, experts=names)
    turns, gold = read_turns(test), read_gold(test)
    contexts = model.contexts(turns)
    requests, gains = [], {}
    for turn, context, best in zip(turns, contexts, model.recommend(contexts), strict=True):
        scores = dict(zip(best.columns.tolist(), best.scores.tolist(), strict=True))
        requests.append(make_request(catalogue, turn, context, best.columns.tolist(), scores))
        gains[turn.id] = {catalogue.items[c].id: 1.0 for c in gold_columns(catalogue, gold[turn.id])}
    return Dataset(requests, gains, {t.id: t.dialogue for t in turns}, folder.name)

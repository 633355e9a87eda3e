"""A small recommender, fitted on the embedded films."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rerank_recommend.model import Recommender
from rerank_recommend.sample import sample_catalogue, sample_turns
from rerank_recommend.stack import StackParams

EXPERTS = (
    "popularity",
    "co-occurrence",
    "entity-target",
    "entity-target-now",
    "als",
    "bpr",
    "bm25",
    "tfidf-turns",
    "graph",
)
SMALL = StackParams(folds=3, trees=20, train_candidates=60, candidates=60, min_child=5)


@pytest.fixture(scope="session")
def films() -> Recommender:
    catalogue, graph = sample_catalogue()
    turns, gold = sample_turns()
    return Recommender.fit(turns, gold, catalogue, graph=graph, experts=EXPERTS, params=SMALL)


@pytest.fixture(scope="session")
def film_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as files in the field's form: entities, kg, train, test, answers."""
    folder = tmp_path_factory.mktemp("films")
    catalogue, graph = sample_catalogue()
    turns, gold = sample_turns()

    def write(name: str, rows: list[dict]) -> None:
        (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows))

    is_item = catalogue.item_of >= 0
    write(
        "entities.jsonl",
        [
            {"id": int(i), "name": n, "is_item": bool(k), "text": catalogue.texts.get(i, "")}
            for i, n, k in zip(catalogue.ids, catalogue.names, is_item, strict=True)
        ],
    )
    write("kg.jsonl", [{"h": int(catalogue.ids[h]), "r": "has", "t": int(catalogue.ids[t])} for h, t in graph])
    rows = [
        {
            "index": int(t.id),
            "dialog_id": t.dialogue,
            "context": list(t.context),
            "rec": [int(catalogue.ids[catalogue.rows_by_name[g][0]]) for g in gold[t.id] if isinstance(g, str)],
        }
        for t in turns
    ]
    write("train.jsonl", rows[:40])
    write("test.jsonl", rows[40:])
    write("blind.jsonl", [{k: v for k, v in r.items() if k != "rec"} for r in rows[40:]])
    rng = np.random.default_rng(0)
    answers = []
    for r in rows[40:]:
        named = [catalogue.names[catalogue.row_of[str(g)]] for g in r["rec"]]
        others = [catalogue.items[c].label for c in rng.choice(catalogue.n_items, 6, replace=False)]
        text = "\n".join(f"{n}. {x}" for n, x in enumerate([*named[:1], *others], 1))
        answers.append({"index": r["index"], "text": text, "finish_reason": "stop"})
    write("answers.jsonl", answers)
    return folder

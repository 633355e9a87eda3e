"""The recommendation domain: what the shared commands, the ablations and the server know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.domain import Domain, Method
from rerank_core.errors import InputError, UsageError
from rerank_core.measures import parse
from rerank_core.rendering import TextRendering
from rerank_core.reranker import FirstStage, Fuse, Reranker, Scores
from rerank_core.types import Candidate, Dataset, FloatArray, Request
from rerank_recommend.data import Item, Turn
from rerank_recommend.encoding import CachedEncoder
from rerank_recommend.rerank import Conversation
from rerank_recommend.sample import sample

Requests = Sequence[Request[Conversation, Item]]


class ConversationCodec:
    """JSON <-> conversations and items. A query may be a text, an item a title."""

    def encode_query(self, query: Conversation) -> Any:
        """Return context and known items."""
        return {"context": list(query.context), "known": list(query.known)}

    def decode_query(self, value: Any) -> Conversation:
        """Return the conversation; ``known`` may be missing."""
        if isinstance(value, str):
            return Conversation((value,))
        if not isinstance(value, dict) or not isinstance(value.get("context"), list):
            raise InputError('a conversation is a text or {"context": [...], "known": [...]}')
        return Conversation(tuple(map(str, value["context"])), tuple(map(str, value.get("known") or ())))

    def encode_content(self, content: Item) -> Any:
        """Return the item's fields."""
        return {"id": content.id, "title": content.title, "year": content.year, "text": content.text}

    def decode_content(self, value: Any) -> Item:
        """Return the item; only its title is needed."""
        if isinstance(value, str):
            return Item(value, value)
        if not isinstance(value, dict) or not isinstance(value.get("title"), str):
            raise InputError('an item is a title or {"title", "id"?, "year"?, "text"?}')
        year = value.get("year")
        return Item(
            str(value.get("id", value["title"])),
            value["title"],
            int(year) if isinstance(year, int) else None,
            str(value.get("text") or ""),
        )


def _query_text(query: Conversation) -> str:
    return "\n".join(query.context[-6:])


def _item_text(item: Item) -> str:
    return f"{item.label}. {item.text}".strip()


def _bm25(requests: Requests) -> list[FloatArray]:
    from rerank_recommend.texts import BM25

    out = []
    for r in requests:
        index = BM25().fit_documents([_item_text(c.content) for c in r.candidates])
        out.append(index.score_texts([_query_text(r.query)])[0].astype(np.float64))
    return out


def _feature(name: str) -> Reranker:
    def score(requests: Requests) -> list[FloatArray]:
        return [np.array([c.features.get(name, np.nan) for c in r.candidates]) for r in requests]

    return Scores(name, score, name)


@lru_cache(maxsize=2)
def _encoder(model: str) -> CachedEncoder:
    """Return one encoder a name, so that methods compared side by side encode a text once."""
    return CachedEncoder(model)


def _dense(model: str) -> Reranker:
    encoder = _encoder(model)

    def score(requests: Requests) -> list[FloatArray]:
        encoder([_item_text(c.content) for r in requests for c in r.candidates])
        out = []
        for r in requests:
            items = encoder([_item_text(c.content) for c in r.candidates])
            out.append((items @ encoder([_query_text(r.query)])[0]).astype(np.float64))
        return out

    return Scores("dense", score, model)


def _experts(folder: str | None) -> Reranker:
    if not folder:
        raise UsageError("method 'experts' needs a fitted recommender: --config model=FOLDER")
    from rerank_recommend.model import Recommender

    model = Recommender.load(folder)
    column = model.catalogue.column_of

    def score(requests: Requests) -> list[FloatArray]:
        turns = [Turn(r.id, r.id, r.query.context) for r in requests]
        out = []
        for r, best in zip(requests, model.recommend(model.contexts(turns), model.catalogue.n_items), strict=True):
            by_column = dict(zip(best.columns.tolist(), best.scores.tolist(), strict=True))
            out.append(np.array([by_column.get(column.get(c.id, -1), np.nan) for c in r.candidates]))
        return out

    return Scores("experts", score, model.fingerprint())


def _letters(config: Mapping[str, Any]) -> Reranker:
    from rerank_lm.backends.opening import open_backend
    from rerank_recommend.live import letter_scores

    backend = open_backend(str(config["model"]), endpoint=config["endpoint"])
    top = min(int(config["top"]), 26)

    def score(requests: Requests) -> list[FloatArray]:
        out = []
        for r in requests:
            shown = r.candidates[:top]
            labels = [c.content.label for c in shown]
            letters = letter_scores(
                backend, _query_text(r.query), labels, rounds=int(config["rounds"]), seed=int(config["seed"])
            )
            behind = -1e6 - np.arange(len(r.candidates), dtype=np.float64)
            behind[: len(shown)] = letters
            out.append(behind)
        return out

    return Scores("letters", score, dict(config))


METHODS: dict[str, Method] = {
    "default": Method(
        lambda config: Fuse([_feature("graph"), _dense(config["model"]), FirstStage()], "rrf", k=20.0),
        "knowledge graph, dense encoder and first stage, fused by reciprocal ranks",
        "ours",
        needs=("model: all-minilm-l6-v2",),
        default={"model": "all-minilm-l6-v2"},
        cost="1 encoding a query, 1 an item",
    ),
    "first": Method(lambda config: FirstStage(), "the candidates as they came", cost="nothing"),
    "bm25": Method(lambda config: Scores("bm25", _bm25), "BM25 of the conversation over titles and texts", "bm25s"),
    "graph": Method(
        lambda config: _feature("graph"),
        "shared neighbours in a knowledge graph (the candidates' feature `graph`)",
        "ours",
    ),
    "dense": Method(
        lambda config: _dense(config["model"]),
        "cosine of conversation and item",
        "Reimers and Gurevych 2019",
        needs=("model: all-minilm-l6-v2",),
        default={"model": "all-minilm-l6-v2"},
        cost="1 encoding a query, 1 an item",
    ),
    "experts": Method(
        lambda config: _experts(config["model"]),
        "a fitted recommender: all experts, LambdaRank on top",
        "CARE (arXiv 2508.13889), stacking ours",
        needs=("a folder written by `rerank-recommend fit`",),
        default={"model": None},
        cost="milliseconds",
    ),
    "letters": Method(
        _letters,
        "one forward pass: probabilities of the candidates' letters",
        "KALM4Rec (WWW Companion 2025)",
        needs=("a language model",),
        default={"model": "smollm2", "endpoint": None, "rounds": 1, "top": 20, "seed": 0},
        cost="1 forward a round",
    ),
}


def _render_candidate(candidate: Candidate[Item]) -> str:
    return _item_text(candidate.content)


def load(folder: Path) -> Dataset[Conversation, Item]:
    """Read a folder with train, test and entities (JSON lines): experts fitted on train give the test's candidates."""
    from rerank_recommend.folder import load_folder

    return load_folder(folder)


domain: Domain[Conversation, Item] = Domain(
    name="recommend",
    title="Recommendation in conversations and from keywords",
    methods=METHODS,
    measures=[parse("R@1"), parse("R@10"), parse("nDCG@10")],
    codec=ConversationCodec(),
    rendering=TextRendering(
        "Given a conversation, find the film that suits the user best.", _query_text, _render_candidate
    ),
    sample=sample,
    load=load,
    demo_methods=("bm25", "graph", "dense", "default"),
    notes={"sample": "60 conversations over 195 films, written for this project; candidates by BM25."},
)

"""BM25 against its formula, and the embedded sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rerank_core.measures import evaluate, parse
from rerank_core.reranker import FirstStage
from rerank_passages.domain import domain, load
from rerank_passages.retrieve import Bm25Index, Bm25Params, bm25_scores
from rerank_passages.sample import documentation

TEXTS = {"a": "red apples and green apples", "b": "green pears", "c": "a car", "d": ""}


def test_bm25_is_lucenes_formula() -> None:
    params = Bm25Params(k1=1.2, b=0.75)
    index = Bm25Index.build(TEXTS, params)
    lengths = {"a": 4, "b": 2, "c": 1, "d": 0}  # "and" and "a" are stop words
    mean = sum(lengths.values()) / 4

    def term(tf: int, df: int, doc: str) -> float:
        norm = params.k1 * (1 - params.b + params.b * lengths[doc] / mean)
        return math.log(1 + (4 - df + 0.5) / (df + 0.5)) * tf / (tf + norm)

    scores = index.scores(["green", "appl"])
    assert scores == pytest.approx([term(1, 2, "a") + term(2, 1, "a"), term(1, 2, "b"), 0, 0], rel=1e-5)
    assert [i for i, _ in index.search("Green apple")] == ["a", "b"]
    assert index.search("zebra") == [] and index.search("the") == []


def test_an_empty_collection_can_be_searched() -> None:
    assert Bm25Index.build({}).search("x") == []
    assert Bm25Index.build({"a": "the"}).search("the") == []


def test_rescoring_candidates() -> None:
    requests = Bm25Index.build(TEXTS).requests({"q": "green apples", "r": "unknown words"}, TEXTS)
    assert [r.id for r in requests] == ["q"]
    (scores,) = bm25_scores(requests)
    assert np.argmax(scores) == 0 and scores.shape == (2,)
    assert bm25_scores([]) == []


def test_the_sample_is_large_real_and_gives_nothing_away() -> None:
    pages = documentation()
    assert len(pages) >= 2000 and len({p.id for p in pages}) == len(pages)
    for page in pages:
        assert page.sentence not in page.text
        assert page.id.rsplit(".", 1)[1] not in page.text.replace(".", " ").split()
    sample = domain.sample()
    assert len(sample.requests) >= 295 and all(len(g) == 1 for g in sample.gold.values())
    assert [r.ids for r in domain.sample().requests] == [r.ids for r in sample.requests]
    (row,) = evaluate(
        [parse("MRR@10")], sample.gold, FirstStage().rerank(sample.requests), sample.requests, system="bm25"
    )
    assert 0.3 < row.value < 0.8


@pytest.mark.shared_data
@pytest.mark.parametrize(("year", "expected"), [("19", 0.5058), ("20", 0.4796)])
def test_loading_trec_dl(shared_data: Callable[[str], Path], year: str, expected: float) -> None:
    data = load(shared_data(f"text/trec_dl{year}_passage"))
    (row,) = evaluate([parse("nDCG@10")], data.gold, FirstStage().rerank(data.requests), data.requests, system="bm25")
    assert round(row.value, 4) == expected

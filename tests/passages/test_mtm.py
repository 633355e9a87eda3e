"""MTM's memory bank, measures and list loader against the values of the released functions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rerank_core.measures import evaluate
from rerank_core.types import Candidate, Ranking, Request
from rerank_passages.claims.files import read_candidate_lists, shuffled
from rerank_passages.claims.measures import MRR, average_precision, hit
from rerank_passages.claims.patterns import (
    Judged,
    PatternParams,
    key_sentences,
    nearest_patterns,
    scaled_nearness,
    seed_memory,
    update_memory,
)


@pytest.mark.shared_data
def test_memory_bank_equals_the_released_functions(shared_data: Callable[[str], Path]) -> None:
    o = json.loads(shared_data("summary/oracle/mtm_pmb.json").read_text())
    claims, articles = np.array(o["claims"]), [np.array(a) for a in o["article_sentences"]]
    memory = np.array(o["memory"])
    params = PatternParams(
        claim_weight=o["lambdaQ"], pattern_weight=o["lambdaP"], n_selected=o["n_selected"], step=o["step"]
    )
    worst = 0.0
    chosen = {}
    for c, claim in enumerate(claims):
        for a, article in enumerate(articles):
            distance, pattern = nearest_patterns(claim, article, memory)
            want = np.array(o["pattern_pairs"][str(c)][str(a)])
            assert pattern.tolist() == want[:, 1].astype(int).tolist()
            key = chosen[c, a] = key_sentences(claim, article, memory, params)
            expected = o["selection"][str(c)][str(a)]
            assert key.order.tolist() == expected["ranked"] and key.patterns.tolist() == expected["pattern"]
            worst = max(
                worst,
                np.abs(distance - want[:, 0]).max(),
                np.abs(key.scores - expected["scores"]).max(),
                np.abs(key.weights - expected["weights"]).max(),
            )
    for case in o["scaled_scores"]:
        assert scaled_nearness(np.array(case["d"])) == pytest.approx(case["s"], abs=1e-6)
    judged = [
        Judged(articles[int(a)][chosen[int(c), int(a)].selected] - claims[int(c)], int(label), p)
        for c, a, label, p in o["predictions"]
    ]
    worst = max(worst, np.abs(update_memory(memory, judged, params) - np.array(o["memory_after"])).max())
    print(f"worst difference {worst:.1e}")
    assert worst <= 1e-5


@pytest.mark.shared_data
def test_measures_equal_the_released_functions(shared_data: Callable[[str], Path]) -> None:
    o = json.loads(shared_data("summary/oracle/mtm_metrics.json").read_text())
    requests = [Request(str(i), "", tuple(Candidate(str(d), "") for d in p)) for i, p in enumerate(o["pred"])]
    rankings = [Ranking.from_order(r, r.ids) for r in requests]
    gold = {str(i): {str(a): 1.0 for a in answers} for i, answers in enumerate(o["ans"])}
    ours = {
        **{"MRR": MRR},
        **{f"MAP@{k}": average_precision(k) for k in (1, 3, 5, 10, 20, 50)},
        **{f"HasPositives@{k}": hit(k) for k in (1, 3, 5, 10, 20, 50)},
    }
    assert set(ours) == set(o["result"])
    for name, measure in ours.items():
        (row,) = evaluate([measure], gold, rankings, requests, system="x")
        assert row.value == pytest.approx(o["result"][name], abs=1e-12), name


def test_a_constant_scorer_gains_nothing_from_the_listed_order(tmp_path: Path) -> None:
    path = tmp_path / "lists.tsv"
    path.write_text("".join(f"{q}\t{q}-{i}\t{int(i == 49)}\n" for q in range(400) for i in range(50)))
    lists = read_candidate_lists(path)
    ranks = [ids.index(f"{q}-49") + 1 for q, ids in lists.items()]
    assert 0.07 <= np.mean([1 / r for r in ranks]) <= 0.11
    assert lists == read_candidate_lists(path) != read_candidate_lists(path, seed=1)
    assert shuffled(["a", "b", "c"], "q", 0) == shuffled(["c", "b", "a"], "q", 0)


def test_seeding_finds_the_patterns_there_are() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    claims = [rng.normal(size=3) for _ in range(60)]
    articles = [c + centres[rng.integers(3, size=8)] + rng.normal(scale=0.01, size=(8, 3)) for c in claims]
    memory = seed_memory(claims, articles, PatternParams(n_patterns=3, low=0.0, high=1.0))
    assert np.abs(memory[np.argmax(memory @ centres.T, axis=0)] - centres).max() < 0.05
    with pytest.raises(ValueError, match="too few training pairs"):
        seed_memory([np.zeros(2)], [np.ones((1, 2))])


def test_edge_cases() -> None:
    memory = np.eye(2)
    empty = key_sentences(np.zeros(2), np.empty((0, 2)), memory)
    assert len(empty.order) == len(empty.weights) == 0
    one = key_sentences(np.zeros(2), np.ones((1, 2)), memory)
    assert one.weights.tolist() == [1.0]
    assert np.array_equal(update_memory(memory, []), memory)

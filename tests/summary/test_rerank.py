"""Rerankers without training: invariants, hand-made lists, and the measured figures of real candidate lists."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_core.errors import UsageError
from rerank_core.types import Candidate, Request
from rerank_summary.centrality import lexrank
from rerank_summary.data import read_records
from rerank_summary.domain import domain
from rerank_summary.evaluate import evaluate
from rerank_summary.features import features, fragments, novelty, repetition
from rerank_summary.lists import CandidateList
from rerank_summary.rerank import mbr
from rerank_summary.rouge import flavour
from rerank_summary.utilities import UTILITIES, chrf, expected_utility

Find = Callable[[str], Path]
NO_MODEL = (
    "first", "random", "longest", "median-length", "lead", "source-overlap", "lexrank", "faithful", "mbr-rouge1",
    "mbr-rouge2", "mbr-rougeL", "mbr-mean", "mbr-chrf", "learned", "default",
)  # fmt: skip
SOURCE = "Police found the stolen car in Leeds on Monday. The owner, Ann Lee, was told by phone. No arrest was made."


def request(*texts: str, source: str = SOURCE, scores: tuple[float, ...] | None = None) -> Request[str, str]:
    return Request("d", source, tuple(Candidate(str(i), t, scores[i] if scores else None) for i, t in enumerate(texts)))


words = st.lists(st.sampled_from(["the", "a", "cat", "dog", "sat", "ran", "3", "Ann", "in", "."]), max_size=12).map(
    " ".join
)


@pytest.mark.parametrize("method", NO_MODEL)
@settings(max_examples=15, deadline=None)
@given(texts=st.lists(words, min_size=1, max_size=5), source=words)
def test_every_ranking_is_a_permutation_with_finite_scores(method: str, texts: list[str], source: str) -> None:
    ranking = domain.method(method).rerank([request(*texts, source=source)])[0]
    assert sorted(ranking.ids) == sorted(map(str, range(len(texts))))
    assert all(r.score is not None and np.isfinite(r.score) for r in ranking.items)


@pytest.mark.parametrize("method", [m for m in NO_MODEL if m not in ("random", "first")])
def test_identical_texts_tie_and_the_lowest_index_wins(method: str) -> None:
    ranking = domain.method(method).rerank(
        [
            request(
                "Police found the car in Leeds.",
                "the",
                "Police found the car in Leeds.",
                "Police found the car in Leeds.",
            )
        ]
    )[0]
    same = [r for r in ranking.items if r.id != "1"]
    assert len({r.score for r in same}) == 1
    assert [r.id for r in same] == ["0", "2", "3"]


@pytest.mark.parametrize("method", [m for m in NO_MODEL if m not in ("random", "first")])
def test_the_batch_does_not_change_a_ranking(method: str) -> None:
    requests = [
        request("Police found a car.", "A car.", "An owner was told."),
        request("x y", "y z", "z", source="x z"),
    ]
    requests = [Request(str(i), r.query, r.candidates) for i, r in enumerate(requests)]
    reranker = domain.method(method)
    together = reranker.rerank(requests)
    assert together == [reranker.rerank([r])[0] for r in requests]
    assert reranker.rerank([]) == []


@pytest.mark.parametrize("name", UTILITIES)
def test_mbr_equals_the_double_loop(name: str) -> None:
    texts = ("the cat sat", "the cat ran", "dogs ran off", "the cat")
    items = CandidateList.of(request(*texts))
    matrix = UTILITIES[name](items)
    scores = mbr(name)(items, request(*texts))
    for i in range(4):
        assert scores[i] == pytest.approx(np.mean([matrix[i, j] for j in range(4) if j != i]))


def test_mbr_weighs_pseudo_references_by_the_generators_probability() -> None:
    r = request("the cat sat", "dogs ran off", "dogs ran far", scores=(5.0, -5.0, -5.0))
    weighted = mbr("rouge1", "first-stage")(CandidateList.of(r), r)
    uniform = mbr("rouge1")(CandidateList.of(r), r)
    assert uniform[1] > uniform[0] and np.allclose(weighted[1:], 0, atol=1e-3)
    with pytest.raises(UsageError, match="weighting"):
        mbr("rouge1", "best")
    with pytest.raises(UsageError, match="unknown utility"):
        mbr("bleurt")


def test_expected_utility_of_one_candidate_is_zero() -> None:
    assert expected_utility(np.ones((1, 1))).tolist() == [0.0]
    assert expected_utility(np.ones((0, 0))).tolist() == []


def test_chrf_by_hand() -> None:
    items = CandidateList.of(request("ab", "ab", "cd"))
    matrix = chrf(items)
    assert matrix[0, 1] == 1 and matrix[0, 2] == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_lexrank_is_a_distribution_and_solves_its_equation(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    similarity = rng.random((n, n)) * (rng.random((n, n)) > 0.4)
    p = lexrank(similarity)
    assert p.sum() == pytest.approx(1, abs=1e-9) and (p > 0).all()
    sums = similarity.sum(1, keepdims=True)
    walk = np.where(sums > 0, similarity / np.where(sums > 0, sums, 1), 1 / n)
    np.testing.assert_allclose(p, 0.15 / n + 0.85 * walk.T @ p, atol=1e-10)


def test_extractive_fragments_by_hand() -> None:
    source = ["a", "b", "c", "d", "e", "f"]
    assert fragments(source, ["b", "c", "d", "x", "f"]) == [3, 1]
    assert fragments(source, []) == [] == fragments([], ["a"])
    assert novelty(source, ["a", "b", "x"], 2) == 0.5
    assert repetition(["a", "b", "a", "b", "a", "b"], 2) == pytest.approx(3 / 5)


def test_features_see_what_the_source_does_not_support() -> None:
    items = CandidateList.of(request("The car was found in Leeds on Monday.", "The car was found in York on 12 May."))
    found = features(items)
    assert found["unsupported_numbers"].tolist() == [0, 1]
    assert found["unsupported_names"].tolist() == [0, 1]
    assert found["source_r2_precision"][0] > found["source_r2_precision"][1]
    assert domain.method("faithful").rerank([request(*items.texts)])[0].ids[0] == "0"
    assert all(np.isfinite(v).all() and v.shape == (2,) for v in found.values())


@pytest.mark.parametrize("method", ["mbr-rouge1", "lead", "learned", "default"])
def test_explanations_are_there_on_demand_only(method: str) -> None:
    r = request("Police found a car.", "A car.", "An owner was told.")
    assert all(x.reason for x in domain.method(method, {"explain": True}).rerank([r])[0].items)
    assert not any(x.reason for x in domain.method(method).rerank([r])[0].items)


def test_random_is_seeded_by_document() -> None:
    texts = [str(i) for i in range(8)]
    a = Request("a", "", request(*texts).candidates)
    b = Request("b", "", request(*texts).candidates)
    one, two = domain.method("random").rerank([a, b])
    assert one.ids != two.ids
    assert one == domain.method("random").rerank([a])[0]
    assert one.ids != domain.method("random", {"seed": 1}).rerank([a])[0].ids


def figures(path: Path, method: str, **options: str) -> dict[str, float]:
    records = list(read_records(path))
    rankings = {r.id: r for r in domain.method(method).rerank([r.request for r in records])}
    found = evaluate(records, {method: rankings}, flavour(), n_boot=50, **options)
    return {f.row.measure: f.row.value for f in found if f.row.system == method}


@pytest.mark.shared_data
def test_summeval_figures(shared_data: Find) -> None:
    path = shared_data("summary/summeval/summeval.jsonl.gz")
    one = figures(path, "mbr-rouge1")
    assert one["rouge1"] == pytest.approx(44.28, abs=0.05) and one["human_mean"] == pytest.approx(4.458, abs=0.01)
    assert one["kendall_tau"] == pytest.approx(0.229, abs=0.002)
    assert figures(path, "mbr-rougeL")["rougeL"] == pytest.approx(29.88, abs=0.01)
    mean = figures(path, "mbr-mean")
    assert mean["rouge1"] == pytest.approx(43.79, abs=0.01) and mean["rougeL"] == pytest.approx(29.56, abs=0.01)
    assert figures(path, "mbr-rouge1", ties="average")["human_mean"] != one["human_mean"]


@pytest.mark.shared_data
def test_learned_reranker_beats_every_single_baseline_out_of_fold(shared_data: Find) -> None:
    found = figures(shared_data("summary/summeval/summeval.jsonl.gz"), "learned")
    assert found["human_mean"] >= 4.52 and found["rouge1"] >= 44.0


def test_a_matrix_is_many_times_faster_than_the_reference_implementation() -> None:
    from rouge_score import rouge_scorer

    from rerank_summary.rouge import Rouge

    rng = np.random.default_rng(0)
    vocabulary = np.array(
        [f"{a}{b}" for a in ["running", "happily", "police", "stated", "nationally"] for b in ("", "s", "ed")]
    )
    texts = [" ".join(rng.choice(vocabulary, 60)) for _ in range(12)]
    names = ("rouge1", "rouge2", "rougeL")
    mine = Rouge(flavour(), names)
    mine.matrices(texts)
    start = time.process_time()
    for _ in range(5):
        found = mine.matrices(texts)
    ours = (time.process_time() - start) / 5
    scorer = rouge_scorer.RougeScorer(list(names), use_stemmer=True)
    start = time.process_time()
    pairs = [[scorer.score(a, b) for b in texts] for a in texts]
    theirs = time.process_time() - start
    worst = max(abs(found[m][i, j] - pairs[i][j][m].fmeasure) for m in names for i in range(12) for j in range(12))
    print(f"{theirs / ours:.0f} x, worst difference {worst:.1e}")
    assert worst < 1e-9
    assert theirs / ours >= 60

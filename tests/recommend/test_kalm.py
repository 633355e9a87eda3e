"""Keywords and MPG against the official program, retrievers and measures by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rerank_recommend import cold, kalm
from rerank_recommend.keywords import (
    KeywordIndex,
    Review,
    extract_keywords,
    jaccard_scores,
    judge,
    mpg_scores,
    select_keywords,
    top_items,
)
from rerank_recommend.prompts import KeywordCandidate, care_prompt, conversation, keyword_prompt, letter_prompt
from rerank_recommend.readers import read_reviews

Shared = Callable[[str], Path]


@pytest.mark.shared_data
def test_mpg_equals_the_official_program(shared_data: Shared) -> None:
    with gzip.open(shared_data("recsys/oracle/kalm_mpg.json.gz"), "rt") as file:
        oracle = json.load(file)
    index = KeywordIndex.from_counts(oracle["keyword_item_counts"], oracle["keyword_user_counts"])
    same, worst_value, worst_score, precision, recall = 0, 0.0, 0.0, [], []
    for case in oracle["cases"]:
        official = dict(case["top_keywords"])
        same += {w for w, _ in select_keywords(index, case["keywords"])} == set(official)
        worst_value = max(worst_value, *(abs(index.values[index.row_of[w]] - v) for w, v in official.items()))
        scores = mpg_scores(index, list(official))
        worst_score = max(worst_score, *(abs(scores[index.items.index(i)] - v) for i, v in case["scores"].items()))
        found = judge(top_items(index, scores, 20), case["gold"], 20)
        assert found.precision == pytest.approx(case["p20"]) and found.recall == pytest.approx(case["r20"])
        precision.append(found.precision)
        recall.append(found.recall)
    print(f"keyword sets {same}/30, worst value {worst_value:.1e}, worst score {worst_score:.1e}")
    assert same >= 27 and worst_value < 1e-5 and worst_score < 1e-5
    assert np.mean(precision) == pytest.approx(0.06, abs=1e-4) and np.mean(recall) == pytest.approx(0.2604, abs=1e-4)


@pytest.mark.shared_data
def test_default_retriever_beats_mpg_on_restaurants(shared_data: Shared) -> None:
    reviews = read_reviews(shared_data("recsys/restaurants/reviews.jsonl.gz"))
    recall = {}
    for train in ("regular", "all"):
        task = kalm.make_task(reviews, train=train)
        for name in ("default", "mpg"):
            rows = kalm.summarise(task, name, kalm.retrieve(task, name))
            recall[train, name] = next(r["value"] for r in rows if r["measure"] == "R@20")
    print(recall)
    assert recall["regular", "default"] >= 0.49 and recall["all", "default"] >= 0.65
    assert recall["regular", "mpg"] < recall["regular", "default"] - 0.1


def test_keywords_are_runs_of_content_words() -> None:
    assert extract_keywords("The chicken biryani was great, and the staff is friendly!") == [
        "chicken biryani",
        "great",
        "staff",
        "friendly",
    ]
    assert extract_keywords("hot crispy golden fried chicken") == [
        "hot crispy",
        "crispy golden",
        "golden fried",
        "fried chicken",
    ]
    assert extract_keywords("") == []


def test_tf_iuf_by_hand() -> None:
    index = KeywordIndex.from_counts(
        {"pizza": {"A": 2, "B": 1}, "rare": {"A": 1}}, {"pizza": {"u": 3}, "rare": {"u": 1, "v": 1}}
    )
    assert index.iuf.tolist() == pytest.approx([np.log(1000), np.log(500)])
    assert index.values.tolist() == pytest.approx([1.5 * np.log(1000), np.log(500)])
    assert mpg_scores(index, ["pizza", "rare", "unknown", "pizza"]).tolist() == pytest.approx(
        [2 * np.log(1000) + np.log(500), np.log(1000)]
    )
    assert jaccard_scores(index, ["pizza"]).tolist() == pytest.approx([1 / 2, 1.0])


def test_unknown_words_take_the_nearest_keyword_where_one_is_given() -> None:
    index = KeywordIndex.from_counts({"pizza": {"A": 1}}, {"pizza": {"u": 1}})
    assert select_keywords(index, ["pitza"]) == []
    assert [w for w, _ in select_keywords(index, ["pitza"], nearest=lambda ws: ["pizza"] * len(ws))] == ["pizza"]


def test_ndcg_takes_the_rank() -> None:
    assert judge(["a", "b", "c"], ["a"], 3).ndcg == 1.0
    assert judge(["b", "a", "c"], ["a"], 3).ndcg == pytest.approx(1 / np.log2(3))
    assert judge(["b", "a", "a"], ["a", "z"], 3).precision == 1 / 2
    assert judge([], ["a"], 3).recall == 0.0


def test_leave_one_out_never_shows_the_query_its_own_review() -> None:
    reviews = [Review("t", "A", "sushi heaven"), Review("t", "B", "burger paradise")]
    reviews = [Review(r.user, r.item, r.text, "test") for r in reviews]
    reviews += [Review(f"u{k}", i, f"{w} {w}", "train") for k in range(3) for i, w in (("A", "sushi"), ("B", "burger"))]
    task = kalm.make_task(reviews, protocol="leave-one-out")
    assert {(q.gold, q.seen) for q in task.queries} == {(("A",), ("B",)), (("B",), ("A",))}
    query = next(q for q in task.queries if q.gold == ("A",))
    assert "sushi heaven" not in query.keywords
    assert all("B" not in x for q, x in zip(task.queries, kalm.retrieve(task, "bm25"), strict=True) if q is query)


def test_neural_rows_learn_what_similar_users_take() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 80)
    likes = np.where(np.arange(20)[None] // 10 == group[:, None], 0.5, 0.03)
    user_items = (rng.random((80, 20)) < likes).astype(np.float32)
    near = [np.flatnonzero(group == g)[:3].tolist() for g in (0, 1)]
    content = np.repeat(np.eye(2), 10, axis=0) + 0.1 * rng.random((20, 2))
    for scores in (
        cold.mf(user_items, near),
        cold.multvae(user_items, near, epochs=40),
        cold.clcrec(user_items, content, near, epochs=30),
    ):
        top = np.argsort(-scores, axis=1)[:, :5] // 10
        assert (top == np.array([[0], [1]])).mean() >= 0.9


def test_prompts_are_what_they_were() -> None:
    assert conversation(["Hi!", "Hello.", "A thriller?"]) == "User: Hi!\nSystem: Hello.\nUser: A thriller?"
    select = care_prompt("select", ["A thriller?"], ["Se7en (1995)", "Zodiac (2007)"])
    assert select.startswith("You recommend movies.") and "1. Se7en (1995)\n2. Zodiac (2007)" in select
    assert "Name no others." in select and "suggests" not in care_prompt("direct", ["A thriller?"])
    few = keyword_prompt(
        ["ramen"],
        [KeywordCandidate(3, ("noodles",)), KeywordCandidate(7, ("tapas", "wine"))],
        shots=[(["pizza"], [KeywordCandidate(1, ("dough",))], [1])],
        wanted=2,
    )
    assert few.index("Answer: 1") < few.index("The user likes: ramen.") and few.endswith("Answer:")
    assert "Candidates: [3, 7]\n3 (noodles)\n7 (tapas, wine)" in few
    with pytest.raises(ValueError, match="26 letters"):
        letter_prompt("?", ["x"] * 27)


def test_a_long_prompt_loses_its_oldest_utterances_never_a_candidate() -> None:
    context = [f"utterance number {k}" for k in range(50)]
    candidates = [f"Film {k}" for k in range(20)]

    def words(text: str) -> int:
        return len(text.split())

    from rerank_recommend.prompts import PromptParams

    text = care_prompt("rerank", context, candidates, PromptParams(max_tokens=150), words)
    assert words(text) <= 150 and "utterance number 49" in text and "utterance number 0\n" not in text
    assert all(f". {c}" in text for c in candidates)

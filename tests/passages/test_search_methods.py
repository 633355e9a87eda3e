"""CUR, QUITE, feedback, the cascade, screening and decomposition: exact where there is an exact answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.budget import Budget
from rerank_core.errors import InputError
from rerank_core.reranker import FirstStage
from rerank_core.types import Candidate, Ranking, Request, Status
from rerank_passages.anchors import CurParams, open_matrix, predict, recall_curve, search
from rerank_passages.cascade import Cascade, CascadeParams
from rerank_passages.cur import CurReranker
from rerank_passages.decompose import ByModel, by_rules, pooled_request, read_hotpotqa, read_multihop_rag
from rerank_passages.feedback import Feedback, distil, rocchio
from rerank_passages.quite import Compressed, QuiteParams, summarise, term_weights
from rerank_passages.retrieve import Bm25Index
from rerank_passages.scorers import PairScores
from rerank_passages.screening import last_relevant, read_tar_topic, recall_at_percent, screen_actively, work_saved

RNG = np.random.default_rng(0)


class Table:
    """A scorer that reads its scores from the text: 'x 3.5' scores 3.5."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def score(self, pairs):  # type: ignore[no-untyped-def]
        self.seen += [t for _, t in pairs]
        n = np.array([float(t.split()[-1]) for _, t in pairs])
        return PairScores(n, np.zeros(len(n), dtype=bool), np.full(len(n), 5))

    def fingerprint(self) -> str:
        return "table"


def request(scores: list[float], name: str = "q") -> Request[str, str]:
    return Request(name, "query", tuple(Candidate(f"d{i}", f"x {s}", -float(i)) for i, s in enumerate(scores)))


@pytest.mark.parametrize("rank", [1, 4, 8])
def test_a_matrix_of_low_rank_is_reproduced(rank: int) -> None:
    full = RNG.normal(size=(41, rank)) @ RNG.normal(size=(rank, 300))
    anchors = np.sort(RNG.choice(300, 20, replace=False))
    predicted = predict(full[:40], anchors, full[40, anchors], rcond=1e-10)
    assert np.abs(predicted - full[40]).max() / np.abs(full[40]).max() <= 1e-8
    found = search(full[:40], lambda i: full[40, i], CurParams(anchors=20, budget=40, rcond=1e-10))
    assert found.items[:10].tolist() == np.argsort(-full[40])[:10].tolist() and found.calls == 40


def test_as_many_anchor_items_as_anchor_queries_is_no_trouble() -> None:
    full = RNG.normal(size=(50, 5)) @ RNG.normal(size=(5, 400)) + 0.05 * RNG.normal(size=(50, 400))
    known, truth = full[:30], full[30:]
    curve = recall_curve(truth, known, [CurParams(30, b) for b in (30, 60, 120, 400)], k=10)
    recall = [r for _, r in curve]
    assert np.isfinite(recall).all() and recall == sorted(recall) and recall[-1] == 1.0
    (_, adaptive), (_, uniform) = recall_curve(truth, known, [CurParams(30, 60, 3), CurParams(30, 60)], k=10)
    assert adaptive >= uniform - 0.05


def test_a_score_matrix_lives_on_disk(tmp_path: Path) -> None:
    written = open_matrix(tmp_path / "m.npy", (3, 4), "w+")
    written[:] = np.arange(12).reshape(3, 4)
    del written
    assert np.asarray(open_matrix(tmp_path / "m.npy", (3, 4)))[2, 3] == 11
    with pytest.raises(ValueError, match="not"):
        open_matrix(tmp_path / "m.npy", (4, 3))


class Vectors:
    def encode(self, texts):  # type: ignore[no-untyped-def]
        x = np.array([[1.0, float(t.split()[-1])] for t in texts], dtype=np.float32)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def encode_queries(self, texts):  # type: ignore[no-untyped-def]
        return np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(texts), 1))

    def fingerprint(self) -> str:
        return "vectors"


def test_cur_reranker_reads_its_budget_only() -> None:
    scorer = Table()
    scores = [float(x) for x in RNG.permutation(60)]
    (ranking,) = CurReranker(scorer, Vectors, CurParams(10, 20, 2, 1e-3)).rerank([request(scores)])
    assert len(scorer.seen) == len(set(scorer.seen)) == 20
    assert sorted(ranking.ids) == sorted(request(scores).ids)
    assert ranking.ids[0] == f"d{int(np.argmax(scores))}"
    assert CurReranker(scorer, Vectors, CurParams(10, 20)).rerank([request([1.0])])[0].ids == ["d0"]


class TableStudent(Table):
    def scores(self, requests):  # type: ignore[no-untyped-def]
        return [np.array([float(c.content.split()[-1]) for c in r.candidates]) for r in requests]


def test_the_cascade_stops_when_the_head_is_settled() -> None:
    scores = [float(40 - i) for i in range(40)]
    easy, scorer = request(scores, "easy"), Table()
    params = CascadeParams(bi_depth=40, cross_depth=40, round_size=5, top=5)
    (ranking,) = Cascade(TableStudent(), Table(), scorer, params).rerank([easy])
    assert ranking.ids[:5] == ["d0", "d1", "d2", "d3", "d4"] and len(scorer.seen) == 10
    assert sorted(ranking.ids) == sorted(easy.ids) and ranking.status is Status.OK
    (ranking,) = Cascade(TableStudent(), Table(), Table(), params).within(Budget(calls=0)).rerank([easy])
    assert ranking.status is Status.BUDGET and ranking.ids[0] == "d0"
    assert Cascade(TableStudent(), Table(), Table()).rerank([]) == []
    assert Cascade(TableStudent(), Table(), Table()).rerank([request([2.0])])[0].ids == ["d0"]


def test_a_student_learns_the_teachers_order_without_labels() -> None:
    from rerank_lm.encoders import StaticEncoder
    from rerank_passages.student import SIGNALS, Student, distil, signals

    texts = ["the fast red fox runs", "a red car", "fox and hound", "bread and butter", "the red fox"]
    asked = [Request("q", "red fox", tuple(Candidate(str(i), t, 0.0) for i, t in enumerate(texts)))]
    table = signals(asked[0], StaticEncoder.load())
    assert table.shape == (5, len(SIGNALS)) and np.isfinite(table).all()
    teacher = table @ np.arange(len(SIGNALS), dtype=float)
    weights = distil([table], [teacher], ridge=1e-9)
    (scores,) = Student(StaticEncoder.load, weights).scores(asked)
    assert np.argsort(scores).tolist() == np.argsort(teacher).tolist()
    (shipped,) = Student(StaticEncoder.load).scores(asked)
    assert int(np.argmax(shipped)) in (0, 4) and int(np.argmin(shipped)) == 3
    assert Student(StaticEncoder.load).scores([Request("e", "x", ())])[0].shape == (0,)
    odd = Request("o", "?!", (Candidate("a", ""), Candidate("b", "\u2603")))
    assert np.isfinite(signals(odd, StaticEncoder.load())).all()


def test_quite_takes_what_the_query_asks_for() -> None:
    text = "Cats sleep a lot. Dogs bark at night. The moon is far away. Dogs and cats can be friends."
    weights = {"dog": 2.0, "cat": 1.0, "bark": 1.0}
    short = summarise(text, weights, QuiteParams(words=7))
    assert short == "Dogs bark at night. Dogs and cats"
    assert summarise(text, weights, QuiteParams(words=100)) == text
    assert len(summarise("word " * 500, weights, QuiteParams(words=7)).split()) == 7
    found = term_weights("barking dogs", [text])
    assert set(found) == {"bark", "dog"} and found["bark"] > found["dog"]


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6), st.text(max_size=30))
def test_quite_is_a_reranker_over_any_text(texts: list[str], query: str) -> None:
    asked = Request("q", query, tuple(Candidate(str(i), t) for i, t in enumerate(texts)))
    (ranking,) = Compressed(FirstStage(), QuiteParams(words=3)).rerank([asked])
    assert ranking.ids == asked.ids


def test_feedback_moves_towards_what_the_reranker_liked() -> None:
    documents = np.eye(4)[[0, 1, 2, 3]]
    query = np.array([0.6, 0.8, 0.0, 0.0])
    teacher = np.array([0.0, 0.0, 9.0, 1.0])
    moved = rocchio(query, documents, teacher, top=1, weight=0.9)
    assert int(np.argmax(documents @ moved)) == 2 and np.linalg.norm(moved) == pytest.approx(1)
    optimised = distil(query, documents, teacher)
    before, after = documents @ query, documents @ optimised
    assert after[2] - after[0] > before[2] - before[0] and np.isfinite(after).all()
    assert np.isfinite(distil(query, documents, np.zeros(4))).all()
    (ranking,) = Feedback(FirstStage(), Vectors(), blend=0.0).rerank([request([3.0, 2.0, 1.0])])
    assert ranking.ids == ["d0", "d1", "d2"]


def test_screening_measures_by_hand() -> None:
    asked = Request("r", "", tuple(Candidate(str(i), "") for i in range(20)))
    ranking = Ranking.from_order(asked, [str(i) for i in range(20)])
    gains = {"0": 1.0, "1": 1.0, "3": 1.0, "9": 1.0}
    values = {
        m.name: m.function(gains, ranking, None) for m in (last_relevant(), work_saved(1.0), recall_at_percent(10))
    }
    assert values == {"last_rel": 10.0, "WSS@100": 0.5, "Recall@10%": 0.5}


def test_active_screening_finds_the_relevant_early_and_stops() -> None:
    topics = ["heart surgery outcome", "plant growth soil", "language model text", "ocean wave energy"]
    documents = {str(i): f"{topics[i % 4]} study {RNG.integers(1000)}" for i in range(400)}
    wanted = {i for i in documents if int(i) % 4 == 0}
    done = screen_actively(documents, lambda ids: [i in wanted for i in ids], np.zeros(400), batch=20)
    assert wanted <= set(done.order[:200]) and done.stopped and len(done.order) < 400
    none = screen_actively({"a": "x", "b": "y"}, lambda ids: [False] * len(ids), np.zeros(2))
    assert sorted(none.order) == ["a", "b"] and not none.stopped


def test_tar_topics(tmp_path: Path) -> None:
    path = tmp_path / "CD1"
    path.write_text("Topic: CD1\n\nTitle: Tests for x\n\nQuery: \n(a OR b)\n\nPids: \n    11\n    22\n")
    assert read_tar_topic(path) == ("CD1", "Tests for x", ("11", "22"))
    path.write_text("Topic: CD1\nTitle: T\nPids:\n11\n11\n")
    with pytest.raises(InputError, match="CD1:5: id '11' occurs twice"):
        read_tar_topic(path)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who is older, Ann Lee or Bob Stone?", ["Who is older Ann Lee", "Who is older Bob Stone"]),
        ("What is gold and where is it found?", ["What is gold", "where is it found"]),
        ("Which film was made by the director who won the prize in 1990?", ["won the prize in 1990"]),
        ("What is a tab?", []),
        ("", []),
    ],
)
def test_rules(question: str, expected: list[str]) -> None:
    assert by_rules(question) == expected


@given(st.text(max_size=200))
def test_rules_take_any_text(question: str) -> None:
    parts = by_rules(question)
    assert len(parts) <= 4 and question not in parts


def test_a_models_answer_and_its_failures() -> None:
    assert list(ByModel(lambda p: 'Sure: ["What is a?", "What is b?", "What is a?"]')("q")) == [
        "What is a?",
        "What is b?",
    ]
    assert list(ByModel(lambda p: "I cannot [do that")("What is gold and where is it found?")) == by_rules(
        "What is gold and where is it found?"
    )


def test_pooling_finds_the_second_hop() -> None:
    texts = {f"n{i}": f"gold price report number {i}" for i in range(30)} | {"mine": "it is found in rivers"}
    index = Bm25Index.build(texts)
    question = "What is the gold price and where is it found?"
    plain = pooled_request("q", question, index, texts, None, depth=3)
    pooled = pooled_request("q", question, index, texts, depth=3)
    assert "mine" in pooled.ids and len(pooled.ids) >= len(plain.ids)


def test_multi_hop_readers(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps([{"title": "T", "body": "one two three four"}]))
    (tmp_path / "q.json").write_text(json.dumps([{"query": "x?", "evidence_list": [{"fact": "three four"}]}]))
    asked, chunks, gold = read_multihop_rag(tmp_path / "q.json", tmp_path / "c.json", words=2)
    assert (asked, gold) == ({"0": "x?"}, {"0": {"0-1": 1.0}}) and chunks["0-0"] == "T. one two"
    item = {
        "_id": "h",
        "question": "y?",
        "context": [["A", ["s1", "s2"]], ["B", ["s3"]]],
        "supporting_facts": [["B", 0]],
    }
    (tmp_path / "h.json").write_text(json.dumps([item]))
    data = read_hotpotqa(tmp_path / "h.json")
    assert data.requests[0].ids == ["A", "B"] and data.gold == {"h": {"B": 1.0}}


def test_kept_vectors_are_read_once_and_rank_alike(tmp_path: Path) -> None:
    from rerank_passages.domain import domain

    texts = ("A car has wheels.", "Bread is baked from flour.", "Flour is milled from wheat.")
    request = Request("q", "what is bread made of", tuple(Candidate(f"d{i}", t) for i, t in enumerate(texts)))
    plain = domain.method("bi-encoder", {"precision": "fp32"}).rerank([request])[0]
    settings = {"precision": "fp32", "vectors": str(tmp_path / "kept")}
    first, second = (domain.method("bi-encoder", settings).rerank([request])[0] for _ in range(2))
    assert first.ids == second.ids == plain.ids
    assert first.scores_for(request) == pytest.approx(plain.scores_for(request), abs=1e-3)
    assert first.cost.prompt_tokens > 0 == second.cost.prompt_tokens
    for entry in (p for p in (tmp_path / "kept").rglob("*") if p.is_file()):
        entry.write_bytes(b"torn")
    assert domain.method("bi-encoder", settings).rerank([request])[0].ids == plain.ids  # damaged ones are made again
    cascade = domain.method("cascade", {"precision": "fp32", "vectors": str(tmp_path / "kept")})
    assert cascade.rerank([request])[0].ids[0] == "d1"

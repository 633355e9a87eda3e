"""Clicks, rewritten queries, document ids as outputs, the pyramid, and Chinese text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rerank_core.cache import Store
from rerank_core.errors import InputError, UsageError
from rerank_core.measures import evaluate, parse
from rerank_core.types import Candidate, Ranking, Request
from rerank_passages.clicks import FEATURES, ClickTree, Session, anchored_loss, click_features, pretraining_loss
from rerank_passages.docids import DocidRetriever, pieces
from rerank_passages.pyramid import Pyramid, attention_cost
from rerank_passages.retrieve import Bm25Index
from rerank_passages.rewriting import ByModel, ByTerms, rewrite_queries
from rerank_passages.t2ranking import character_terms, chinese_terms, official_gold, read_grades, read_texts


def test_click_features_by_hand() -> None:
    sessions = [Session(("a", "b", "c"), (False, True, False)), Session(("b", "a"), (True, True))]
    found = click_features(sessions, prior=0.0)
    assert dict(zip(FEATURES, found["a"], strict=True)) == {
        "clicked": 0.5, "clicked_smoothed": 0.5, "last": 0.5, "only": 0.0, "above_clicked": 0.5, "below_skipped": 0.0,
    }  # fmt: skip
    assert found["b"].tolist() == [1.0, 1.0, 0.5, 0.5, 0.0, 0.5] and found["c"].sum() == 0
    assert click_features([]) == {}
    with pytest.raises(ValueError, match="1 clicks for 2 results"):
        Session(("a", "b"), (True,))


def test_the_tree_sees_through_position_bias() -> None:
    """Users who look at a result with 0.6 to the power of its rank and click by its grade: the tree undoes the bias."""
    rng = np.random.default_rng(0)
    features, rates, grades = [], [], []
    for _ in range(90):
        grade = rng.integers(0, 4, size=10)
        ids = tuple(str(i) for i in range(10))
        looked = rng.random((40, 10)) < 0.6 ** np.arange(10)
        clicks = looked & (rng.random((40, 10)) < np.array([0.05, 0.25, 0.5, 0.9])[grade])
        found = click_features([Session(ids, tuple(c.tolist())) for c in clicks])
        features += [found[i] for i in ids]
        rates += [found[i][0] for i in ids]
        grades += grade.tolist()
    x, y, raw = np.array(features), np.array(grades, dtype=float), np.array(rates)
    tree = ClickTree.fit(x[:600], y[:600])
    predicted = tree.grades(x[600:])
    assert predicted.min() >= 0 and predicted.max() <= 3 and tree.grades(x[:0]).shape == (0,)
    assert np.corrcoef(predicted, y[600:])[0, 1] > np.corrcoef(raw[600:], y[600:])[0, 1] + 0.03


def test_click_losses() -> None:
    grades = torch.tensor([[0.0, 2.0, 4.0]])
    right = torch.tensor([[0.1, 0.5, 0.9]], requires_grad=True)
    assert float(pretraining_loss(right.detach(), grades, margin=0.3)) == 0.0
    assert float(anchored_loss(right.detach(), grades)) == 0.0  # targets 0.1, 0.5, 0.9
    off = torch.tensor([[0.1, 0.5, 0.4]], requires_grad=True)
    loss = anchored_loss(off, grades, tolerance=0.01)
    loss.backward()
    # pairs: 0.1<0.5 fine, 0.1<0.4 fine, 0.5 over 0.4 by 0.1 wants 0.2; the anchor: (0.25 - 0.01) / 3
    assert loss.item() == pytest.approx(0.2 / 3 + 0.24 / 3, abs=1e-6) and float(off.grad[0, 2]) < 0
    masked = anchored_loss(off.detach(), grades, torch.tensor([[True, True, False]]))
    assert float(masked) == 0.0


def test_queries_are_rewritten_once_and_only_with_relevant_passages(tmp_path: Path) -> None:
    passages = {"p": "The jaguar XJ is a luxury saloon car.", "r": "unrelated words here", "z": "bread"}
    rewriter = ByTerms.over([*passages.values(), "the car", "a car park"], n=2)
    gold = {"q": {"p": 2.0, "r": 0.0, "gone": 1.0}, "other": {"z": 1.0}}
    (pair,) = rewrite_queries({"q": "jaguar"}, gold, passages, rewriter)
    assert (pair.query_id, pair.passage_id) == ("q", "p")
    assert pair.query.startswith("jaguar ") and len(pair.query.split()) == 3 and "car" not in pair.query.split()
    asked = []
    model = ByModel(lambda prompt: asked.append(prompt) or '"jaguar XJ luxury car"\nmore', "m")  # type: ignore[func-returns-value]
    store = Store(tmp_path)
    for _ in range(2):
        (pair,) = rewrite_queries({"q": "jaguar"}, gold, passages, model, cache=store)
    assert pair.query == "jaguar XJ luxury car" and len(asked) == 1 and "saloon" in asked[0]
    assert ByModel(lambda p: "", "m")("jaguar", "x") == "jaguar"
    assert ByModel(lambda p: "word " * 99, "m")("jaguar", "x") == "jaguar"


class Letters:
    """Texts as unit vectors of letter counts."""

    def encode(self, texts):  # type: ignore[no-untyped-def]
        x = np.array([[t.count(c) for c in "abcdefgh"] for t in texts], dtype=np.float32) + 0.01
        return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_a_document_learns_its_queries() -> None:
    documents = {"1": "aaaa bbb", "2": "cccc ddd", "3": "eeee"}
    dense = DocidRetriever.over_dense(documents, Letters())
    assert [[i for i, _ in r] for r in dense.search(Letters().encode(["ab", "d"]), 1)] == [["1"], ["2"]]
    queries = Letters().encode(["ggg", "hh"] * 20)
    trained = dense.fit(queries, ["3", "1"] * 20)
    assert [r[0][0] for r in trained.search(Letters().encode(["g", "h", "c"]), 2)] == ["3", "1", "2"]
    with pytest.raises(ValueError, match="id of a document"):
        dense.fit(queries[:1], ["4"])
    assert pieces({"x": "1 2 3 4 5"}, words=3, step=2) == (["1 2 3", "3 4 5"], ["x", "x"])


PAIRS = [
    ("how is a sparse matrix stored", "CSR stores row pointers, column indices and data."),
    ("how is a sparse matrix stored", "Bread is baked from flour, water, salt and yeast."),
    ("what is bread made of", "Bread is baked from flour, water, salt and yeast."),
]


def test_a_pyramid_without_low_layers_is_the_cross_encoder() -> None:
    from rerank_lm.encoders import CrossEncoder

    encoder = CrossEncoder.load(precision="fp32")
    plain = encoder.score(PAIRS)
    assert Pyramid(encoder, 0).score(PAIRS).scores == pytest.approx(plain, abs=1e-4)
    one = Pyramid(encoder, 1, query_tokens=16)
    scores = one.score(PAIRS).scores
    assert np.isfinite(scores).all() and len(set(scores.tolist())) == 3
    assert np.argsort(-scores).tolist() == np.argsort(-one.score(PAIRS[::-1]).scores[::-1]).tolist()
    assert one.score([]).scores.shape == (0,) and one.fingerprint() != Pyramid(encoder, 0).fingerprint()
    long = one.score([("word " * 50, "text " * 2000)])
    assert long.truncated.tolist() == [True] and 300 < int(long.tokens[0]) <= 512
    with pytest.raises(UsageError, match="between 0 and the model's 12 layers"):
        Pyramid(encoder, 13)
    assert attention_cost(10, 90, 12, 0) == 120_000 and attention_cost(10, 90, 12, 3) == 120_000 - 3 * 2 * 900


def test_t2ranking_files_and_official_mrr(tmp_path: Path) -> None:
    (tmp_path / "collection.tsv").write_text("pid\ttext\n0\t苹果是一种水果。\n1\t北京是中国的首都\n2\t上海是城市\n")
    (tmp_path / "qrels.tsv").write_text("qid\t-\tpid\trel\n7\t0\t1\t3\n7\t0\t2\t1\n")
    texts, gold = read_texts(tmp_path / "collection.tsv"), read_grades(tmp_path / "qrels.tsv")
    assert texts["1"] == "北京是中国的首都" and gold == {"7": {"1": 3.0, "2": 1.0}}
    assert read_texts(tmp_path / "collection.tsv", {"2"}) == {"2": "上海是城市"}
    request = Request("7", "中国首都", tuple(Candidate(i, texts[i]) for i in ("2", "1", "0")))
    order = Ranking.from_order(request, ["2", "1", "0"])
    (row,) = evaluate([parse("MRR@10")], official_gold(gold), [order], [request], system="x")
    assert row.value == 0.5  # the first one has grade 1: not relevant
    (tmp_path / "two.tsv").write_text("7\t1\n7\t2\n")
    assert read_grades(tmp_path / "two.tsv") == {"7": {"1": 1.0, "2": 1.0}}
    for name, text, complaint in (
        ("a.tsv", "1\tx\n1\ty\n", "a.tsv:2: id '1' occurs twice"),
        ("b.tsv", "no tab\n", "b.tsv:1: "),
        ("c.tsv", "", "holds no texts"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=complaint):
            read_texts(tmp_path / name)
    (tmp_path / "d.tsv").write_text("7 0 1 x\n")
    with pytest.raises(InputError, match="d.tsv:1: grade 'x'"):
        read_grades(tmp_path / "d.tsv")


def test_chinese_words_find_what_blanks_cannot() -> None:
    texts = {"capital": "北京是中国的首都。", "fruit": "苹果是一种水果。"}
    assert "北京" in chinese_terms(texts["capital"]) and "。" not in chinese_terms(texts["capital"])
    assert character_terms("iPhone 15是手机") == ["iphone", "15", "是", "手", "机", "是手", "手机"]
    for cut in (chinese_terms, character_terms):
        assert Bm25Index.build(texts, cut=cut).search("中国的首都是哪里")[0][0] == "capital"
    assert Bm25Index.build(texts).search("中国的首都是哪里") == []

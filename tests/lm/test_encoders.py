"""Encoders against the reference values of the packaged weights, and what must not change a score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from rerank_core.errors import UsageError
from rerank_lm.encoders import BiEncoder, CrossEncoder, StaticEncoder, max_sim
from rerank_lm.encoders.batching import distinct, padded, token_batches
from rerank_lm.encoders.runtime import choose_precision, cpu_flags

QUERY = "how are sparse matrices stored"
TEXTS = [
    "A sparse matrix keeps only its non-zero entries: rows, columns and values.",
    "The median is the middle value of a sorted list.",
    "CSR stores row pointers, column indices and data, so that rows are read fast.",
    "Bread is baked from flour, water, salt and yeast.",
    "Matrices",
    "x " * 700,
]


@pytest.fixture(scope="module")
def cross() -> CrossEncoder:
    return CrossEncoder.load(precision="fp32")


@pytest.fixture(scope="module")
def bi() -> BiEncoder:
    return BiEncoder.load(precision="fp32")


@given(st.lists(st.integers(0, 600), max_size=60), st.integers(1, 2048))
def test_batches_hold_every_text_once_and_stay_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = list(token_batches(lengths, budget))
    assert sorted(int(i) for b in batches for i in b) == list(range(len(lengths)))
    for b in batches:
        assert len(b) == 1 or len(b) * padded(max(lengths[i] for i in b)) <= budget


@given(st.lists(st.sampled_from("abcd")))
def test_distinct_items_give_back_the_list(items: list[str]) -> None:
    unique, index = distinct(items)
    assert [unique[i] for i in index] == items and len(set(unique)) == len(unique)


@pytest.mark.shared_data
def test_cross_encoder_equals_the_reference_logits(cross: CrossEncoder, shared_data: Callable[[str], Path]) -> None:
    oracle = json.loads(shared_data("environment/oracle/minilm_oracle.json").read_text())["cross_encoder"]["rows"]
    pairs = [(r["query"], r["document"]) for r in oracle]
    fp32 = np.array([r["logit_dequantised_fp32"] for r in oracle])
    worst = np.abs(cross.score(pairs) - fp32).max()
    print(f"worst difference fp32 {worst:.1e}")
    assert worst <= 1e-3
    for row, encoding in zip(oracle, cross.transformer.tokenise(pairs), strict=True):
        assert (encoding.ids.tolist(), encoding.types.tolist()) == (row["input_ids"], row["token_type_ids"])
    int8 = np.array([r["logit_int8_onnx"] for r in oracle])
    model = CrossEncoder.load(precision="int8")
    worst = max(abs(float(model.score([p])[0]) - x) for p, x in zip(pairs, int8, strict=True))
    print(f"worst difference int8 {worst:.1e}")
    assert worst <= 0.15


@pytest.mark.shared_data
def test_bi_encoder_equals_the_reference_vectors(bi: BiEncoder, shared_data: Callable[[str], Path]) -> None:
    oracle = json.loads(shared_data("environment/oracle/minilm_oracle.json").read_text())["bi_encoder"]
    cosine = (bi.encode(oracle["texts"]) * np.array(oracle["embeddings"])).sum(axis=1)
    assert np.abs(cosine - 1).max() <= 1e-4


def test_a_score_does_not_depend_on_the_batch(cross: CrossEncoder, bi: BiEncoder) -> None:
    pairs = [(QUERY, t) for t in TEXTS]
    together = cross.score(pairs)
    for i, pair in enumerate(pairs):
        assert abs(float(cross.score([pair])[0]) - together[i]) <= 1e-4
    assert np.abs(cross.score(pairs[::-1])[::-1] - together).max() <= 1e-4
    vectors = bi.encode(TEXTS)
    for i, text in enumerate(TEXTS):
        assert np.abs(bi.encode([text])[0] - vectors[i]).max() <= 1e-4


def test_equal_pairs_get_equal_scores_and_cut_ones_are_reported(cross: CrossEncoder) -> None:
    pairs = [(QUERY, t) for t in (*TEXTS, TEXTS[0])]
    done = cross.score_report(pairs)
    assert done.scores[0] == done.scores[-1]
    assert done.truncated.tolist() == [False] * 5 + [True, False]
    assert done.tokens.max() == 512
    assert int(np.argmax(done.scores[:5])) == 0


def test_a_long_query_is_cut_too(cross: CrossEncoder) -> None:
    done = cross.score_report([("word " * 2000, "text " * 2000), ("", "")])
    assert done.truncated.tolist() == [True, False] and np.isfinite(done.scores).all()


def test_nothing_gives_nothing(cross: CrossEncoder, bi: BiEncoder) -> None:
    assert cross.score([]).shape == (0,)
    assert bi.encode([]).shape == (0, 384)
    assert bi.encode_tokens([]) == []


def test_bf16_ranks_as_fp32_does(cross: CrossEncoder) -> None:
    fast = CrossEncoder.load(precision="bf16")
    pairs = [(QUERY, t) for t in TEXTS[:5]] + [("baking bread", t) for t in TEXTS[:5]]
    a, b = cross.score(pairs), fast.score(pairs)
    assert spearmanr(a, b).statistic >= 0.98 and np.abs(a - b).max() < 0.5


def test_precision_follows_the_machine() -> None:
    assert choose_precision("auto", "cuda") == "bf16"
    expected = "bf16" if {"avx512_bf16", "amx_bf16"} & cpu_flags() else "fp32"
    assert choose_precision("auto", "cpu") == expected
    with pytest.raises(UsageError, match="unknown precision"):
        choose_precision("fp8", "cpu")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no packaged int8 file"):
        CrossEncoder.load("all-minilm-l6-v2", precision="int8")


def test_a_model_with_several_outputs_is_no_reranker(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=30522, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_labels=3)
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(Exception, match="tokenizer.json"):
        CrossEncoder.load(str(tmp_path))


def test_queries_get_the_models_prefix() -> None:
    model = BiEncoder.load("bge-small-en-v1.5", precision="fp32")
    assert np.allclose(model.encode_queries([QUERY]), model.encode([model.query_prefix + QUERY]), atol=1e-6)
    scores = model.encode(TEXTS[:4]) @ model.encode_queries([QUERY])[0]
    assert {int(i) for i in np.argsort(-scores)[:2]} == {0, 2}


def test_max_sim_by_hand(bi: BiEncoder) -> None:
    query = np.array([[1, 0], [0, 1]], dtype=np.float32)
    a, b = np.array([[1, 0]], dtype=np.float32), np.array([[0.6, 0.8], [0, -1]], dtype=np.float32)
    assert max_sim(query, [a, b, a[:0]]) == pytest.approx([0.5, 0.7, -1.0])
    states = bi.encode_tokens([QUERY, *TEXTS[:4]])
    assert np.allclose(np.linalg.norm(states[0], axis=1), 1, atol=1e-5)
    assert int(np.argmax(max_sim(states[0], states[1:]))) in (0, 2)


def test_static_vectors() -> None:
    model = StaticEncoder.load()
    vectors = model.encode([*TEXTS[:4], ""])
    assert not vectors[4].any() and np.allclose(np.linalg.norm(vectors[:4], axis=1), 1, atol=1e-5)
    scores = vectors @ model.encode([QUERY])[0]
    assert scores[0] > scores[1] and scores[0] > scores[3]

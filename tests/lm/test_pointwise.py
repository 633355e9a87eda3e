"""Pointwise judges on the packaged model."""

from __future__ import annotations

import numpy as np
import pytest
from tests.lm.lm_helpers import Scripted, pair

from rerank_core.strategies import Picture
from rerank_lm.backends.base import Unsupported
from rerank_lm.judges.pointwise import BinaryLogit, Graded, QueryLikelihood, YesNo

PAIRS = [
    pair("how long does a flea live", "A flea lives for about a year."),
    pair("how long does a flea live", "Rome was not built in a day, as they say about that city."),
    pair("how long does a flea live", ""),
]


def test_yes_no_equals_sentence_transformers_on_the_same_prompts(smol):
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder.modules import LogitScore, Transformer

    judge = YesNo(smol)
    scores = judge.score(PAIRS)
    texts = [smol.render(judge._prompt(p)) for p in PAIRS]
    yes, no = smol.token_ids(texts[0], ["Yes", "No"])
    peer = CrossEncoder(
        modules=[Transformer(smol._folder, transformer_task="text-generation"), LogitScore(yes, no)], device="cpu"
    )
    peer.tokenizer.padding_side = "left"
    import torch

    batch = peer.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = peer(dict(batch))["scores"].squeeze(1).float().numpy()
    assert np.abs(scores - theirs).max() < 1e-4


def test_graded_is_the_expectation_over_grade_tokens(smol):
    judge = Graded(smol)
    scores = judge.score(PAIRS[:1])
    [answer] = smol.next_token([judge._prompt(PAIRS[0])], [str(k) for k in range(10)])
    p = np.exp(answer.values - answer.values.max())
    assert scores[0] == pytest.approx((p / p.sum()) @ np.arange(10))


def test_binary_is_the_difference_of_two_logits(smol):
    judge = BinaryLogit(smol)
    [answer] = smol.next_token([judge._prompt(PAIRS[0])], ["1", "0"])
    assert judge.score(PAIRS[:1])[0] == pytest.approx(answer.values[0] - answer.values[1], abs=1e-4)


def test_query_likelihood_prefers_the_passage_on_the_topic(smol):
    judge = QueryLikelihood(smol)
    scores = judge.score(PAIRS)
    assert scores.argmax() == 0
    assert judge.cost.calls == 3 and judge.cost.prompt_tokens > 0


def test_no_pairs_no_calls(smol):
    for judge in (YesNo(smol), Graded(smol), QueryLikelihood(smol)):
        assert judge.score([]).shape == (0,)
        assert judge.cost.calls == 0


def test_written_grades_are_read_and_missing_ones_are_nan():
    judge = Graded(
        Scripted(["<think>ok</think><answer>8</answer>", "no idea"]), way="generate", reasoning=True, high=10
    )
    scores = judge.score(PAIRS[:2])
    assert scores[0] == 8 and np.isnan(scores[1])
    assert judge.report["fallback"] == 1


def test_what_an_endpoint_does_not_list_counts_below_what_it_does():
    judge = YesNo(Scripted(logits=lambda p, t: [-0.1, np.nan]))
    assert judge.score(PAIRS[:1])[0] == pytest.approx(1.0)
    assert judge.report["repaired"] == 1
    nothing = YesNo(Scripted(logits=lambda p, t: [np.nan, np.nan]))
    assert np.isnan(nothing.score(PAIRS[:1])).all()


def test_long_candidates_are_cut_and_counted(smol):
    judge = YesNo(smol, words=5)
    prompt = judge._prompt(pair("q", "one two three four five six seven"))
    assert "five" in prompt.text and "six" not in prompt.text
    assert judge.report["truncated"] == 1


def test_a_megabyte_fits_after_shrinking(small):
    judge = YesNo(small, words=10_000_000)
    assert np.isfinite(judge.score([pair("q", "word " * 200_000)])).all()
    assert judge.report["truncated"] == 1


def test_a_picture_without_words_is_refused_and_a_caption_is_read(smol):
    with pytest.raises(Unsupported, match="reads text"):
        YesNo(smol).score([pair("q", Picture(b"x"))])
    assert np.isfinite(YesNo(smol).score([pair("q", Picture(b"x", "a red page"))])).all()


def test_examples_for_training(smol):
    example = YesNo(smol).example(PAIRS[0], 1.0)
    assert (example.target, example.tokens, example.gains) == ("Yes", ("Yes", "No"), (1.0,))
    assert Graded(smol).example(PAIRS[0], 3).target == "3"

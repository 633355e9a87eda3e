"""Proof and title generators over a tiny sequence-to-sequence model with random weights: formats and constraints hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_passages.proof_models import (
    Seq2Seq,
    Trie,
    WrittenProofs,
    WrittenTitles,
    hop_input,
    parse_proof,
    proof_input,
    write_proof,
)
from rerank_passages.proofs import OPERATORS, Evidence, Step, Verdict, verdict

SPAN = st.text(st.characters(exclude_characters="{}[]", categories=("L", "N")), max_size=12)


@given(st.lists(st.builds(Step, SPAN, SPAN, st.sampled_from(sorted(OPERATORS))), min_size=1, max_size=5))
def test_proofs_survive_writing(steps: list[Step]) -> None:
    assert parse_proof(write_proof(steps)) == tuple(steps)


@given(st.text(max_size=60))
def test_any_text_is_a_proof_or_none(text: str) -> None:
    assert parse_proof(text) is None or parse_proof(text)


def test_a_recorded_proof() -> None:
    text = "{ Anne Rice } [ Anne Rice ] = { was born in } [ born ] < { New Jersey } [ New Orleans ] |"
    steps = parse_proof(text)
    assert steps is not None and [s.operator for s in steps] == ["=", "<", "|"]
    assert verdict(s.operator for s in steps) is Verdict.REFUTES
    assert parse_proof(text + " and so on") is None and parse_proof("") is None and parse_proof("{ a } [ b ] ?") is None


def test_inputs() -> None:
    evidence = [Evidence("Film", "It was made in 1990."), Evidence("City", "It lies there.")]
    assert proof_input("c", evidence) == "c </s> Film ; It was made in 1990. </s> City ; It lies there."
    assert hop_input("c", evidence) == "c < E0 > [ Film ] It was made in 1990. < E1 > [ City ] It lies there."
    assert hop_input("c", []) == "c"


def test_the_trie_offers_what_it_holds() -> None:
    trie = Trie.over([[5, 6], [5, 7, 8], [9]], end=1)
    assert trie.following([]) == [5, 9] and trie.following([5]) == [6, 7] and trie.following([5, 6]) == [1]
    assert trie.following([5, 6, 1]) == [1] and trie.following([42]) == [1]


@pytest.fixture(scope="module")
def tiny() -> Seq2Seq:
    """A T5 of two small layers with random weights over a word-level vocabulary."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    words = ["<pad>", "</s>", "<unk>", *["the", "film", "city", "director", "old", "of", *"[]{}=<>;abc"]]
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(words), d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    return Seq2Seq(T5ForConditionalGeneration(config).eval(), tokenizer, longest=12)


def test_only_titles_of_the_collection_are_written(tiny: Seq2Seq) -> None:
    titles = ["the old film", "the director", "city of the film", "the"]
    writer = WrittenTitles.over(tiny, titles, beams=4, keep=3)
    found = writer.retrieve("the film", [])
    assert found and set(found) <= set(titles) and len(found) == len(set(found))
    assert writer.retrieve("the film", [Evidence("the director", "a b c")]) == writer.retrieve(
        "the film", [Evidence("the director", "a b c")]
    )
    free = {t for t, _ in tiny.generate("the film", beams=4, keep=3)}
    assert not free <= set(titles)  # without the trie the model writes anything


def test_what_is_no_proof_is_dropped(tiny: Seq2Seq) -> None:
    proofs = WrittenProofs(tiny, beams=4, keep=3).prove("the film", [Evidence("city", "old city")])
    assert all(p.steps for p in proofs)
    scores = [s for _, s in tiny.generate("the film", beams=4, keep=3)]
    assert scores == sorted(scores, reverse=True) and max(scores) <= 0

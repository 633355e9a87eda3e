"""Tiny random models for tests: the real architectures, a vocabulary of a few words."""

from __future__ import annotations

# ruff: noqa: SIM905 - word lists read better as text
import torch

from rerank_summary.likelihood import Seq2Seq
from rerank_summary.simcls import SimCls

WORDS = (
    "the a cat dog sat on mat and ran fast slow big red house in rain sun said people city report new old found "
    "company will not it was because while police fire water man woman"
).split()


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS, "."])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def seq2seq(seed: int = 0, **overrides) -> Seq2Seq:
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(WORDS) + 5, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "dropout": 0.0,
        "max_position_embeddings": 128, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2,
        "decoder_start_token_id": 2, "init_std": 0.4, "forced_eos_token_id": 2,
    }  # fmt: skip
    model = BartForConditionalGeneration(BartConfig(**{**settings, **overrides})).eval()
    return Seq2Seq(model, tokenizer(), max_source=100, max_candidate=40, fingerprint=f"tiny-{seed}")


def encoder(seed: int = 0) -> SimCls:
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS) + 5, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=128, pad_token_id=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return SimCls(BertModel(config).eval(), tokenizer(), 100, f"tiny-{seed}")

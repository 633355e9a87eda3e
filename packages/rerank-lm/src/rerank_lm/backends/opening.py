"""From a model's name (and perhaps an endpoint) to a back end, with cache, recording or replay around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rerank_core.errors import UsageError
from rerank_lm.backends.base import BackEnd
from rerank_lm.backends.http import HttpBackEnd
from rerank_lm.backends.recorded import FileMemory, Remembering, Replay, StoreMemory


def open_backend(
    model: str,
    *,
    endpoint: str | None = None,
    record: str | Path | None = None,
    replay: str | Path | None = None,
    cache: str | Path | None = None,
    threads: int | None = None,
    **options: Any,
) -> BackEnd:
    """Open what is to answer.

    Parameters
    ----------
    model
        A name for [`rerank_lm.models.resolve_model`][], or, with ``endpoint``, the served model's name.
    endpoint
        URL of an OpenAI-compatible server.
    record, replay
        JSON Lines file to append answers to, or to answer from without any model.
    cache
        Folder of answers; a second identical run asks nothing.
    options
        For [`HttpBackEnd`][rerank_lm.backends.http.HttpBackEnd] or the local back end.

    Raises
    ------
    UsageError
        When both ``record`` and ``replay`` are given.
    """
    if replay is not None:
        if record is not None:
            raise UsageError("record and replay do not go together: a replay asks nothing that could be recorded")
        return Replay(replay)
    backend: BackEnd
    if endpoint is not None:
        backend = HttpBackEnd(endpoint, model, **options)
    else:
        backend = local_backend(model, threads=threads, **options)
    if cache is not None:
        backend = Remembering(backend, StoreMemory(cache))
    if record is not None:
        backend = Remembering(backend, FileMemory(record), keep_cost=True)
    return backend


def local_backend(model: str, *, threads: int | None = None, **options: Any) -> BackEnd:
    """Open a local model with the back end its architecture needs; nothing is loaded yet."""
    from rerank_lm.models import resolve_model

    found = resolve_model(model)
    kind = found.card.kind if found.card is not None else _kind(found.weights)
    if kind == "causal-lm":
        from rerank_lm.backends.local import LocalBackEnd

        return LocalBackEnd(model, threads=threads, **options)
    if kind == "seq2seq":
        from rerank_lm.backends.seq2seq import Seq2SeqBackEnd

        return Seq2SeqBackEnd(model, threads=threads, **options)
    if kind == "vision":
        from rerank_lm.backends.vision import VisionBackEnd

        return VisionBackEnd(model, threads=threads, **options)
    from rerank_lm.backends.encoder import EncoderBackEnd

    return EncoderBackEnd(model, threads=threads, **options)


def _kind(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    architectures = " ".join(config.get("architectures") or [])
    if "vision_config" in config:
        return "vision"
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    return "causal-lm" if "CausalLM" in architectures or "LMHead" in architectures else "bi-encoder"

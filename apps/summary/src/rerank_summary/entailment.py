"""Faithfulness by entailment: does the source support each sentence of a summary? Any NLI model can be plugged in.

Source: P. Laban et al., "SummaC: Re-Visiting NLI-based Models for Inconsistency Detection in Summarization", TACL
2022, the zero-shot variant: for each summary sentence the highest entailment over source sentences, mean over the
summary. No NLI model ships under a clear licence, so a name (folder or hub) must be given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from rerank_core.errors import UsageError
from rerank_core.types import FloatArray, Request
from rerank_summary.lists import CandidateList, exact
from rerank_summary.rerank import ListScorer
from rerank_summary.text import sentences

Entailment = Callable[[Sequence[tuple[str, str]]], FloatArray]
"""``entail(pairs of premise and hypothesis)`` -> P(entailment), shape (n_pairs,)."""


def summac_zero_shot(entail: Entailment, source: str, summary: str) -> float:
    """Mean over summary sentences of the highest entailment by a source sentence; 0 for an empty text."""
    premises, claims = sentences(source), sentences(summary)
    if not premises or not claims:
        return 0.0
    table = entail([(p, c) for c in claims for p in premises]).reshape(len(claims), len(premises))
    return float(table.max(1).mean())


def nli_scorer(model: str | Entailment | None) -> ListScorer:
    """A list scorer over an NLI model by name, or over any entailment function.

    Raises
    ------
    UsageError
        When there is none.
    """
    if model is None:
        raise UsageError("method 'nli' needs an NLI model: --set model=FOLDER_OR_HUB_NAME")
    entail = load_nli(model) if isinstance(model, str) else model

    def score(items: CandidateList, request: Request[Any, Any]) -> FloatArray:
        return exact(np.array([summac_zero_shot(entail, items.source, t) for t in items.texts]))

    return score


@lru_cache(maxsize=2)
def load_nli(name: str) -> Entailment:
    """Load a sequence-classification model whose labels name entailment.

    Raises
    ------
    UsageError
        When none of its labels is called entailment (an order is never guessed).
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from rerank_lm.models import resolve_model

    folder = str(resolve_model(name).folder())
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    labels = {int(i): str(label).lower() for i, label in model.config.id2label.items()}
    entailing = [i for i, label in labels.items() if label.startswith("entail") or label == "supported"]
    if len(entailing) != 1:
        raise UsageError(f"model {name!r}: no label is called entailment; labels: {', '.join(labels.values())}")

    def entail(pairs: Sequence[tuple[str, str]]) -> FloatArray:
        out = []
        for start in range(0, len(pairs), 32):
            left, right = zip(*pairs[start : start + 32], strict=True)
            batch = tokenizer(list(left), list(right), truncation="only_first", padding=True, return_tensors="pt")
            with torch.inference_mode():
                out.append(model(**batch).logits.softmax(-1)[:, entailing[0]].double().numpy())
        return np.concatenate(out) if out else np.zeros(0)

    return entail

"""Pyramid cross-encoder: query and passage apart in the lower layers, together in the upper ones.

Zou et al., "Pre-trained Language Model based Ranking in Baidu Search", KDD 2021, section 3.3 (Pyramid-ERNIE). Attention costs
the square of the length, so reading the two apart in the ``low`` first layers saves ``low * 2 * n_query * n_passage`` products,
and the passage's lower states do not depend on the query: they are computed once and serve every query. With ``low = 0`` this
is exactly the cross-encoder it is made from; with more, that model has not learned to read so and wants fine-tuning
(any ranking loss over `Pyramid.logits` trains `Pyramid.module`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import UsageError
from rerank_core.reranker import digest
from rerank_lm.encoders import CrossEncoder
from rerank_passages.scorers import PairScores


def attention_cost(n_query: int, n_passage: int, layers: int, low: int) -> int:
    """Return the attention products of one pair: ``low (q^2 + p^2) + (layers - low) (q + p)^2``."""
    return low * (n_query**2 + n_passage**2) + (layers - low) * (n_query + n_passage) ** 2


class Pyramid:
    """Scores (query, passage) pairs with a BERT-type cross-encoder whose ``low`` first layers see one part only.

    Parameters
    ----------
    encoder
        A cross-encoder of BERT's architecture in torch.
    low
        Layers without attention between the parts, 0 to the number of layers.
    query_tokens
        Positions left to the query, special tokens included; the passage's positions start there, so that its states
        fit every query. None starts them right after each query, as BERT does; then nothing can be shared.
    """

    def __init__(self, encoder: CrossEncoder, low: int, *, query_tokens: int | None = None) -> None:
        model = encoder.transformer.model
        if not hasattr(model, "bert"):
            raise UsageError(f"a pyramid needs a model of BERT's architecture, not {type(model).__name__}")
        layers = len(model.bert.encoder.layer)
        if not 0 <= low <= layers:
            raise UsageError(f"low must be between 0 and the model's {layers} layers")
        self.encoder, self.low, self.query_tokens, self.module = encoder, low, query_tokens, model

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores:
        """Score pairs; each distinct query, and with ``query_tokens`` each distinct passage, passes the low layers once."""
        import torch

        if not pairs:
            return PairScores(np.empty(0), np.empty(0, dtype=bool), np.empty(0, dtype=np.int64))
        queries, passages, cut = self._tokenise(pairs)
        with torch.inference_mode():
            scores = np.array([float(s) for s in self._logits(queries, passages)])
        tokens = np.array([len(q) + len(p) for q, p in zip(queries, passages, strict=True)], dtype=np.int64)
        return PairScores(scores, cut, tokens)

    def logits(self, pairs: Sequence[tuple[str, str]]) -> Any:
        """Return the scores as a tensor with gradient, shape (n_pairs,): what a ranking loss trains."""
        import torch

        queries, passages, _ = self._tokenise(pairs)
        return torch.stack(list(self._logits(queries, passages)))

    def _logits(self, queries: Sequence[Any], passages: Sequence[Any]) -> Iterator[Any]:
        import torch

        kept: dict[tuple[int, tuple[int, ...]], Any] = {}
        for q, p in zip(queries, passages, strict=True):
            start = self.query_tokens or len(q)
            halves = []
            for ids, kind, at in ((q, 0, 0), (p, 1, start)):
                key = (at, tuple(ids.tolist()))
                if key not in kept:
                    kept[key] = self._low(ids, kind, at)
                halves.append(kept[key])
            if self.query_tokens is None:
                kept.pop((start, tuple(p.tolist())))
            yield self._high(torch.cat(halves, dim=1))

    def fingerprint(self) -> str:
        """Return the digest of model and settings."""
        return digest("pyramid", self.encoder.fingerprint(), self.low, self.query_tokens)

    def _tokenise(self, pairs: Sequence[tuple[str, str]]) -> tuple[list[Any], list[Any], NDArray[np.bool_]]:
        queries, passages, cut = [], [], np.zeros(len(pairs), dtype=bool)
        t = self.encoder.transformer
        for n, tokenised in enumerate(t.tokenise(pairs)):
            border = int(np.count_nonzero(tokenised.types == 0))
            q, p = tokenised.ids[:border], tokenised.ids[border:]
            cut[n] = tokenised.truncated
            if self.query_tokens is not None:
                longest = t.max_length - self.query_tokens
                cut[n] |= len(q) > self.query_tokens or len(p) > longest
                q = q if len(q) <= self.query_tokens else np.append(q[: self.query_tokens - 1], q[-1])
                p = p if len(p) <= longest else np.append(p[: longest - 1], p[-1])
            queries.append(q)
            passages.append(p)
        return queries, passages, cut

    def _low(self, ids: NDArray[np.int32], kind: int, start: int) -> Any:
        import torch

        device = self.encoder.transformer.device
        row = torch.from_numpy(ids.astype(np.int64))[None].to(device)
        positions = torch.arange(start, start + row.shape[1], device=device)[None]
        bert = self.module.bert
        states = bert.embeddings(input_ids=row, token_type_ids=torch.full_like(row, kind), position_ids=positions)
        for layer in bert.encoder.layer[: self.low]:
            states = _first(layer(states, None))
        return states

    def _high(self, states: Any) -> Any:
        bert = self.module.bert
        for layer in bert.encoder.layer[self.low :]:
            states = _first(layer(states, None))
        return self.module.classifier(bert.pooler(states))[0, 0].float()


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) else output

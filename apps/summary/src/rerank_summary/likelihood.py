"""BRIO: a seq2seq model scores candidates by their length-normalised log-likelihood.

Source: Y. Liu et al., "BRIO: Bringing Order to Abstractive Summarization", ACL 2022, section 3 and the released code:
``f(S) = sum_t log p(s_t | s_<t, D) / (n + adding) ** alpha``, n the non-padding target tokens (EOS counts), alpha 2.0
for CNN/DM and 0.6 for XSum. The last logit and the first id (the start token) are dropped. The document is encoded
once and its states repeated for every candidate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rerank_core.errors import UsageError
from rerank_core.reranker import digest
from rerank_core.types import Cost, Ranking, Request, Status

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def token_log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probability of each target token.

    Parameters
    ----------
    logits
        Shape (..., n_tokens, vocabulary); position t predicts token t + 1.
    ids
        Shape (..., n_tokens), start token first.

    Returns
    -------
    Shape (..., n_tokens - 1).
    """
    logs = logits[..., :-1, :].log_softmax(-1)
    return logs.gather(-1, ids[..., 1:].unsqueeze(-1)).squeeze(-1)


def candidate_scores(
    logits: Tensor,
    ids: Tensor,
    pad: int,
    *,
    length_penalty: float = 2.0,
    adding: float = 0.0,
    normalise: bool = True,
    mode: str = "log",
) -> Tensor:
    """BRIO's score of candidates.

    Parameters
    ----------
    logits, ids
        Shapes (batch, n_candidates, n_tokens, vocabulary) and (batch, n_candidates, n_tokens), start token first.
    pad
        Padding id; padded targets do not count.
    normalise
        False sums raw logits instead of anything normalised over the vocabulary.
    mode
        ``log`` sums log-probabilities, ``base`` probabilities.

    Returns
    -------
    Shape (batch, n_candidates); 0 for a candidate without tokens.
    """
    if mode not in ("log", "base"):
        raise UsageError(f"unknown score mode {mode!r}; known: log, base")
    real = ids[..., 1:] != pad
    if not normalise:
        values = logits[..., :-1, :].gather(-1, ids[..., 1:].unsqueeze(-1)).squeeze(-1)
    else:
        values = token_log_probs(logits, ids)
        values = values.exp() if mode == "base" else values
    total = torch.where(real, values, torch.zeros_like(values)).sum(-1)
    n = real.sum(-1).to(total.dtype)
    return torch.where(n > 0, total / (n + adding).clamp(min=1e-12) ** length_penalty, torch.zeros_like(total))


def pad_rows(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Stack id lists into a padded matrix, shape (n_rows, longest); at least one column."""
    width = max([len(r) for r in rows] + [1])
    return torch.tensor([[*r, *[pad] * (width - len(r))] for r in rows], dtype=torch.long)


@dataclass
class Seq2Seq:
    """A seq2seq model with its tokenizer, and the lengths it is used with.

    Parameters
    ----------
    max_source, max_candidate
        Tokens a source and a candidate are cut to.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_source: int = 1024
    max_candidate: int = 512
    fingerprint: str = ""

    @classmethod
    def load(cls, name: str, *, max_source: int = 1024, max_candidate: int = 512) -> Seq2Seq:
        """Load by alias, folder or hub name; safetensors only, no remote code."""
        from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

        from rerank_lm.models import resolve_model

        resolved = resolve_model(name)
        folder = str(resolved.folder())
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=False, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        limit = getattr(model.config, "max_position_embeddings", None)
        if isinstance(limit, int):
            max_source, max_candidate = min(max_source, limit), min(max_candidate, limit)
        return cls(model.eval(), tokenizer, max_source, max_candidate, resolved.fingerprint())

    @property
    def pad(self) -> int:
        """The padding id."""
        return int(self.model.config.pad_token_id)

    @property
    def start(self) -> int:
        """The decoder's start id."""
        return int(self.model.config.decoder_start_token_id)

    def source_ids(self, text: str) -> tuple[list[int], bool]:
        """Ids of a source, and whether it was cut."""
        full = self.tokenizer(text, truncation=False)["input_ids"]
        if len(full) <= self.max_source:
            return full, False
        return self.tokenizer(text, truncation=True, max_length=self.max_source)["input_ids"], True

    def target_ids(self, text: str, limit: int | None = None) -> list[int]:
        """Ids of a target, start token first."""
        size = (limit or self.max_candidate) - 1
        ids = self.tokenizer(text_target=text, truncation=True, max_length=size)["input_ids"]
        return [self.start, *ids]

    def logits(self, source: Tensor, targets: Tensor) -> Tensor:
        """Decoder logits of candidates.

        Parameters
        ----------
        source
            Shape (batch, n_source).
        targets
            Shape (batch, n_candidates, n_tokens).

        Returns
        -------
        Shape (batch, n_candidates, n_tokens, vocabulary).
        """
        batch, count, width = targets.shape
        mask = (source != self.pad).long()
        mask[:, 0] = 1
        states = self.model.get_encoder()(input_ids=source, attention_mask=mask).last_hidden_state
        flat = targets.reshape(batch * count, width)
        decoder_mask = (flat != self.pad).long()
        decoder_mask[:, 0] = 1  # the start token may be the padding token
        out = self.model(
            encoder_outputs=(states.repeat_interleave(count, 0),),
            attention_mask=mask.repeat_interleave(count, 0),
            decoder_input_ids=flat,
            decoder_attention_mask=decoder_mask,
        ).logits
        return out.reshape(batch, count, width, -1)


@dataclass(frozen=True)
class LikelihoodReranker:
    """Ranks candidates by BRIO's score; ``explain`` gives the tokens that cost most."""

    name: str
    scorer: Seq2Seq
    length_penalty: float = 2.0
    normalise: bool = True
    explain: bool = False

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Score each list in one decoder batch."""
        return [self._one(r) for r in requests]

    @torch.inference_mode()
    def _one(self, request: Request[Any, Any]) -> Ranking:
        source, cut = self.scorer.source_ids(str(request.query))
        targets = [self.scorer.target_ids(str(c.content)) for c in request.candidates]
        ids = pad_rows(targets, self.scorer.pad).unsqueeze(0)
        logits = self.scorer.logits(pad_rows([source], self.scorer.pad), ids).double()
        scores = candidate_scores(
            logits, ids, self.scorer.pad, length_penalty=self.length_penalty, normalise=self.normalise
        )[0]
        reasons = None
        if self.explain:
            logs = token_log_probs(logits, ids)[0]
            reasons = {c.id: self._reason(t, row) for c, t, row in zip(request.candidates, targets, logs, strict=True)}
        cost = Cost(1, len(source), 0)
        values = np.round(scores.numpy(), 9)
        return Ranking.from_scores(
            request, values, status=Status.TRUNCATED if cut else Status.OK, cost=cost, reasons=reasons
        )

    def _reason(self, ids: Sequence[int], logs: Tensor) -> str:
        n = len(ids) - 1
        if n < 1:
            return "no tokens"
        worst = logs[:n].argsort()[:3].tolist()
        names = [f"{self.scorer.tokenizer.decode([ids[i + 1]]).strip()!r} {logs[i]:.1f}" for i in sorted(worst)]
        return f"{n} tokens, mean log p {logs[:n].mean():.2f}; least likely: {', '.join(names)}"

    def fingerprint(self) -> str:
        """Return the digest of weights and settings."""
        s = self.scorer
        return digest(
            "brio", s.fingerprint, s.max_source, s.max_candidate, self.length_penalty, self.normalise, self.explain
        )


def seq2seq_reranker(config: Mapping[str, Any]) -> LikelihoodReranker:
    """Build the reranker of method ``brio``."""
    if not config["model"]:
        raise UsageError("method 'brio' needs a seq2seq model: --set model=FOLDER_OR_HUB_NAME")
    scorer = Seq2Seq.load(config["model"], max_source=config["max_source"], max_candidate=config["max_candidate"])
    return LikelihoodReranker("brio", scorer, config["length_penalty"], config["normalise"], config["explain"])

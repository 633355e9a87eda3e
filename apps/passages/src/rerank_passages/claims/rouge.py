"""MTM's sentence encoder: word vectors that learned from ROUGE how much a sentence repeats of a claim.

Sheng et al., ACL 2021, section 3.2 (ROT). A BERT's embeddings and first layer read (claim, sentence) and predict ROUGE-2
precision and recall of the sentence against the claim; a term keeps the parameters near where they started, so that meaning is
not lost to overlap. What is used afterwards are the embeddings alone: the mean of a text's word-piece vectors. In the released
code the starting point is a live reference to the parameters, so that the term is always 0; here it is a copy, as the paper
has it, and the pull stands apart from Adam's scaling, as AdamW's weight decay does. Dropout stands after the output layer in
the released code; here there is none, since it makes targets noisy.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.files import atomic_path
from rerank_core.types import Gold
from rerank_passages.claims.features import clean
from rerank_passages.claims.files import Article, Post

if TYPE_CHECKING:
    from rerank_lm.encoders import BiEncoder

Matrix = NDArray[np.float32]


def rouge2(claim: Sequence[int], sentence: Sequence[int]) -> tuple[float, float]:
    """Return ROUGE-2 (precision, recall) of a sentence against a claim, over word-piece ids."""
    a, b = Counter(itertools.pairwise(claim)), Counter(itertools.pairwise(sentence))
    common = sum((a & b).values())
    return common / max(1, sum(b.values())), common / max(1, sum(a.values()))


@dataclass(frozen=True)
class RougeParams:
    """Training settings; ``near`` is the share of the way back to the starting parameters taken after every step."""

    epochs: int = 2
    batch: int = 64
    rate: float = 5e-5
    near: float = 0.05
    pairs: int = 4000
    claim_tokens: int = 96
    sentence_tokens: int = 73


class RougeEncoder:
    """Mean of word-piece vectors, shape (vocabulary, d), scaled to unit length."""

    def __init__(self, table: Matrix, tokenizer: Any) -> None:
        self.table, self._tokenizer = table, tokenizer

    @classmethod
    def fit(
        cls, bert: BiEncoder, pairs: Sequence[tuple[str, str]], params: RougeParams | None = None, seed: int = 0
    ) -> RougeEncoder:
        """Train on (claim, sentence) pairs over any BERT-type bi-encoder; the encoder given is not changed.

        As in the released code, of pairs with the same target only the first counts: otherwise the many without any
        overlap drown the rest.
        """
        import copy

        import torch

        p = params or RougeParams()
        model = copy.deepcopy(bert.transformer.model).float()
        embeddings, layer = model.embeddings, model.encoder.layer[0]
        rows = _rows(bert.transformer.tokenizer, pairs, p)
        chosen = np.random.default_rng(seed).permutation(len(rows))[: p.pairs]
        torch.manual_seed(seed)
        head = torch.nn.Linear(model.config.hidden_size, 2, bias=False)
        trained = [*embeddings.parameters(), *layer.parameters()]
        start = [t.detach().clone() for t in trained]
        steps = max(1, p.epochs * -(-len(chosen) // p.batch))
        optimiser = torch.optim.Adam([*trained, *head.parameters()], lr=p.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        model.train(False)  # no dropout in the encoder either: the targets are exact
        for epoch in range(p.epochs):
            order = chosen[np.random.default_rng([seed, epoch]).permutation(len(chosen))]
            for at in range(0, len(order), p.batch):
                batch = [rows[i] for i in order[at : at + p.batch]]
                ids, types, mask, target = _padded(batch)
                states = embeddings(input_ids=ids, token_type_ids=types)
                out = layer(states, torch.where(mask[:, None, None], 0.0, -1e9))
                states = out[0] if isinstance(out, tuple) else out
                error = (torch.sigmoid(head(states[:, 0])) - target).square().mean()
                optimiser.zero_grad()
                error.backward()
                optimiser.step()
                pull = p.near * schedule.get_last_lr()[0] / p.rate
                with torch.no_grad():
                    for t, s in zip(trained, start, strict=True):
                        t.lerp_(s, min(1.0, pull))
                schedule.step()
        return cls(embeddings.word_embeddings.weight.detach().numpy().astype(np.float32), bert.transformer.tokenizer)

    @classmethod
    def untrained(cls, bert: BiEncoder) -> RougeEncoder:
        """Return the same encoder before training: the plain BERT's word-piece vectors."""
        table = bert.transformer.model.embeddings.word_embeddings.weight.detach().float().numpy()
        return cls(table.astype(np.float32), bert.transformer.tokenizer)

    def save(self, path: Path) -> None:
        """Write the word-piece vectors, in half precision."""
        with atomic_path(path) as part, part.open("wb") as file:
            np.savez_compressed(file, table=self.table.astype(np.float16))

    @classmethod
    def load(cls, path: Path, bert: BiEncoder) -> RougeEncoder:
        """Read what `save` wrote; the tokenizer is that of the encoder it was trained from."""
        with np.load(path, allow_pickle=False) as z:
            return cls(z["table"].astype(np.float32), bert.transformer.tokenizer)

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Return unit vectors, shape (n_texts, d); zeros for a text without word pieces."""
        out = np.zeros((len(texts), self.table.shape[1]), dtype=np.float32)
        for i, e in enumerate(self._tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            if e.ids:
                out[i] = self.table[e.ids].mean(axis=0)
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)


def training_pairs(posts: Sequence[Post], articles: Sequence[Article], gold: Gold) -> list[tuple[str, str]]:
    """Return every post with every sentence of the articles that answer it."""
    by_id = {a.id: a for a in articles}
    return [
        (clean(p.both), line)
        for p in posts
        for a in gold.get(p.id, {})
        if a in by_id
        for line in (by_id[a].headline, *by_id[a].sentences)
        if line
    ]


Row = tuple[list[int], list[int], tuple[float, float]]


def _rows(tokenizer: Any, pairs: Sequence[tuple[str, str]], p: RougeParams) -> list[Row]:
    claims = [e.ids for e in tokenizer.encode_batch([c for c, _ in pairs], add_special_tokens=False)]
    lines = [e.ids for e in tokenizer.encode_batch([s for _, s in pairs], add_special_tokens=False)]
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    rows: dict[tuple[float, float], Row] = {}
    for c, s in zip(claims, lines, strict=True):
        c, s = c[: p.claim_tokens], s[: p.sentence_tokens]
        target = rouge2(c, s)
        ids = [first, *c, last, *s, last]
        rows.setdefault(target, (ids, [0] * (len(c) + 2) + [1] * (len(s) + 1), target))
    return list(rows.values())


def _padded(batch: Sequence[Row]) -> tuple[Any, Any, Any, Any]:
    import torch

    width = max(len(ids) for ids, _, _ in batch)
    ids, types = np.zeros((len(batch), width), dtype=np.int64), np.zeros((len(batch), width), dtype=np.int64)
    mask = np.zeros((len(batch), width), dtype=bool)
    for i, (row, kinds, _) in enumerate(batch):
        ids[i, : len(row)], types[i, : len(row)], mask[i, : len(row)] = row, kinds, True
    target = torch.tensor([t for _, _, t in batch], dtype=torch.float32)
    return torch.from_numpy(ids), torch.from_numpy(types), torch.from_numpy(mask), target

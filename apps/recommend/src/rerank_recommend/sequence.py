"""CARE's expert: a sequential transformer over the entities mentioned, in order, on graph embeddings.

Source: arXiv 2508.13889. An entity's embedding is an RGCN layer's output (basis decomposition; Schlichtkrull et al.
2018) plus a learned position; self-attention; the last state's product with the item embeddings goes through a softmax;
cross-entropy on the items recommended next. The paper's sizes are not known to us: width 128, 2 layers, 2 heads,
dropout 0.1 and 32 entities are our defaults. Order comes from the text (`rerank_recommend.linking`), for the data sets
store sets. Relations are not told apart here (one relation and its inverse), so basis decomposition falls away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rerank_lm.threads import torch_threads
from rerank_recommend.data import Catalogue
from rerank_recommend.experts import Context, Log, Scores, State


@dataclass(frozen=True)
class TransformerParams:
    """Sizes and training of the entity transformer."""

    width: int = 128
    layers: int = 2
    heads: int = 2
    dropout: float = 0.1
    length: int = 32
    learning_rate: float = 1e-3
    batch: int = 64
    epochs: int = 12
    patience: int = 3


@dataclass(frozen=True)
class EntityTransformer:
    """The expert; trained on the CPU in minutes at the field's usual sizes."""

    name: str = "transformer"
    params: TransformerParams = field(default_factory=TransformerParams)
    seed: int = 0
    threads: int = 1
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)
    graph: Any = None
    item_rows: NDArray[np.int64] | None = None

    def fit(self, log: Log) -> EntityTransformer:
        """Train with early stopping on a tenth of the dialogues."""
        with torch_threads(self.threads):
            return self._fit(log)

    def _fit(self, log: Log) -> EntityTransformer:
        import torch

        torch.manual_seed(self.seed)
        graph = _normalised_graph(log)
        item_rows = log.catalogue.item_rows
        net = _net(len(log.catalogue.ids), item_rows, graph, self.params)
        pairs = [(c.rows, t) for c, ts in zip(log.contexts, log.targets, strict=True) for t in ts]
        owner = [d for d, ts in zip(log.dialogues, log.targets, strict=True) for _ in ts]
        rng = np.random.default_rng(self.seed)
        names = list(dict.fromkeys(owner))
        held = {names[i] for i in rng.permutation(len(names))[: max(1, len(names) // 10)]}
        train = [p for p, d in zip(pairs, owner, strict=True) if d not in held] or pairs
        valid = [p for p, d in zip(pairs, owner, strict=True) if d in held]
        best = _train(net, train, valid, self.params, rng)
        return replace(self, weights=best, graph=graph, item_rows=item_rows)

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return log-probabilities, shape (n_contexts, n_items), shifted so that the least likely item has 0."""
        import torch

        assert self.item_rows is not None
        net = _net(self.graph.shape[0], self.item_rows, self.graph, self.params)
        net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in self.weights.items()})
        net.eval()
        with torch.inference_mode():
            logits = [
                net(_batch([c.rows for c in contexts[i : i + 256]], self.params.length))
                for i in range(0, len(contexts), 256)
            ]
        if not logits:
            return np.empty((0, len(self.item_rows)), dtype=np.float32)
        scores = torch.log_softmax(torch.cat(logits), dim=1)
        return np.asarray((scores - scores.min(dim=1, keepdim=True).values).numpy(), dtype=np.float32)

    def state(self) -> State:
        """Return weights and graph."""
        return {"graph": self.graph, **{f"weight.{k}": v for k, v in self.weights.items()}}

    def restore(self, state: State, catalogue: Catalogue) -> EntityTransformer:
        """Take them back."""
        weights = {k.removeprefix("weight."): v for k, v in state.items() if k.startswith("weight.")}
        return replace(self, weights=weights, graph=state["graph"], item_rows=catalogue.item_rows)


def _normalised_graph(log: Log) -> Any:
    """Return the row-normalised adjacency; without a knowledge graph, entities mentioned in one turn are neighbours."""
    n = len(log.catalogue.ids)
    if log.graph is not None and len(log.graph):
        both = np.concatenate([log.graph, log.graph[:, ::-1]])
        a = sp.csr_matrix((np.ones(len(both), dtype=np.float32), (both[:, 0], both[:, 1])), shape=(n, n))
    else:
        a = (log.entity_matrix.T @ log.entity_matrix).tocsr().astype(np.float32)
        a.setdiag(0)
        a.eliminate_zeros()
    degree = np.maximum(np.asarray(a.sum(axis=1)).ravel(), 1.0)
    return sp.csr_matrix(sp.diags((1 / degree).astype(np.float32)) @ a).astype(np.float32)


def _batch(rows: Sequence[Sequence[int]], length: int) -> Any:
    """Return entity numbers + 1, padded in front with 0, shape (n, longest)."""
    import torch

    cut = [list(r)[-length:] for r in rows]
    longest = max((len(r) for r in cut), default=0) or 1
    return torch.tensor([[0] * (longest - len(r)) + [e + 1 for e in r] for r in cut], dtype=torch.long)


def _net(n_entities: int, item_rows: NDArray[np.int64], graph: Any, p: TransformerParams) -> Any:
    """Build the network; the graph is a constant of it."""
    import torch
    from torch import nn

    csr = graph.tocsr()
    adjacency = torch.sparse_csr_tensor(
        torch.from_numpy(csr.indptr.astype(np.int64)),
        torch.from_numpy(csr.indices.astype(np.int64)),
        torch.from_numpy(csr.data.astype(np.float32)),
        size=csr.shape,
    )

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.entity = nn.Embedding(n_entities, p.width)
            nn.init.normal_(self.entity.weight, std=0.05)
            self.neighbours = nn.Linear(p.width, p.width, bias=False)
            self.position = nn.Embedding(p.length + 1, p.width)
            nn.init.normal_(self.position.weight, std=0.05)
            self.empty = nn.Parameter(torch.zeros(p.width))
            layer = nn.TransformerEncoderLayer(
                p.width, p.heads, 2 * p.width, p.dropout, batch_first=True, norm_first=True
            )
            self.encoder = nn.TransformerEncoder(layer, p.layers, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(p.width)
            self.bias = nn.Parameter(torch.zeros(len(item_rows)))

        def table(self) -> Any:
            return self.entity.weight + self.neighbours(adjacency @ self.entity.weight)

        def forward(self, entities: Any) -> Any:
            table = self.table()
            padded = torch.cat([self.empty[None], table])
            n = entities.shape[1]
            place = torch.arange(n, 0, -1)  # counted from the end, where the newest entity is
            x = padded[entities] + self.position(place.clamp(max=p.length))
            hidden = self.encoder(x, src_key_padding_mask=None if n == 1 else (entities == 0) & (place > 1)[None])
            return self.norm(hidden[:, -1]) @ table[torch.from_numpy(item_rows)].T + self.bias

    return Net()


def _train(
    net: Any,
    train: Sequence[tuple[Sequence[int], int]],
    valid: Sequence[tuple[Sequence[int], int]],
    p: TransformerParams,
    rng: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """Train; return the weights of the epoch with the best recall at 10 on the held-out dialogues."""
    import torch

    optimizer = torch.optim.AdamW(net.parameters(), lr=p.learning_rate, weight_decay=0.01)
    best, best_recall, waited = _weights(net), -1.0, 0
    for _ in range(p.epochs):
        net.train()
        order = rng.permutation(len(train))
        for start in range(0, len(order), p.batch):
            part = [train[i] for i in order[start : start + p.batch]]
            logits = net(_batch([r for r, _ in part], p.length))
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([t for _, t in part]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        recall = _recall(net, valid, p)
        if recall > best_recall:
            best, best_recall, waited = _weights(net), recall, 0
        else:
            waited += 1
            if waited >= p.patience:
                break
    return best


def _weights(net: Any) -> dict[str, NDArray[Any]]:
    return {k: v.detach().numpy().copy() for k, v in net.state_dict().items()}


def _recall(net: Any, pairs: Sequence[tuple[Sequence[int], int]], p: TransformerParams, k: int = 10) -> float:
    import torch

    if not pairs:
        return 0.0
    net.eval()
    with torch.inference_mode():
        hits = 0
        for start in range(0, len(pairs), 256):
            part = pairs[start : start + 256]
            top = net(_batch([r for r, _ in part], p.length)).topk(min(k, len(net.bias)), dim=1).indices
            hits += int((top == torch.tensor([t for _, t in part])[:, None]).any(1).sum())
    return hits / len(pairs)

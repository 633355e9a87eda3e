"""Experts: things that score every item of the catalogue for a conversation, all behind one protocol.

An expert is fitted on a `Log` and then scores contexts; its fitted state is a dictionary of arrays, sparse matrices
and JSON values, so that a folder of safetensors and JSON holds it whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rerank_recommend.data import Catalogue, Reference, Turn, entity_rows, gold_columns
from rerank_recommend.linking import Linker

State: TypeAlias = dict[str, Any]
Scores: TypeAlias = NDArray[np.float32]

LAST_UTTERANCES = 6


@dataclass(frozen=True, slots=True)
class Context:
    """What an expert sees of a turn.

    Parameters
    ----------
    rows
        Entities mentioned so far, in order, repeats kept.
    text
        The last utterances.
    known
        Columns of items mentioned before, in order of first mention: what the user knows already.
    """

    rows: tuple[int, ...]
    text: str
    known: tuple[int, ...]
    n_utterances: int = 0
    last_rows: tuple[int, ...] = ()


def encode(turn: Turn, catalogue: Catalogue, linker: Linker, last: int = LAST_UTTERANCES) -> Context:
    """Turn a conversation into what experts see; entities are linked from the text where the file gives no order."""
    tail = list(turn.context[-2:])
    if turn.mentions is not None:
        rows = entity_rows(catalogue, turn.mentions)
    else:
        rows = linker.rows(turn.context)
    recent = set(linker.rows(tail)) if tail else set()
    known = dict.fromkeys(int(c) for c in catalogue.item_of[rows] if c >= 0) if rows else {}
    if turn.mentioned is not None:
        also = entity_rows(catalogue, turn.mentioned)
        known.update(dict.fromkeys(int(c) for c in catalogue.item_of[also] if c >= 0) if also else {})
    return Context(
        tuple(rows),
        "\n".join(turn.context[-last:]),
        tuple(known),
        len(turn.context),
        tuple(r for r in dict.fromkeys(rows) if r in recent),
    )


@dataclass(frozen=True)
class Log:
    """What experts learn from: contexts, the items then recommended, and the dialogues they belong to.

    Parameters
    ----------
    targets
        Item columns recommended at each context.
    graph
        Shape (n_edges, 2): pairs of entity rows that are linked in a knowledge graph, or None.
    """

    catalogue: Catalogue
    contexts: tuple[Context, ...]
    targets: tuple[tuple[int, ...], ...]
    dialogues: tuple[str, ...]
    graph: NDArray[np.int64] | None = None

    def take(self, indices: Iterable[int]) -> Log:
        """Return the log of some contexts."""
        keep = list(indices)
        return replace(
            self,
            contexts=tuple(self.contexts[i] for i in keep),
            targets=tuple(self.targets[i] for i in keep),
            dialogues=tuple(self.dialogues[i] for i in keep),
        )

    @cached_property
    def target_matrix(self) -> sp.csr_matrix:
        """Contexts by items, 1 where an item was recommended."""
        return indicator(self.targets, self.catalogue.n_items)

    @cached_property
    def entity_matrix(self) -> sp.csr_matrix:
        """Contexts by entities, 1 where an entity was mentioned."""
        return indicator([c.rows for c in self.contexts], len(self.catalogue.ids))

    @cached_property
    def user_items(self) -> sp.csr_matrix:
        """Dialogues by items, 1 where an item was mentioned or recommended: what collaborative filtering learns from."""
        index = {d: i for i, d in enumerate(dict.fromkeys(self.dialogues))}
        sets: list[set[int]] = [set() for _ in index]
        for d, context, target in zip(self.dialogues, self.contexts, self.targets, strict=True):
            sets[index[d]].update(context.known)
            sets[index[d]].update(target)
        return indicator([sorted(s) for s in sets], self.catalogue.n_items)

    @cached_property
    def popularity(self) -> NDArray[np.float64]:
        """How often each item was recommended, shape (n_items,)."""
        return np.asarray(self.target_matrix.sum(axis=0), dtype=np.float64).ravel()


def make_log(
    turns: Sequence[Turn],
    gold: Mapping[str, Sequence[Reference]],
    catalogue: Catalogue,
    linker: Linker,
    graph: NDArray[np.int64] | None = None,
) -> Log:
    """Encode training turns."""
    contexts = tuple(encode(t, catalogue, linker) for t in turns)
    targets = tuple(tuple(gold_columns(catalogue, gold.get(t.id, ()))) for t in turns)
    return Log(catalogue, contexts, targets, tuple(t.dialogue for t in turns), graph)


def indicator(rows: Sequence[Sequence[int]], n_columns: int, weights: Sequence[Sequence[float]] | None = None) -> Any:
    """Return a csr matrix with 1 (or the weight; repeats keep the largest) at each row's columns."""
    n = [len(r) for r in rows]
    indices = np.fromiter((c for r in rows for c in r), dtype=np.int64, count=sum(n))
    data = (
        np.ones(len(indices), dtype=np.float32)
        if weights is None
        else np.fromiter((w for r in weights for w in r), dtype=np.float32, count=sum(n))
    )
    owner = np.repeat(np.arange(len(rows)), n)
    if len(indices):
        order = np.lexsort((-data, indices, owner))
        owner, indices, data = owner[order], indices[order], data[order]
        fresh = np.ones(len(indices), dtype=bool)
        fresh[1:] = (owner[1:] != owner[:-1]) | (indices[1:] != indices[:-1])
        owner, indices, data = owner[fresh], indices[fresh], data[fresh]
    return sp.csr_matrix((data, (owner, indices)), shape=(len(rows), n_columns), dtype=np.float32)


def recency_matrix(rows: Sequence[Sequence[int]], n_columns: int, decay: float = 0.9) -> Any:
    """Return a csr matrix whose values fall with the distance from the end of each row's sequence."""
    weights = [[decay ** (len(r) - 1 - k) for k in range(len(r))] for r in rows]
    return indicator(rows, n_columns, weights)


class Expert(Protocol):
    """Something that scores all items for contexts; 0 everywhere means it knows nothing."""

    @property
    def name(self) -> str: ...

    def fit(self, log: Log) -> Expert: ...

    def score(self, contexts: Sequence[Context]) -> Scores: ...

    def state(self) -> State: ...

    def restore(self, state: State, catalogue: Catalogue) -> Expert: ...


def dense(matrix: Any) -> Scores:
    """Return a sparse or dense matrix as float32 array."""
    return np.asarray(matrix.toarray() if sp.issparse(matrix) else matrix, dtype=np.float32)


@dataclass(frozen=True)
class Popularity:
    """The most often recommended items, whatever the conversation."""

    name: str = "popularity"
    counts: NDArray[np.float32] | None = None

    def fit(self, log: Log) -> Popularity:
        """Count."""
        return replace(self, counts=np.log1p(log.popularity).astype(np.float32))

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return log(1 + count), shape (n_contexts, n_items)."""
        assert self.counts is not None
        return np.tile(self.counts, (len(contexts), 1))

    def state(self) -> State:
        """Return the counts."""
        return {"counts": self.counts}

    def restore(self, state: State, catalogue: Catalogue) -> Popularity:
        """Take the counts back."""
        return replace(self, counts=state["counts"])


@dataclass(frozen=True)
class CoOccurrence:
    """Item-item neighbours: cosine of the dialogues two items occur in, summed over the items known."""

    name: str = "co-occurrence"
    n_items: int = 0
    cosine: Any = None

    def fit(self, log: Log) -> CoOccurrence:
        """Count pairs and normalise; an item is not its own neighbour."""
        m = log.user_items
        pairs = (m.T @ m).tocsr().astype(np.float32)
        pairs.setdiag(0)
        pairs.eliminate_zeros()
        norm = 1 / np.sqrt(np.maximum(np.asarray(m.sum(axis=0)).ravel(), 1.0))
        cosine = sp.diags(norm) @ pairs @ sp.diags(norm)
        return replace(self, n_items=m.shape[1], cosine=cosine.tocsr().astype(np.float32))

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return the recency-weighted sum of cosines."""
        return dense(recency_matrix([c.known for c in contexts], self.n_items) @ self.cosine)

    def state(self) -> State:
        """Return the matrix."""
        return {"cosine": self.cosine}

    def restore(self, state: State, catalogue: Catalogue) -> CoOccurrence:
        """Take the matrix back."""
        return replace(self, n_items=catalogue.n_items, cosine=state["cosine"])


@dataclass(frozen=True)
class EntityTarget:
    """What was recommended after an entity was mentioned: shrunken P(item | entity), summed with the entity's idf.

    Parameters
    ----------
    recent
        Only the entities of the last utterances, which say what the user asks for now.
    shrink
        Pretended further mentions, against chance in rare entities.
    """

    name: str = "entity-target"
    recent: bool = False
    shrink: float = 3.0
    n_entities: int = 0
    weights: Any = None

    def _rows(self, contexts: Sequence[Context]) -> list[tuple[int, ...]]:
        return [c.last_rows if self.recent else c.rows for c in contexts]

    def fit(self, log: Log) -> EntityTarget:
        """Count (entity, target) pairs over turns."""
        n_entities = len(log.catalogue.ids)
        e = indicator(self._rows(log.contexts), n_entities)
        df = np.asarray(e.sum(axis=0)).ravel()
        idf = np.log((1 + e.shape[0]) / (1 + df))
        weights = sp.diags((idf / (df + self.shrink)).astype(np.float32)) @ (e.T @ log.target_matrix)
        return replace(self, n_entities=n_entities, weights=weights.tocsr().astype(np.float32))

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return the recency-weighted sum over mentioned entities."""
        return dense(recency_matrix(self._rows(contexts), self.n_entities) @ self.weights)

    def state(self) -> State:
        """Return the matrix."""
        return {"weights": self.weights}

    def restore(self, state: State, catalogue: Catalogue) -> EntityTarget:
        """Take the matrix back."""
        return replace(self, n_entities=len(catalogue.ids), weights=state["weights"])


@dataclass(frozen=True)
class GraphNeighbours:
    """Items that share neighbours with the mentioned entities in a knowledge graph, rare neighbours counting more.

    Parameters
    ----------
    power
        An item's score is divided by its profile's length to this power: 0 favours well-connected items, 1 is cosine.
    """

    name: str = "graph"
    power: float = 0.5
    n_entities: int = 0
    profiles: Any = None
    items: Any = None

    def fit(self, log: Log) -> GraphNeighbours:
        """Build idf-weighted profiles (neighbours and the entity itself)."""
        n = len(log.catalogue.ids)
        edges = log.graph if log.graph is not None else np.empty((0, 2), dtype=np.int64)
        both = np.concatenate([edges, edges[:, ::-1], np.repeat(np.arange(n)[:, None], 2, axis=1)])
        a = sp.csr_matrix((np.ones(len(both), dtype=np.float32), (both[:, 0], both[:, 1])), shape=(n, n))
        a.data[:] = 1.0
        degree = np.asarray(a.sum(axis=0)).ravel()
        idf = np.log(n / degree).astype(np.float32)
        profiles = (a @ sp.diags(np.sqrt(np.maximum(idf, 0.0)))).tocsr().astype(np.float32)
        return self._with(profiles, log.catalogue)

    def _with(self, profiles: Any, catalogue: Catalogue) -> GraphNeighbours:
        norm = np.sqrt(np.asarray(profiles.multiply(profiles).sum(axis=1)).ravel())
        scaled = sp.diags(1 / np.maximum(norm, 1e-6) ** self.power) @ profiles
        items = scaled.tocsr()[catalogue.item_rows].T.tocsr().astype(np.float32)
        return replace(self, n_entities=len(catalogue.ids), profiles=profiles, items=items)

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return the recency-weighted profile's product with every item's profile."""
        wanted = recency_matrix([c.rows for c in contexts], self.n_entities)
        return dense(wanted @ self.profiles @ self.items)

    def state(self) -> State:
        """Return the profiles."""
        return {"profiles": self.profiles}

    def restore(self, state: State, catalogue: Catalogue) -> GraphNeighbours:
        """Take the profiles back."""
        return self._with(state["profiles"], catalogue)

"""Rewritten training queries: an ambiguous query is made specific by a document that answers it.

Anand et al., "Context Aware Query Rewriting for Text Rankers using LLM", 2023: a language model rewrites every *training*
query given the query and a relevant document (of a long document, its best piece; the query alone makes it drift); the ranker
is fine-tuned on the rewritten queries, and test queries stay as they are, so that ranking costs nothing more. Offline, the
document's most telling terms stand in for the model.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rerank_core.cache import Store
from rerank_core.reranker import digest
from rerank_core.types import Gold
from rerank_passages.quite import QuiteParams, summarise, term_weights
from rerank_passages.text import STOPWORDS, stem, words


class Rewriter(Protocol):
    """Makes a query specific in the light of a relevant text."""

    @property
    def name(self) -> str: ...

    def __call__(self, query: str, text: str) -> str: ...


@dataclass(frozen=True)
class ByTerms:
    """Appends the text's ``n`` most telling terms (tf-idf over a collection) to the query: an offline stand-in."""

    df: Mapping[str, int]
    size: int
    n: int = 4

    @classmethod
    def over(cls, texts: Sequence[str], n: int = 4) -> ByTerms:
        """Count the terms of a collection."""
        return cls(Counter(t for text in texts for t in {stem(w) for w in words(text)}), len(texts), n)

    @property
    def name(self) -> str:
        """Name and size, for the cache."""
        return f"terms-{self.n}"

    def __call__(self, query: str, text: str) -> str:
        """Return the query with the terms it lacks."""
        known = {stem(w) for w in words(query)}
        tf = Counter(w for w in words(text) if w not in STOPWORDS and stem(w) not in known and not w.isdigit())
        rated = {w: (1 + math.log(f)) * math.log(1 + self.size / (1 + self.df.get(stem(w), 0))) for w, f in tf.items()}
        added: dict[str, str] = {}
        for w in sorted(rated, key=lambda w: (-rated[w], w)):
            added.setdefault(stem(w), w)
        return " ".join([query, *list(added.values())[: self.n]])


PROMPT = (
    "Rewrite the query so that it asks clearly for what the text answers. Keep it short, do not answer it, and write the "
    "query only.\nText: {text}\nQuery: {query}\nRewritten query:"
)


@dataclass(frozen=True)
class ByModel:
    """Rewrites with a language model; an empty answer or one of over ``longest`` words leaves the query as it is.

    Parameters
    ----------
    generate
        ``generate(prompt) -> text``.
    model
        The model's name, for the cache.
    """

    generate: Callable[[str], str]
    model: str
    longest: int = 40

    @property
    def name(self) -> str:
        """The model's name and the prompt's digest."""
        return digest("rewrite", self.model, PROMPT, self.longest)

    def __call__(self, query: str, text: str) -> str:
        """Return the rewritten query."""
        lines = self.generate(PROMPT.replace("{text}", text).replace("{query}", query)).strip().splitlines()
        answer = " ".join(lines[0].split()).strip("\"' ") if lines else ""
        return answer if answer and len(answer.split()) <= self.longest else query


@dataclass(frozen=True)
class TrainingPair:
    """A rewritten query with the passage that it was rewritten for."""

    query_id: str
    query: str
    passage_id: str


def rewrite_queries(
    queries: Mapping[str, str],
    gold: Gold,
    passages: Mapping[str, str],
    rewriter: Rewriter,
    *,
    cache: Store | None = None,
    words_read: int = 120,
) -> list[TrainingPair]:
    """Rewrite training queries, once for each of their relevant passages.

    Parameters
    ----------
    gold
        Query id -> passage id -> gain; only gains above 0 count. Training queries only: test queries are never rewritten.
    words_read
        Words of a passage that the rewriter sees; of a longer one, the sentences nearest to the query.
    """
    out = []
    for qid, query in queries.items():
        for pid, gain in sorted(gold.get(qid, {}).items()):
            if gain <= 0 or pid not in passages:
                continue
            weights = term_weights(query, [passages[pid]])
            piece = summarise(passages[pid], weights, QuiteParams(words=words_read))
            key = digest("rewritten", rewriter.name, query, piece)
            kept = cache.get(key) if cache is not None else None
            new = kept.decode("utf-8") if kept is not None else rewriter(query, piece)
            if cache is not None and kept is None:
                cache.put(key, new.encode("utf-8"))
            out.append(TrainingPair(qid, new, pid))
    return out

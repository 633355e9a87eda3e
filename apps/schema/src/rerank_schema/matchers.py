"""The named matchers."""

from __future__ import annotations

from collections.abc import Sequence

from rerank_core.reranker import digest
from rerank_schema.encode import Encoder
from rerank_schema.lexical import split_name
from rerank_schema.magneto import MagnetoParams, match
from rerank_schema.scored import Scored, from_pairs
from rerank_schema.tables import Column


class Magneto:
    """Magneto as a matcher; see [`rerank_schema.magneto`][]."""

    def __init__(self, encoder: Encoder, params: MagnetoParams = MagnetoParams(), name: str = "magneto") -> None:
        self.encoder, self.params, self.name = encoder, params, name

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("magneto", self.params, self.encoder.fingerprint())

    def score(self, sources: Sequence[Column], targets: Sequence[Column]) -> Scored:
        """Score candidate pairs; all others are NaN."""
        return from_pairs(match(sources, targets, self.encoder, self.params), len(sources), len(targets))


class Header:
    """Baseline: similarity of the names alone (RapidFuzz's ratio of the split names)."""

    name = "header"

    def fingerprint(self) -> str:
        """Return the configuration's digest."""
        return digest("header")

    def score(self, sources: Sequence[Column], targets: Sequence[Column]) -> Scored:
        """Score all pairs."""
        import numpy as np
        from rapidfuzz import fuzz, process

        left, right = [split_name(c.name) for c in sources], [split_name(c.name) for c in targets]
        if not left or not right:
            return Scored(np.zeros((len(left), len(right)), dtype=np.float32))
        return Scored(process.cdist(left, right, scorer=fuzz.ratio, dtype=np.float32) / 100)

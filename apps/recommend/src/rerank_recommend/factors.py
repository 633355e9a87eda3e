"""Collaborative filtering by matrix factorisation, through `implicit`: ALS with fold-in, BPR as item-item cosine.

Sources: Hu, Koren, Volinsky (ICDM 2008); Rendle et al. (UAI 2009). A conversation's user is new to the model: ALS
solves for the user's factors exactly as training does; BPR cannot, so its item vectors serve as neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_recommend.data import Catalogue
from rerank_recommend.experts import Context, Log, Scores, State, indicator


def _one_blas_thread() -> Any:
    """Give a context in which BLAS has one thread: implicit warns, and crawls, where OpenBLAS keeps its own."""
    import implicit.cpu.als  # noqa: F401  (limits reach only the libraries that are loaded)
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")


@dataclass(frozen=True)
class ALS:
    """Alternating least squares; the known items' fold-in scores all items.

    Parameters
    ----------
    factors, regularization, alpha, iterations
        As `implicit` names them; alpha weighs a known item over an unknown one.
    """

    name: str = "als"
    factors: int = 64
    regularization: float = 0.05
    alpha: float = 10.0
    iterations: int = 15
    seed: int = 0
    threads: int = 1
    item_factors: NDArray[np.float32] | None = None

    def _model(self) -> Any:
        from implicit.cpu.als import AlternatingLeastSquares

        return AlternatingLeastSquares(
            factors=self.factors,
            regularization=self.regularization,
            alpha=self.alpha,
            iterations=self.iterations,
            random_state=self.seed,
            num_threads=self.threads,
        )

    def fit(self, log: Log) -> ALS:
        """Factorise dialogues by items."""
        return self.fit_matrix(log.user_items)

    def fit_matrix(self, user_items: Any) -> ALS:
        """Factorise a csr matrix of users by items."""
        with _one_blas_thread():
            model = self._model()
            model.fit(user_items.astype(np.float32), show_progress=False)
        return replace(self, item_factors=np.asarray(model.item_factors, dtype=np.float32))

    @cached_property
    def _solver(self) -> Any:
        """Return a model that folds users in; it keeps the items' Gram matrix, the costly part, between calls."""
        with _one_blas_thread():
            model = self._model()
            model.item_factors = self.item_factors
            _ = model.YtY
        return model

    def users(self, known: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return factors of users who know these items, shape (n_users, factors); zeros for one who knows none."""
        assert self.item_factors is not None
        matrix = indicator(known, len(self.item_factors))
        return np.asarray(self._solver.recalculate_user(np.arange(len(known)), matrix), dtype=np.float32)

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return user times item factors."""
        assert self.item_factors is not None
        users = self.users([c.known for c in contexts])
        if len(users) == 1:  # a matrix times a vector is several times faster than a thin matrix times a matrix
            return (self.item_factors @ users[0])[None]
        return users @ self.item_factors.T

    def state(self) -> State:
        """Return the item factors."""
        return {"item_factors": self.item_factors}

    def restore(self, state: State, catalogue: Catalogue) -> ALS:
        """Take the item factors back."""
        factors = state["item_factors"]
        return replace(self, factors=factors.shape[1], item_factors=factors)


@dataclass(frozen=True)
class BPR:
    """Bayesian personalised ranking; scores are cosines with the known items' vectors, without the bias column."""

    name: str = "bpr"
    factors: int = 64
    iterations: int = 100
    seed: int = 0
    vectors: NDArray[np.float32] | None = None

    def fit(self, log: Log) -> BPR:
        """Train on dialogues by items, in one thread so that a seed gives one result."""
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        with _one_blas_thread():
            model = BayesianPersonalizedRanking(
                factors=self.factors, iterations=self.iterations, random_state=self.seed, num_threads=1
            )
            model.fit(log.user_items.astype(np.float32), show_progress=False)
        vectors = np.asarray(model.item_factors, dtype=np.float32)[:, : self.factors]
        norm = np.linalg.norm(vectors, axis=1, keepdims=True)
        return replace(self, vectors=vectors / np.maximum(norm, 1e-9))

    def score(self, contexts: Sequence[Context]) -> Scores:
        """Return the mean cosine with the known items."""
        assert self.vectors is not None
        known = indicator([c.known for c in contexts], len(self.vectors))
        count = np.maximum(np.asarray(known.sum(axis=1)), 1.0)
        return np.asarray((known @ self.vectors) / count @ self.vectors.T, dtype=np.float32)

    def state(self) -> State:
        """Return the vectors."""
        return {"vectors": self.vectors}

    def restore(self, state: State, catalogue: Catalogue) -> BPR:
        """Take the vectors back."""
        return replace(self, vectors=state["vectors"])

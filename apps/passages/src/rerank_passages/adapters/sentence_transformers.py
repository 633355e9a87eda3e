"""A sentence-transformers evaluator (extra ``rerank-passages[sentence-transformers]``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_core.errors import require
from rerank_core.measures import evaluate, parse
from rerank_core.types import Dataset, Ranking

require("sentence_transformers", "rerank-passages[sentence-transformers]", "the sentence-transformers adapter")

from sentence_transformers.evaluation import SentenceEvaluator  # noqa: E402 - after the check, so that its absence is one clear line


class RerankEvaluator(SentenceEvaluator):
    """Judges a ``CrossEncoder`` (or anything with ``predict(pairs)``) on a dataset of this project while it trains.

    Parameters
    ----------
    measures
        The first one is the primary metric.
    """

    def __init__(
        self, dataset: Dataset[str, str], measures: Sequence[str] = ("nDCG@10", "MRR@10"), name: str = "rerank"
    ) -> None:
        super().__init__()
        self.dataset, self.measures, self.name = dataset, [parse(m) for m in measures], name
        self.primary_metric = f"{name}_{self.measures[0].name}"

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return metric name -> value."""
        requests = self.dataset.requests
        pairs = [(r.query, c.content) for r in requests for c in r.candidates]
        scores = iter(model.predict(pairs, show_progress_bar=False))
        rankings = [Ranking.from_scores(r, [float(next(scores)) for _ in r.candidates]) for r in requests]
        rows = evaluate(self.measures, self.dataset.gold, rankings, requests, system=self.name, n_boot=0)
        return {f"{self.name}_{row.measure}": row.value for row in rows}

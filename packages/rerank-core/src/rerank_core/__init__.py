"""Values, rerankers, strategies, fusion, learning to rank, measures and runs for reranking in any domain.

The central values are importable from here; everything heavier is imported from its own module when needed.
"""

from rerank_core.budget import Budget
from rerank_core.reranker import Chain, FirstStage, Fuse, Reranker, Scores, Top
from rerank_core.types import Candidate, Cost, Dataset, Gold, Ranked, Ranking, Request, Status

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "Candidate",
    "Chain",
    "Cost",
    "Dataset",
    "FirstStage",
    "Fuse",
    "Gold",
    "Ranked",
    "Ranking",
    "Request",
    "Reranker",
    "Scores",
    "Status",
    "Top",
]

"""The field's official measures for passages: trec_eval's, with nDCG@10 first."""

from __future__ import annotations

from rerank_core.measures import Measure, parse

OFFICIAL: tuple[Measure, ...] = tuple(parse(m) for m in ("nDCG@10", "MRR@10", "MAP@100", "Recall@100"))

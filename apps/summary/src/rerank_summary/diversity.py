"""Does a summary keep to its plan, and how different are the candidates of a list?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from rerank_core.types import FloatArray
from rerank_summary.plans import greedy_plan
from rerank_summary.text import words


def adherence(plan: Sequence[int], units: Sequence[str], summary: str, *, official: bool = False) -> dict[str, float]:
    """Precision, recall and F1 between a given plan and the plan the summary implies.

    The implied plan is the greedy one of the summary over the source units (Adams et al. 2023, section 6).
    """
    implied, _ = greedy_plan(units, summary, official=official)
    hits = len(set(plan) & set(implied))
    p, r = (hits / len(implied) if implied else 0.0), (hits / len(set(plan)) if plan else 0.0)
    return {"precision": p, "recall": r, "f1": 2 * p * r / (p + r) if p + r else 0.0}


def bleu(hypothesis: Sequence[str], references: Sequence[Sequence[str]], order: int = 4) -> float:
    """Sentence BLEU against several references (Papineni et al. 2002), 0 to 1.

    Orders above 1 are smoothed by adding one to hits and total (Lin and Och 2004), so that a short text is not 0.
    """
    if not hypothesis or not references:
        return 0.0
    logs = []
    for n in range(1, order + 1):
        grams = _ngrams(hypothesis, n)
        limit: Counter[tuple[str, ...]] = Counter()
        for reference in references:
            limit |= _ngrams(reference, n)
        hits, total = sum((grams & limit).values()), grams.total()
        if n > 1:
            hits, total = hits + 1, total + 1
        if not hits:
            return 0.0
        logs.append(math.log(hits / total))
    size = len(hypothesis)
    closest = min((len(r) for r in references), key=lambda x: (abs(x - size), x))
    return math.exp(sum(logs) / order + min(0.0, 1 - closest / size))


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def diversity(texts: Sequence[str]) -> float:
    """Mean over candidates of 1 - BLEU-4 against all the others, lower-case words; 0 for a list of one."""
    tokens = [words(t) for t in texts]
    if len(tokens) < 2:
        return 0.0
    return float(np.mean([1 - bleu(t, tokens[:i] + tokens[i + 1 :]) for i, t in enumerate(tokens)]))


def quality_curve(qualities: Sequence[Sequence[float]]) -> dict[str, FloatArray | float]:
    """Per place in the candidate list: mean quality; and of each list the mean, lowest, highest and best place.

    Parameters
    ----------
    qualities
        One sequence a document, in candidate order, for example ROUGE-1 F1.
    """
    width = max((len(q) for q in qualities), default=0)
    table = np.full((len(qualities), width), np.nan)
    for row, values in zip(table, qualities, strict=True):
        row[: len(values)] = values
    held = [np.asarray(q, dtype=np.float64) for q in qualities if len(q)]
    if not held:
        return {"curve": np.zeros(0), "mean": math.nan, "min": math.nan, "max": math.nan, "best_place": math.nan}
    return {
        "curve": np.nanmean(table, axis=0),
        "mean": float(np.mean([q.mean() for q in held])),
        "min": float(np.mean([q.min() for q in held])),
        "max": float(np.mean([q.max() for q in held])),
        "best_place": float(np.mean([int(q.argmax()) + 1 for q in held])),
    }


def plan_report(
    sources: Sequence[Sequence[str]],
    plans: Sequence[Sequence[Sequence[int]]],
    candidates: Sequence[Sequence[str]],
) -> Mapping[str, float]:
    """Adherence, diversity and plan statistics over documents.

    Parameters
    ----------
    sources, plans, candidates
        Units, plans and summaries of each document; one summary a plan.
    """
    scores = [
        adherence(p, units, text)
        for units, ps, texts in zip(sources, plans, candidates, strict=True)
        for p, text in zip(ps, texts, strict=True)
    ]
    unique = [len(set(map(tuple, ps))) / len(ps) for ps in plans if len(ps)]
    out = {
        f"adherence_{k}": float(np.mean([s[k] for s in scores])) if scores else math.nan
        for k in ("precision", "recall", "f1")
    }
    out["diversity"] = float(np.mean([diversity(t) for t in candidates])) if candidates else math.nan
    out["unique_plans"] = float(np.mean(unique)) if unique else math.nan
    out["units_a_plan"] = float(np.mean([len(p) for ps in plans for p in ps])) if scores else math.nan
    return out

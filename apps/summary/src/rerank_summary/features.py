"""Numbers that describe a candidate against its source and its fellow candidates; no reference is ever read.

Coverage, density and compression follow M. Grusky et al., "Newsroom", NAACL 2018, section 4 (extractive fragments).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rerank_core.types import FloatArray
from rerank_summary.centrality import candidate_lexrank, idf, tfidf
from rerank_summary.lists import CandidateList, exact, mean_with_others
from rerank_summary.text import capitalised, numbers, pieces, sentences


def fragments(source: Sequence[str], summary: Sequence[str]) -> list[int]:
    """Lengths of the extractive fragments: greedily the longest source match from each summary position on."""
    where: dict[str, list[int]] = {}
    for i, token in enumerate(source):
        where.setdefault(token, []).append(i)
    lengths, at = [], 0
    while at < len(summary):
        best = 0
        for start in where.get(summary[at], ()):
            run = 0
            while at + run < len(summary) and start + run < len(source) and summary[at + run] == source[start + run]:
                run += 1
            best = max(best, run)
        if best:
            lengths.append(best)
        at += max(best, 1)
    return lengths


def novelty(source: Sequence[str], summary: Sequence[str], n: int) -> float:
    """Share of the summary's n-grams that the source does not have; 0 for a summary without any."""
    have = set(zip(*(source[i:] for i in range(n)), strict=False))
    grams = list(zip(*(summary[i:] for i in range(n)), strict=False))
    return sum(g not in have for g in grams) / len(grams) if grams else 0.0


def repetition(tokens: Sequence[str], n: int = 3) -> float:
    """Share of n-grams that occurred before in the same text."""
    grams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def unsupported(summary: frozenset[str], source: frozenset[str]) -> float:
    """Share of the summary's items (numbers, names) that the source lacks; 0 where it has none."""
    return len(summary - source) / len(summary) if summary else 0.0


def _source_features(items: CandidateList) -> dict[str, FloatArray]:
    source = items.source_tokens
    one, two = items.overlap(source, 1), items.overlap(source, 2)
    lead1, lead2 = items.overlap(items.lead_tokens(3), 1), items.overlap(items.lead_tokens(3), 2)
    runs = [fragments(source, t) for t in items.tokens]
    size = np.maximum(items.lengths, 1)
    return {
        "lead_r1": lead1[:, 2],
        "lead_r1_precision": lead1[:, 0],
        "lead_r1_recall": lead1[:, 1],
        "lead_r2": lead2[:, 2],
        "source_r1_precision": one[:, 0],
        "source_r2_precision": two[:, 0],
        "source_r2_recall": two[:, 1],
        "coverage": np.array([sum(r) for r in runs]) / size,
        "density": np.array([sum(x * x for x in r) for r in runs]) / size,
        "compression": len(source) / size,
        "novel_1": np.array([novelty(source, t, 1) for t in items.tokens]),
        "novel_2": np.array([novelty(source, t, 2) for t in items.tokens]),
        "novel_3": np.array([novelty(source, t, 3) for t in items.tokens]),
        "source_tfidf": _source_tfidf(items),
        **_positions(items),
    }


def _source_tfidf(items: CandidateList) -> FloatArray:
    units = [items.tokenise(s) for s in items.source_sentences]
    weights = idf([*units, *items.tokens])
    vectors = tfidf([items.source_tokens, *items.tokens], weights)
    return exact(vectors[1:] @ vectors[0])


def _positions(items: CandidateList) -> dict[str, FloatArray]:
    """Where in the source a candidate's sentences come from, and how central those sentences are there."""
    units = [items.tokenise(s) for s in items.source_sentences]
    n = len(items.texts)
    mean, first, central = np.ones(n), np.ones(n), np.zeros(n)
    if units:
        weights = idf(units)
        base = tfidf(units, weights)
        salience = candidate_lexrank(units) * len(units)
        for i, text in enumerate(items.texts):
            own = tfidf([items.tokenise(s) for s in sentences(text)], weights)
            if len(own):
                best = (own @ base.T).argmax(1)
                mean[i], first[i] = best.mean() / len(units), best.min() / len(units)
                central[i] = salience[best].mean()
    return {"position_mean": mean, "position_first": first, "salience": exact(central)}


def _list_features(items: CandidateList) -> dict[str, FloatArray]:
    m = items.matrices
    lengths = items.lengths
    spread = lengths.std()
    median = np.median(lengths) if len(lengths) else 1.0
    one, two, long = (mean_with_others(m[k]) for k in ("rouge1", "rouge2", "rougeL"))
    return {
        "mbr_r1": one,
        "mbr_r2": two,
        "mbr_rl": long,
        "mbr_mean": exact((one + two + long) / 3),
        "lexrank": candidate_lexrank(items.tokens) * max(len(items.texts), 1),
        "length": lengths,
        "length_z": (lengths - lengths.mean()) / spread if spread > 0 else np.zeros_like(lengths),
        "length_to_median": lengths / max(float(median), 1.0),
        "copies": np.array([items.texts.count(t) for t in items.texts], dtype=np.float64),
    }


def _own_features(items: CandidateList) -> dict[str, FloatArray]:
    source_numbers, source_words = numbers(items.source), pieces(items.source)
    cut = [sentences(t) for t in items.texts]
    return {
        "sentences": np.array([len(s) for s in cut], dtype=np.float64),
        "words_per_sentence": items.lengths / np.maximum([len(s) for s in cut], 1),
        "repetition_2": np.array([repetition(t, 2) for t in items.tokens]),
        "repetition_3": np.array([repetition(t, 3) for t in items.tokens]),
        "finished": np.array([float(t.rstrip().endswith((".", "!", "?", '"', "'", "”"))) for t in items.texts]),
        "unsupported_numbers": np.array([unsupported(numbers(t), source_numbers) for t in items.texts]),
        "unsupported_names": np.array([unsupported(capitalised(t), source_words) for t in items.texts]),
        "odd_tokens": np.array([sum(not w[:1].isalnum() for w in t.split()) for t in items.texts])
        / np.maximum(items.lengths, 1),
    }


def features(items: CandidateList, first_stage: FloatArray | None = None) -> dict[str, FloatArray]:
    """All features of one candidate list, name -> shape (n_candidates,), finite.

    Parameters
    ----------
    first_stage
        First-stage scores where the file gives any (generator log-probabilities); adds ``first_stage_z``.
    """
    out = {**_source_features(items), **_list_features(items), **_own_features(items)}
    score = np.zeros(len(items.texts)) if first_stage is None else np.asarray(first_stage, dtype=np.float64)
    spread = score.std() if len(score) else 0.0
    out["first_stage_z"] = (score - score.mean()) / spread if spread > 0 else np.zeros_like(score)
    return out


def faithfulness(table: dict[str, FloatArray]) -> FloatArray:
    """A plain faithfulness score: bigram precision to the source minus what the source does not support.

    Ours: ``source_r2_precision - (unsupported_numbers + unsupported_names) / 2 - repetition_3``; higher is better.
    """
    return exact(
        table["source_r2_precision"]
        - (table["unsupported_numbers"] + table["unsupported_names"]) / 2
        - table["repetition_3"]
    )

"""MM-R5's rewards (arXiv 2506.12364): where the positives stand, and whether the format is kept."""

from __future__ import annotations

import re

from rerank_lm.rewards._window import Gold, answer_of


def _ids(text: str) -> list[int] | None:
    answer = answer_of(text)
    if answer is None:
        return None
    match = re.search(r"\[(.*?)\]", answer, flags=re.DOTALL)
    if match is None:
        return None
    pieces = [p.strip() for p in match.group(1).split(",")]
    return [int(p) for p in pieces if p.isdecimal() and len(p) <= 6]


def mm_r5_rank(text: str, gold: Gold, *, official: bool = False) -> float:
    """``sum_(p positive) rank(p)^-3 / sum_(i <= |P|) i^-3``; a positive that is not listed gives 0.

    Repeated ids count once, at their first place (``official``: as listed, so a repeat pushes the rest down).
    """
    ids = _ids(text)
    positives = gold.positives
    if ids is None or not positives:
        return 0.0
    listed = ids if official else list(dict.fromkeys(ids))
    places = {p: listed.index(p + 1) + 1 for p in positives if p + 1 in listed}
    best = sum(i**-3 for i in range(1, len(positives) + 1))
    return float(sum(r**-3 for r in places.values()) / best)


def mm_r5_format(text: str, gold: Gold, *, official: bool = False) -> float:
    """``[(n - | |ids| - n |) / n] x (share of the ids in 1..n)``, 0 without the format, never below 0.

    Neither released reward minds repeats: ``[1, 1, 1]`` scores full format for n = 3. Ours counts distinct ids in
    range; ``official`` counts all.
    """
    ids, n = _ids(text), gold.n
    if not ids or n == 0:
        return 0.0
    length = (n - abs(len(ids) - n)) / n
    good = [i for i in ids if 1 <= i <= n]
    share = (len(good) if official else len(set(good))) / len(ids)
    return float(max(0.0, length) * share)


def mm_r5(text: str, gold: Gold, *, official: bool = False) -> float:
    """Rank and format reward together, as they are summed in training."""
    return mm_r5_rank(text, gold, official=official) + mm_r5_format(text, gold, official=official)

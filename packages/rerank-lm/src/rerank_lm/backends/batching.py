"""Cutting work into batches: by length, within a token budget, and by common beginning."""

from __future__ import annotations

from collections.abc import Sequence


def by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Return positions in batches of similar length whose padded size stays within ``budget`` tokens.

    Longest first, so that a batch that does not fit in memory fails at once; a single item may exceed the budget.
    """
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batches and lengths[batches[-1][0]] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many leading entries two sequences share."""
    n = min(len(a), len(b))
    for i in range(n):
        if a[i] != b[i]:
            return i
    return n


def by_prefix(
    sequences: Sequence[Sequence[int]], *, least: int = 24, share: float = 0.2
) -> list[tuple[int, list[int]]]:
    """Group consecutive sequences that begin alike.

    Returns
    -------
    Pairs of (prefix length, positions). The prefix is 0 where sharing would not pay: fewer than ``least`` tokens, less
    than ``share`` of the group's tokens, or fewer than three members. At least one token of every member stays
    outside the prefix.
    """
    groups: list[tuple[int, list[int]]] = []
    for i, sequence in enumerate(sequences):
        if groups:
            prefix, members = groups[-1]
            shared = min(common_prefix(sequences[members[0]], sequence), prefix, len(sequence) - 1)
            if (shared >= least and shared >= 0.6 * prefix) or (len(members) == 1 and shared >= least):
                groups[-1] = (shared, [*members, i])
                continue
        groups.append((len(sequence) - 1, [i]))
    out: list[tuple[int, list[int]]] = []
    for prefix, members in groups:
        total = sum(len(sequences[i]) for i in members)
        pays = len(members) >= 3 and prefix >= least and prefix * len(members) >= share * total
        if pays:
            out.append((prefix, members))
        elif out and out[-1][0] == 0:
            out[-1][1].extend(members)
        else:
            out.append((0, list(members)))
    return out

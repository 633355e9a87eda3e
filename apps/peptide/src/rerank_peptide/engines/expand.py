"""Mass-preserving neighbours of candidates: swaps, reversals and isobaric replacements, scored by the spectrum.

Engines get prefixes right and runs of missing ions wrong. Rewriting one to three residues at a time without changing
the peptide's mass raises the share of spectra whose list holds the true peptide, at no model call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np

from rerank_peptide.masses import TOKEN_MASSES, fold, is_terminal
from rerank_peptide.spectra import Spectrum

_ALPHABET: Final = tuple(t for t in TOKEN_MASSES if not is_terminal(t) and t not in {"I", "N+0.984", "Q+0.984"})


@lru_cache(maxsize=1)
def _by_mass() -> tuple[np.ndarray, list[tuple[str, ...]]]:
    blocks: list[tuple[str, ...]] = [(t,) for t in _ALPHABET]
    blocks += list(product(_ALPHABET, repeat=2))
    masses = np.array([sum(TOKEN_MASSES[t] for t in b) for b in blocks])
    order = np.argsort(masses, kind="stable")
    return masses[order], [blocks[i] for i in order]


def _equal(block: Sequence[str], tolerance: float) -> Iterator[tuple[str, ...]]:
    masses, blocks = _by_mass()
    try:
        mass = sum(TOKEN_MASSES[t] for t in block)
    except KeyError:  # a modification outside the alphabet stays where it is
        return
    low, high = np.searchsorted(masses, [mass - tolerance, mass + tolerance])
    yield from (blocks[i] for i in range(low, high))


def neighbours(tokens: Sequence[str], tolerance: float = 0.02) -> list[tuple[str, ...]]:
    """Return the peptides that differ in one block and weigh the same.

    Parameters
    ----------
    tokens
        A peptide; a terminal modification stays.
    tolerance
        Largest change of mass in Da.

    Returns
    -------
    Distinct peptides without the given one: every block of one or two residues replaced by one or two others of equal
    mass (adjacent swaps among them), and every reversal of three residues.
    """
    head = tuple(tokens[:1]) if is_terminal(tokens[0]) else ()
    body = tuple(tokens[len(head) :])
    seen = {fold(tokens)}
    out: list[tuple[str, ...]] = []

    def add(candidate: tuple[str, ...]) -> None:
        key = fold(candidate)
        if key not in seen:
            seen.add(key)
            out.append(candidate)

    for size in (1, 2):
        for at in range(len(body) - size + 1):
            for block in _equal(body[at : at + size], tolerance):
                add((*head, *body[:at], *block, *body[at + size :]))
    for at in range(len(body) - 2):
        add((*head, *body[:at], *body[at : at + 3][::-1], *body[at + 3 :]))
    return out


def expand_list(
    spectrum: Spectrum, hits: Sequence[tuple[tuple[str, ...], float]], n: int, seeds: int = 3
) -> list[tuple[tuple[str, ...], float]]:
    """Add to a list its ``n`` best new neighbours of the first ``seeds`` candidates.

    Neighbours are chosen by the features of complete peptides; in the list they follow the engine's own candidates,
    whose order and scores stay.
    """
    from rerank_peptide.features import complete_scores

    known = {fold(t) for t, _ in hits}
    new: dict[str, tuple[str, ...]] = {}
    for tokens, _ in hits[:seeds]:
        for candidate in neighbours(tokens):
            key = fold(candidate)
            if key not in known:
                new.setdefault(key, candidate)
    if not new:
        return list(hits)
    peptides = list(new.values())
    scores = complete_scores(spectrum, peptides, np.zeros(len(peptides)))
    order = np.argsort(-scores, kind="stable")[:n]
    floor = min((s for _, s in hits), default=0.0)
    step = 1e-6 * max(abs(floor), 1.0)
    return [*hits, *((peptides[i], floor - step * (k + 1)) for k, i in enumerate(order))]

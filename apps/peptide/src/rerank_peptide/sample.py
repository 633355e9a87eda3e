"""The embedded sample: spectra simulated from textbook proteins, candidates from the graph engine."""

from __future__ import annotations

import random
from typing import Final

from rerank_core.types import Candidate, Dataset, Request
from rerank_peptide.data import Peptide, PeptideRequest, gold_of
from rerank_peptide.masses import to_proforma
from rerank_peptide.proteins import TEXTBOOK, digest, modify
from rerank_peptide.simulate import simulate
from rerank_peptide.spectra import Spectrum

N_SPECTRA: Final = 60


def sample(seed: int = 0, n: int = N_SPECTRA, top: int = 20) -> Dataset[Spectrum, Peptide]:
    """Simulate ``n`` spectra and sequence them; the same for the same seed.

    A spectrum's candidates come in the graph search's own path order, before features see them: that is the first
    stage to improve on.
    """
    from rerank_peptide.engines.graph import GraphParams, paths

    pairs = digest(TEXTBOOK.items(), missed=1, shortest=7, longest=16)
    rng = random.Random(seed)
    chosen = rng.sample(pairs, n)
    spectra, labels = simulate(modify([p for p, _ in chosen], rng), seed=seed)
    params = GraphParams(paths=top)
    requests: list[PeptideRequest] = []
    for spectrum in spectra:
        found = paths(spectrum, params)
        candidates = tuple(
            Candidate(to_proforma(t), t, s, {"rank:graph": float(i)}) for i, (t, s) in enumerate(found, 1)
        )
        requests.append(Request(spectrum.id, spectrum, candidates))
    gold = gold_of(requests, labels)
    return Dataset(requests, gold, {r.id: owner for r, (_, owner) in zip(requests, chosen, strict=True)})

"""Training lists: labelled spectra with candidates of engines, of the graph engine, and mutated truths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rerank_core.errors import InputError
from rerank_core.types import Candidate, Request
from rerank_peptide.config import FitBase, Real
from rerank_peptide.data import Peptide, PeptideRequest, join
from rerank_peptide.engines import expand, graph
from rerank_peptide.masses import fold, parse_peptide, to_proforma
from rerank_peptide.matching import peptide_match
from rerank_peptide.proteins import read_fasta
from rerank_peptide.simulate import simulate_proteome
from rerank_peptide.spectra import Spectrum, SpectrumFile, read_spectra
from rerank_peptide.tables import read_candidates


@dataclass(frozen=True)
class Example:
    """A labelled list.

    Parameters
    ----------
    kind
        ``engines``, ``graph``, ``union`` or ``mutated``.
    group
        Protein of a simulated spectrum, else the I/L-folded peptide: what a split must not cut.
    """

    kind: str
    request: PeptideRequest
    truth: Peptide
    group: str

    def gains(self) -> np.ndarray:
        """1 for each candidate that matches the truth, else 0."""
        return np.array([float(peptide_match(self.truth, c.content)) for c in self.request.candidates])


def split_proteins(
    proteins: Sequence[tuple[str, str]], holdout: float, seed: int = 0
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Split proteins into those to train on and those to test on; the same for the same seed."""
    order = np.random.default_rng(seed).permutation(len(proteins))
    cut = round(holdout * len(proteins))
    held = set(order[:cut].tolist())
    return [p for i, p in enumerate(proteins) if i not in held], [p for i, p in enumerate(proteins) if i in held]


def labelled(config: FitBase, *, test: bool = False) -> Iterator[tuple[SpectrumFile, Real | None, dict[str, str]]]:
    """Yield (spectra, their source, group by spectrum id) of everything a configuration names.

    Parameters
    ----------
    test
        Simulate from the held-out proteins instead of the others.
    """
    for real in config.real:
        file = read_spectra(real.spectra)
        kept = [s for s in file.spectra if s.id in file.labels and not s.title.startswith(tuple(real.exclude_titles))]
        if not kept:
            raise InputError("no labelled spectrum is left", real.spectra)
        groups = {s.id: fold(parse_peptide(file.labels[s.id])) for s in kept}
        yield replace(file, spectra=kept), real, groups
    if config.simulated is not None:
        sim = config.simulated
        train, held = split_proteins(read_fasta(sim.proteins), sim.holdout)
        for spectra, labels, owners in simulate_proteome(held if test else train, sim.n, seed=sim.seed):
            yield (
                SpectrumFile(spectra, labels, path="(simulated)"),
                None,
                {s.id: o for s, o in zip(spectra, owners, strict=True)},
            )


def examples(config: FitBase, kinds: Sequence[str], *, test: bool = False, top: int = 20) -> list[Example]:
    """Build lists of the wanted kinds for every labelled spectrum."""
    rng = np.random.default_rng(config.seed)
    out: list[Example] = []
    for number, (file, real, groups) in enumerate(labelled(config, test=test)):
        files = [read_candidates(p, n) for n, p in real.candidates.items()] if real is not None else []
        engines = {r.id: r for r in join(file, files).requests} if files else {}
        for spectrum in file.spectra:
            truth = parse_peptide(file.labels[spectrum.id])
            group = groups[spectrum.id]
            identity = f"{number}:{spectrum.id}"
            for kind in kinds:
                request = _list(kind, spectrum, truth, engines.get(spectrum.id), rng, top)
                if request is not None and len(request.candidates) > 1:
                    out.append(Example(kind, replace(request, id=f"{identity}:{kind}"), truth, group))
    return out


def _list(
    kind: str,
    spectrum: Spectrum,
    truth: Peptide,
    engines: PeptideRequest | None,
    rng: np.random.Generator,
    top: int,
) -> PeptideRequest | None:
    if kind == "engines":
        return engines
    if kind == "mutated":
        others = expand.neighbours(truth)
        chosen = [others[i] for i in rng.permutation(len(others))[: top - 1]]
        # Centred on one of the wrong ones as often as on the truth: agreement in the list must not give it away.
        if chosen and rng.random() < 0.7:
            more = expand.neighbours(chosen[0])
            chosen = chosen[:1] + [more[i] for i in rng.permutation(len(more))[: top - 2]]
        mixed = list({fold(t): t for t in [truth, *chosen]}.values())
        order = rng.permutation(len(mixed))
        return _request(spectrum, [(mixed[i], -float(k)) for k, i in enumerate(order)], "mutated")
    found = graph.paths(spectrum, graph.GraphParams(paths=top))
    own = _request(spectrum, found, "graph")
    if kind == "graph" or engines is None:
        return own if kind == "graph" else None
    known = {fold(c.content) for c in engines.candidates}
    extra = [c for c in own.candidates if fold(c.content) not in known]
    merged = [replace(c, score=-float(i)) for i, c in enumerate(_interleave(engines.candidates, extra))]
    return Request(spectrum.id, spectrum, tuple(merged))


def _interleave(a: Sequence[Candidate[Peptide]], b: Sequence[Candidate[Peptide]]) -> list[Candidate[Peptide]]:
    out: list[Candidate[Peptide]] = []
    for i in range(max(len(a), len(b))):
        out += [x[i] for x in (a, b) if i < len(x)]
    return out


def _request(spectrum: Spectrum, found: Sequence[tuple[Peptide, float]], engine: str) -> PeptideRequest:
    unique = {fold(t): (t, s) for t, s in reversed(found)}
    ordered = sorted(unique.values(), key=lambda x: -x[1])
    candidates = tuple(
        Candidate(to_proforma(t), t, s, {f"rank:{engine}": float(i)}) for i, (t, s) in enumerate(ordered, 1)
    )
    return Request(spectrum.id, spectrum, candidates)

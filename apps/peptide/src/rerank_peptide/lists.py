"""Training lists: labelled spectra with candidates of engines, of the graph engine, and mutated truths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
from rerank_peptide.spectra import Spectrum, SpectrumFile, stream_spectra
from rerank_peptide.tables import CandidateFile, read_candidates

Found = list[tuple[Peptide, float]]


@dataclass(frozen=True)
class Example:
    """A labelled list.

    Parameters
    ----------
    kind
        ``engines``, ``graph`` (best paths), ``rescored`` (the graph engine's answer), ``union`` or ``mutated``.
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
    """Yield (spectra, their source, group by spectrum id) of everything a configuration names, a batch at a time.

    Parameters
    ----------
    test
        Simulate from the held-out proteins instead of the others.
    """
    for real in config.real:
        any_left = False
        for file in stream_spectra(real.spectra):
            kept = [
                s for s in file.spectra if s.id in file.labels and not s.title.startswith(tuple(real.exclude_titles))
            ]
            if kept:
                any_left = True
                yield replace(file, spectra=kept), real, {s.id: fold(parse_peptide(file.labels[s.id])) for s in kept}
        if not any_left:
            raise InputError("no labelled spectrum is left", real.spectra)
    if config.simulated is not None:
        sim = config.simulated
        train, held = split_proteins(read_fasta(sim.proteins), sim.holdout)
        for spectra, labels, owners in simulate_proteome(held if test else train, sim.n, seed=sim.seed, batch=500):
            yield (
                SpectrumFile(spectra, labels, path="(simulated)"),
                None,
                {s.id: o for s, o in zip(spectra, owners, strict=True)},
            )


def examples(config: FitBase, kinds: Sequence[str], *, test: bool = False, top: int = 20) -> list[Example]:
    """Build lists of the wanted kinds for every labelled spectrum."""
    return [e for task in tasks(config, test=test) for e in build(task, kinds, config.seed, top)]


@dataclass(frozen=True)
class Task:
    """A batch of labelled spectra with the engines' lists, where there are any: what one worker turns into lists."""

    number: int
    file: SpectrumFile
    groups: Mapping[str, str]
    engines: Mapping[str, PeptideRequest]


def tasks(config: FitBase, *, test: bool = False, size: int = 100) -> Iterator[Task]:
    """Yield a configuration's spectra, ``size`` at a time; nothing but one batch of the source is held."""
    results: dict[str, list[CandidateFile]] = {}
    number = 0
    for file, real, groups in labelled(config, test=test):
        engines: dict[str, PeptideRequest] = {}
        if real is not None and real.candidates:
            files = results.setdefault(str(real), [read_candidates(p, n) for n, p in real.candidates.items()])
            engines = {r.id: r for r in join(file, files).requests}
        for start in range(0, len(file.spectra), size):
            part = file.spectra[start : start + size]
            ids = {s.id for s in part}
            yield Task(
                number,
                replace(file, spectra=part, labels={i: t for i, t in file.labels.items() if i in ids}),
                {i: g for i, g in groups.items() if i in ids},
                {i: r for i, r in engines.items() if i in ids},
            )
            number += 1


def build(task: Task, kinds: Sequence[str], seed: int, top: int = 20) -> list[Example]:
    """Build the lists of a batch; what is drawn depends on the seed and the spectrum only."""
    out: list[Example] = []
    for spectrum in task.file.spectra:
        truth = parse_peptide(task.file.labels[spectrum.id])
        rng = np.random.default_rng([seed, task.number, spectrum.index])
        source = _Source(spectrum, truth, task.engines.get(spectrum.id), rng, top)
        for kind in kinds:
            request = source.list(kind)
            if request is not None and len(request.candidates) > 1:
                identity = f"{task.number}:{spectrum.id}:{kind}"
                out.append(Example(kind, replace(request, id=identity), truth, task.groups[spectrum.id]))
    return out


@dataclass
class _Source:
    """Makes the lists of one spectrum; the graph is searched once for all of them."""

    spectrum: Spectrum
    truth: Peptide
    engines: PeptideRequest | None
    rng: np.random.Generator
    top: int

    def list(self, kind: str) -> PeptideRequest | None:
        """Make the list of a kind, or None where the kind does not apply."""
        if kind == "engines":
            return self.engines
        if kind == "mutated":
            return self._mutated()
        if kind == "graph":
            return _request(self.spectrum, self._paths[: self.top], "graph")
        if kind == "rescored":
            return _request(self.spectrum, self._rescored, "graph")
        return None if self.engines is None else self._union(self.engines)

    @cached_property
    def _paths(self) -> Found:
        return graph.paths(self.spectrum)

    @cached_property
    def _rescored(self) -> Found:
        return graph.rescored(self.spectrum, self._paths, self.top)

    def _mutated(self) -> PeptideRequest:
        others = expand.neighbours(self.truth)
        chosen = [others[i] for i in self.rng.permutation(len(others))[: self.top - 1]]
        # Centred on one of the wrong ones as often as on the truth: agreement in the list must not give it away.
        if chosen and self.rng.random() < 0.7:
            more = expand.neighbours(chosen[0])
            chosen = chosen[:1] + [more[i] for i in self.rng.permutation(len(more))[: self.top - 2]]
        mixed = [*{fold(t): t for t in [self.truth, *chosen]}.values()]
        order = self.rng.permutation(len(mixed))
        return _request(self.spectrum, [(mixed[i], -float(k)) for k, i in enumerate(order)], "mutated")

    def _union(self, engines: PeptideRequest) -> PeptideRequest:
        known = {fold(c.content) for c in engines.candidates}
        own = _request(self.spectrum, self._paths[: self.top], "graph")
        extra = [c for c in own.candidates if fold(c.content) not in known]
        merged = [replace(c, score=-float(i)) for i, c in enumerate(_interleave(engines.candidates, extra))]
        return Request(self.spectrum.id, self.spectrum, tuple(merged))


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

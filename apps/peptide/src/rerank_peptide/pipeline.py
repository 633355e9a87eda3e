"""What the commands do: files in, files out, with the science modules between."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError, UsageError
from rerank_core.files import atomic_path, atomic_write
from rerank_core.types import FloatArray, Ranking
from rerank_peptide.data import Joined, PeptideRequest, join
from rerank_peptide.features import BASE_NAMES, spectrum_features
from rerank_peptide.fragments import site_support
from rerank_peptide.masses import PeptideError, is_terminal, parse_peptide, residue_masses, to_proforma
from rerank_peptide.mztab import Identification, identifications
from rerank_peptide.spectra import Spectrum, SpectrumFile, read_spectra
from rerank_peptide.tables import CandidateFile, Hit, read_candidates

Found = list[list[tuple[tuple[str, ...], float]]]


def make_requests(spectra: Path, files: Mapping[str, Path], limit: int | None) -> Joined:
    """Read spectra and candidate files, or let the graph engine make candidates where no file is given."""
    file = read_spectra(spectra)
    if files:
        return join(file, [read_candidates(p, n) for n, p in files.items()], limit)
    found = run_engine("graph", file.spectra, limit or 20)
    return join(file, [as_file("graph", file.spectra, found)], limit)


def as_file(name: str, spectra: Sequence[Spectrum], found: Found) -> CandidateFile:
    """Turn an engine's output into what a candidate file gives."""
    out = CandidateFile(name, f"({name} engine)")
    for s, hits in zip(spectra, found, strict=True):
        out.hits += [Hit(name, ("index", s.id), i, t, score, to_proforma(t)) for i, (t, score) in enumerate(hits, 1)]
    return out


def run_engine(
    engine: str, spectra: Sequence[Spectrum], top: int, *, expand: int = 0, model: str | None = None
) -> Found:
    """Run a first-stage engine by name."""
    if engine == "graph":
        from rerank_peptide.engines import graph

        found = graph.candidates(spectra, top)
    elif engine == "compnovo":
        from rerank_peptide.engines import compnovo

        found = compnovo.candidates(spectra, top)
    elif engine == "transformer":
        from rerank_peptide.engines import transformer

        found = transformer.candidates(spectra, top, model)
    else:
        raise UsageError(f"no engine {engine!r}; engines: graph, transformer, compnovo (any other comes in as a file)")
    if expand:
        from rerank_peptide.engines.expand import expand_list

        found = [expand_list(s, hits, expand) for s, hits in zip(spectra, found, strict=True)]
    return found


def write_candidates(out: Path, spectra: Sequence[Spectrum], found: Found, engine: str) -> int:
    """Write an engine's candidates as Parquet, CSV or TSV; returns their number."""
    columns: dict[str, list[Any]] = {
        "spectrum_index": [], "title": [], "rank": [], "sequence": [], "score": [], "engine": [],
    }  # fmt: skip
    for s, hits in zip(spectra, found, strict=True):
        for rank, (tokens, score) in enumerate(hits, 1):
            for name, value in zip(columns, (s.index, s.title, rank, to_proforma(tokens), score, engine), strict=True):
                columns[name].append(value)
    name = out.name.lower().removesuffix(".gz")
    if name.endswith((".parquet", ".pq")):
        import pyarrow as pa
        import pyarrow.parquet as pq

        with atomic_path(out) as path:
            pq.write_table(pa.table(columns), path)
    elif name.endswith((".csv", ".tsv")):
        with atomic_write(out) as file:
            writer = csv.writer(file, delimiter="\t" if name.endswith(".tsv") else ",", lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
    else:
        raise UsageError(f"{out}: unknown output format; give .parquet, .csv or .tsv")
    return len(columns["rank"])


def results(
    requests: Sequence[PeptideRequest], rankings: Sequence[Ranking], reranker: Any, top: int | None
) -> list[Identification]:
    """Attach probabilities and per-residue figures to rankings."""
    by_id = {r.id: r for r in requests}
    ordered = [by_id[r.id] for r in rankings]
    said = [probabilities(q, r, reranker) for q, r in zip(ordered, rankings, strict=True)]
    support = {}
    for request, ranking in zip(ordered, rankings, strict=True):
        contents = {c.id: c.content for c in request.candidates}
        for item in ranking.items[: top or 1]:
            support[request.id, item.id] = residue_support(request.query, contents[item.id])
    rmd = getattr(reranker, "residue_deviation", None)
    if rmd is not None and not rmd:  # a run that was taken up again, or ran elsewhere
        reranker.scores(ordered)
    return identifications(ordered, rankings, said, support, rmd, top)


def probabilities(request: PeptideRequest, ranking: Ranking, reranker: Any) -> FloatArray | None:
    """Return the probability of each of a request's candidates, in its order, where the reranker tells any."""
    calibrate = getattr(reranker, "probabilities", None)
    if calibrate is None or not ranking.items:
        return None
    by_id = {x.id: np.nan if x.score is None else x.score for x in ranking.items}
    scores = np.array([by_id[c.id] for c in request.candidates])
    return calibrate(request, scores) if np.isfinite(scores).all() else None


def residue_support(spectrum: Spectrum, tokens: Sequence[str]) -> tuple[float, ...]:
    """How well the spectrum holds up each token, 0 to 1: half for each side with a b or y ion at its bond."""
    sites = site_support(spectrum.mz, residue_masses(tokens), spectrum.charge)
    edges = np.concatenate([[1.0], sites, [1.0]])
    residues = (edges[:-1] + edges[1:]) / 2
    values = [float(v) for v in residues]
    return (values[0], *values) if is_terminal(tokens[0]) else tuple(values)


def explanations(requests: Sequence[PeptideRequest], rankings: Sequence[Ranking]) -> list[str]:
    """One line a spectrum: the top candidate, the runner-up, and the features in which they differ most."""
    shown = ("coverage", "explained", "pcc_log", "evidence", "unexplained_odds", "predicted_missing", "language")
    by_id = {r.id: r for r in requests}
    out = []
    for ranking in rankings:
        request = by_id[ranking.id]
        contents = {c.id: c.content for c in request.candidates}
        ids = ranking.ids[:2]
        if not ids:
            continue
        table = spectrum_features(request.query, [contents[i] for i in ids])
        values = ", ".join(
            f"{n} " + " vs ".join(f"{table[k, BASE_NAMES.index(n)]:.2f}" for k in range(len(ids))) for n in shown
        )
        out.append(f"{ranking.id}: {' over '.join(ids)}: {values}")
    return out


def gold_labels(path: Path) -> tuple[dict[str, tuple[str, ...]], SpectrumFile]:
    """Read labels from annotated spectra."""
    file = read_spectra(path)
    labels = {}
    for i, text in file.labels.items():
        try:
            labels[i] = parse_peptide(text)
        except PeptideError as error:
            raise InputError(f"label of spectrum {i}: {error}", path) from error
    if not labels:
        raise InputError("no spectrum carries SEQ=; give annotated spectra", path)
    return labels, file


def missing_sites(labels: Mapping[str, Sequence[str]], file: SpectrumFile) -> dict[str, int]:
    """Number of bonds without a b or y ion in each labelled spectrum."""
    by_id = {s.id: s for s in file.spectra}
    return {
        i: int((site_support(by_id[i].mz, residue_masses(t), by_id[i].charge) == 0).sum()) for i, t in labels.items()
    }


def simulate_file(proteins: Path, out: Path, n: int, seed: int, intensity: str) -> int:
    """Simulate spectra from a FASTA file into an MGF file."""
    from rerank_peptide.proteins import read_fasta
    from rerank_peptide.simulate import SimulationParams, simulate_proteome
    from rerank_peptide.spectra import write_mgf

    if intensity not in ("packaged", "ms2pip"):
        raise UsageError(f"--intensity is packaged or ms2pip, not {intensity!r}")
    if not out.name.lower().removesuffix(".gz").endswith(".mgf"):
        raise UsageError(f"{out}: simulated spectra are written as .mgf or .mgf.gz")
    params = SimulationParams(intensity="ms2pip" if intensity == "ms2pip" else "packaged")
    spectra: list[Spectrum] = []
    labels: dict[str, str] = {}
    for part, names, _ in simulate_proteome(read_fasta(proteins), n, seed=seed, params=params):
        spectra += part
        labels |= {i: to_proforma(parse_peptide(t)) for i, t in names.items()}
    if not spectra:
        raise InputError("no peptide of 7 to 30 residues in these proteins", proteins)
    write_mgf(out, spectra, labels)
    return len(spectra)

"""Speed and quality of rerank-peptide: ``python benchmarks/peptide.py speed|read|quality|six|realism [--data FOLDER]``.

All but ``speed`` read development data that is not part of the project (see docs/peptide.md). Each prints a table; times are
CPU seconds of one thread. benchmarks/peptide_axial.py has the axial network's own figures, benchmarks/peptide_official.py
its speed beside the official program's.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np


def timed(name: str, amount: float, unit: str, start: float) -> None:
    seconds = time.process_time() - start
    print(f"{name:<44} {amount / seconds:>12,.1f} {unit}/s   ({seconds:.2f} CPU s)", flush=True)


def speed() -> None:
    import torch

    from rerank_peptide.axial import AxialModel, AxialParams, collate, tokenise
    from rerank_peptide.axial_predict import predict
    from rerank_peptide.engines import graph
    from rerank_peptide.matching import pmd_pairs
    from rerank_peptide.proteins import TEXTBOOK, digest
    from rerank_peptide.simulate import simulate

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    many = [tuple(rng.choice(list("GASPVTLNDQKEMHFRYW"), 15)) for _ in range(2000)]
    left, right = rng.integers(0, 2000, (2, 200_000))
    pmd_pairs(many, left[:10], right[:10])
    start = time.process_time()
    pmd_pairs(many, left, right)
    timed("PMD, peptides of 15 residues", 200_000, "pairs", start)

    peptides = [p for p, _ in digest(TEXTBOOK.items())]
    simulate(peptides[:3])
    start = time.process_time()
    spectra, _ = simulate(peptides * 3)
    timed("simulated spectra", len(spectra), "spectra", start)

    graph.candidates(spectra[:2])
    start = time.process_time()
    graph.candidates(spectra[:60])
    timed("graph engine, complete", 60, "spectra", start)

    net = AxialModel(AxialParams(parity=True)).eval()
    tokens = [tokenise([tuple(rng.choice(list("GASPVTL"), 15)) for _ in range(6)]) for _ in range(32)]
    peaks = [np.sort(rng.uniform(0.01, 1, (150, 2)), axis=0).astype(np.float32) * [1500, 1] for _ in range(32)]
    batch = collate([p.astype(np.float32) for p in peaks], [1500.0] * 32, [2] * 32, tokens)
    with torch.inference_mode():
        start = time.process_time()
        predict(net, *batch)
        timed("axial forward, official size, 6 candidates", 32, "spectra", start)


def read(data: Path) -> None:
    """51,255 rows of six engines into one candidate table."""
    from rerank_peptide.tables import read_candidates

    path = data / "candidates" / "six_engines_9000_spectra.parquet"
    start = time.process_time()
    file = read_candidates(path, "x")
    timed("candidate rows read", len(file.hits) + sum(file.skipped.values()), "rows", start)


def realism(data: Path) -> None:
    """Two-sample Kolmogorov-Smirnov distances between simulated and real training spectra."""
    from scipy.stats import ks_2samp

    from rerank_peptide.features import BASE_NAMES, spectrum_features
    from rerank_peptide.masses import parse_peptide
    from rerank_peptide.proteins import read_fasta
    from rerank_peptide.simulate import simulate_proteome
    from rerank_peptide.spectra import read_spectra

    def describe(spectra: Any, labels: Any) -> dict[str, list[float]]:
        rows = [spectrum_features(s, [parse_peptide(labels[s.id])])[0] for s in spectra]
        out = {n: [float(r[BASE_NAMES.index(n)]) for r in rows] for n in ("coverage", "explained")}
        return out | {"number of peaks": [float(s.mz.size) for s in spectra]}

    real = read_spectra(data / "spectra" / "real_hcd_train.mgf.gz")
    proteins = read_fasta(data / "fasta" / "uniprot_3000.fasta.gz")
    made, labels, _ = next(iter(simulate_proteome(proteins, 1000, seed=7, batch=1000)))
    a, b = describe(made, labels), describe(real.spectra, real.labels)
    for name in a:
        d = ks_2samp(a[name], b[name])
        print(f"{name:<18} KS {d.statistic:.3f}  ({len(a[name])} simulated, {len(b[name])} real)")


def quality(data: Path) -> None:
    """Recall of every method on real lists that no packaged model was fitted on, and how honest its probabilities are."""
    from rerank_core.calibration import ece
    from rerank_core.statistics import bootstrap, paired_bootstrap
    from rerank_peptide.data import gold_of, join
    from rerank_peptide.domain import domain
    from rerank_peptide.pipeline import as_file, run_engine
    from rerank_peptide.pipeline import probabilities as result_probabilities
    from rerank_peptide.spectra import read_spectra
    from rerank_peptide.tables import read_candidates

    file = read_spectra(data / "spectra" / "real_hcd_dev.mgf.gz")
    compnovo = read_candidates(data / "candidates" / "compnovocid_candidates.parquet", "compnovo")
    start = time.process_time()
    own = as_file("graph", file.spectra, run_engine("graph", file.spectra, 20))
    print(f"graph engine: {(time.process_time() - start) / len(file.spectra):.3f} CPU s a spectrum")
    instanovo = read_spectra(data / "spectra" / "instanovo_example_100.mgf.gz")
    beams = read_candidates(data / "candidates" / "instanovo_beams_100_spectra.parquet", "instanovo")
    sets = {
        "CompNovo, dev": (file, [compnovo]),
        "graph, dev": (file, [own]),
        "CompNovo + graph, dev": (file, [compnovo, own]),
        "InstaNovo beams": (instanovo, [beams]),
    }
    methods = ("score", "votes", "mass", "mass-score", "hand", "features", "axial", "default")
    for name, (spectra, candidates) in sets.items():
        requests = join(spectra, candidates).requests
        gold = gold_of(requests, spectra.labels)
        oracle = np.mean([max(g.values(), default=0.0) for g in gold.values()])
        print(f"{name}: n {len(requests)}, oracle {oracle:.3f}")
        hits: dict[str, dict[str, float]] = {}
        for method in methods:
            reranker = domain.method(method)
            start = time.process_time()
            ranked = reranker.rerank(requests)
            each = 1000 * (time.process_time() - start) / len(requests)
            hits[method] = {r.id: gold[r.id].get(r.items[0].id, 0.0) if r.items else 0.0 for r in ranked}
            line = f"    {method:<12} {np.mean(list(hits[method].values())):.3f}  {each:5.1f} CPU ms a spectrum"
            if method in ("features", "axial", "default"):
                for other in ("score", "hand"):
                    d, low, high, _ = paired_bootstrap(hits[method], hits[other])
                    line += f"   over {other} {d:+.3f} [{low:+.3f}, {high:+.3f}]"
                answered = [r for r in ranked if r.items]
                by_id = {r.id: r for r in requests}
                sure = [float(result_probabilities(by_id[r.id], r, reranker).max()) for r in answered]
                table = np.array([sure, [hits[method][r.id] for r in answered]]).T
                low, high = bootstrap(table, lambda r: ece(r[:, 0], r[:, 1]))
                line += f"   ECE of {len(answered)} {ece(table[:, 0], table[:, 1]):.3f} [{low:.3f}, {high:.3f}]"
                perfect = np.random.default_rng(0).random((1000, len(answered))) < table[:, 0]
                chance = [ece(table[:, 0], right.astype(float)) for right in perfect]
                line += f", were they true {np.mean(chance):.3f}, at most {np.quantile(chance, 0.95):.3f}"
            print(line, flush=True)


def six(data: Path) -> None:
    """Nine thousand spectra x six engines, joined and reranked; peaks are simulated, the file holds none."""
    import pandas as pd

    from rerank_peptide.data import join
    from rerank_peptide.domain import domain
    from rerank_peptide.simulate import simulate
    from rerank_peptide.spectra import Spectrum, SpectrumFile
    from rerank_peptide.tables import read_candidates

    path = data / "candidates" / "six_engines_9000_spectra.parquet"
    table = pd.read_parquet(path).dropna(subset=["sequence"]).drop_duplicates("spectrum_index")
    made, _ = simulate(list(table.sequence))
    spectra = [
        Spectrum(int(r.spectrum_index), str(r.spectrum_index), s.mz, s.intensity, float(r.precursor_mz), int(r.charge))
        for r, s in zip(table.itertuples(), made, strict=True)
    ]
    start, wall = time.process_time(), time.perf_counter()
    joined = join(SpectrumFile(spectra), [read_candidates(path, "x")])
    print(
        f"joined {sum(len(r.candidates) for r in joined.requests)} candidates: {time.process_time() - start:.1f} CPU s"
    )
    domain.method("features").rerank(joined.requests)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"with reranking: {time.process_time() - start:.1f} CPU s, {time.perf_counter() - wall:.1f} s, {peak:.2f} GB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("speed", "read", "quality", "six", "realism"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data/peptide"))
    arguments = parser.parse_args()
    if arguments.part == "speed":
        speed()
    else:
        {"read": read, "quality": quality, "six": six, "realism": realism}[arguments.part](arguments.data)

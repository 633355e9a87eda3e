"""The axial network against RankNovo's own program: ``python benchmarks/peptide_official.py CHECKOUT [--data FOLDER]``.

CHECKOUT is the folder that holds the official Python package ``RankNovo`` (in a clone of BEAM-Labs/denovo the folder
``RankNovo``), installed so that ``RankNovo.denovo.msa_model`` can be imported. Both get the same random weights at the
official size, the same 32 spectra and the same 6 candidates each, and take turns; every figure is the median of the turns.

*network* is the time from padded spectra and tokens to both heads; *step* begins with the peptides as text, as the official
``_forward_step`` does, which also makes labels. Ours takes spectra one by one, the official program in a padded batch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rerank_peptide.axial import AxialModel, AxialParams, collate, parameter_count, preprocess, tokenise
from rerank_peptide.axial_io import from_official, load_weights
from rerank_peptide.axial_predict import predict
from rerank_peptide.masses import parse_peptide

SPECTRA, CANDIDATES = 32, 6


@dataclass(frozen=True)
class Input:
    """Spectra of shape (peaks, 2), masses in Da, charges, and candidates in the notation that both programs read."""

    spectra: list[np.ndarray[Any, Any]]
    masses: list[float]
    charges: list[int]
    candidates: list[list[str]]

    def ours(self) -> tuple[torch.Tensor, ...]:
        tokens = [tokenise([parse_peptide(c) for c in row], fold_isoleucine=False) for row in self.candidates]
        return collate(self.spectra, self.masses, self.charges, tokens)

    def theirs(self) -> tuple[torch.Tensor, torch.Tensor]:
        batch = collate(self.spectra, self.masses, self.charges, [np.zeros((1, 1))] * len(self.spectra))
        mass, charge = batch[1], batch[2].float()
        return batch[0], torch.stack([mass, charge, mass / charge + 1.007276], dim=1)


def mutate(peptide: Sequence[str], rng: np.random.Generator) -> str:
    """Swap two residues, as an engine that takes one bond for another does; a terminal modification stays in front."""
    tokens = list(peptide)
    first = int(tokens[0][0] in "+-")
    i = int(rng.integers(first, len(tokens) - 1))
    tokens[i], tokens[i + 1] = tokens[i + 1], tokens[i]
    return "".join(tokens)


def full(seed: int) -> Input:
    """Spectra that all have as many peaks as the network takes, with peptides of 15 residues."""
    rng = np.random.default_rng(seed)
    spectra = []
    for _ in range(SPECTRA):
        peaks = np.stack([np.sort(rng.uniform(100, 1500, 300)), rng.uniform(0.01, 1, 300)], axis=1)
        peaks[:, 1] /= np.linalg.norm(peaks[:, 1])
        spectra.append(peaks.astype(np.float32))
    candidates = [["".join(rng.choice(list("GASPVTLNDQKEMHFRYW"), 15)) for _ in range(CANDIDATES)] for _ in spectra]
    return Input(spectra, [1500.0] * SPECTRA, [2] * SPECTRA, candidates)


def real(data: Path, seed: int) -> Input:
    """The first real development spectra with an engine's first candidates; where there are fewer, swapped residues."""
    from rerank_peptide.spectra import read_spectra
    from rerank_peptide.tables import read_candidates

    rng = np.random.default_rng(seed)
    file = read_spectra(data / "spectra" / "real_hcd_dev.mgf.gz")
    found: dict[str, list[tuple[str, ...]]] = {}
    for hit in read_candidates(data / "candidates" / "compnovocid_candidates.parquet", "compnovo").hits:
        found.setdefault(hit.key[1], []).append(hit.tokens)
    chosen = file.spectra[:SPECTRA]
    candidates = []
    for spectrum in chosen:
        peptides = found.get(spectrum.title, [parse_peptide(file.labels[spectrum.id])])[:CANDIDATES]
        row = ["".join(p) for p in peptides]
        row += [mutate(peptides[i % len(peptides)], rng) for i in range(CANDIDATES - len(row))]
        candidates.append(row)
    return Input([preprocess(s, 300) for s in chosen], [s.mass for s in chosen], [s.charge for s in chosen], candidates)


class Official:
    """The official network, its weights drawn at random, and the two ways of running it."""

    def __init__(self, checkout: Path, seed: int) -> None:
        sys.path.insert(0, str(checkout))
        from RankNovo.denovo.msa_model import Spec2Pep  # type: ignore[import-not-found]

        torch.manual_seed(seed)
        self.model = Spec2Pep(
            dim_model=512, n_head=8, dim_feedforward=1024, n_layers=8, dropout=0.3, max_length=100, max_charge=10
        ).eval()  # fmt: skip

    def network(self, spectra: torch.Tensor, precursors: torch.Tensor, tokens: torch.Tensor) -> tuple[Any, Any]:
        memory, padding = self.model.encoder(spectra, precursors)
        states = self.model.msa_decoder(tokens, precursors, memory, padding)["logits"]
        return self.model.global_final(states[:, :, 0]).squeeze(-1), self.model.local_final(states).squeeze(-1)

    def step(self, given: Input) -> tuple[Any, Any]:
        spectra, precursors = given.theirs()
        out = self.model._forward_step(spectra, precursors, given.candidates)
        return out[0], out[1]


def ours_from(official: Official) -> AxialModel:
    """Our network with the official one's weights."""
    model = AxialModel(AxialParams(parity=True)).eval()
    load_weights(model, from_official({k: v.numpy() for k, v in official.model.state_dict().items()}))
    return model


def turns(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Run each in turn; median CPU and wall seconds by name."""
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            took[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return {n: (statistics.median(c for c, _ in t), statistics.median(w for _, w in t)) for n, t in took.items()}


def compare(name: str, given: Input, official: Official, model: AxialModel, repeats: int) -> None:
    batch, (spectra, precursors) = given.ours(), given.theirs()
    peaks = [len(s) for s in given.spectra]
    print(f"{name}: {min(peaks)} to {max(peaks)} peaks, mean {np.mean(peaks):.0f}; tokens {tuple(batch[3].shape)}")
    theirs, ours = official.step(given), predict(model, *given.ours())
    real_token = batch[3] != 1
    difference = max(
        float((theirs[0] - ours.pmd).abs().max()), float(((theirs[1] - ours.rmd) * real_token).abs().max())
    )
    print(f"    largest difference {difference:.1e}; PMD {ours.pmd.min():.2f} to {ours.pmd.max():.2f}")
    runs: dict[str, Callable[[], Any]] = {
        "network, official": lambda: official.network(spectra, precursors, batch[3]),
        "network, ours": lambda: predict(model, *batch),
        "step, official": lambda: official.step(given),
        "step, ours": lambda: predict(model, *given.ours()),
    }
    took = turns(runs, repeats)
    for part in ("network", "step"):
        (c, w), (c2, w2) = took[f"{part}, official"], took[f"{part}, ours"]
        print(
            f"    {part:<8} official {c:6.2f} CPU s {w:6.2f} s   ours {c2:6.2f} CPU s {w2:6.2f} s   "
            f"ratio {c / c2:.2f} CPU, {w / w2:.2f} wall",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/peptide"))
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    official = Official(arguments.checkout, arguments.seed)
    model = ours_from(official)
    print(f"official size, {parameter_count(model):,} parameters; torch {torch.__version__}")
    inputs = {"full spectra": full(arguments.seed), "real spectra": real(arguments.data, arguments.seed)}
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        print(f"{threads} thread{'s' * (threads > 1)}")
        with torch.no_grad():
            for name, given in inputs.items():
                compare(name, given, official, model, arguments.repeats)


if __name__ == "__main__":
    main()

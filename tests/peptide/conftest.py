"""The embedded sample, built once: simulated spectra and the graph engine's candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rerank_core.types import Dataset
from rerank_peptide.pipeline import write_candidates
from rerank_peptide.sample import sample
from rerank_peptide.spectra import write_mgf


@pytest.fixture(scope="session")
def small() -> Dataset[Any, Any]:
    return sample(seed=0, n=16, top=10)


@pytest.fixture(scope="session")
def files(small: Dataset[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write the sample as annotated MGF and as a candidate file."""
    folder = tmp_path_factory.mktemp("peptide")
    spectra = [r.query for r in small.requests]
    # A spectrum whose list holds the true peptide is labelled with it; the others stay unlabelled.
    labels = {i: next(c for c, gain in gains.items() if gain) for i, gains in small.gold.items() if any(gains.values())}
    write_mgf(folder / "s.mgf.gz", spectra, labels)
    found = [[(c.content, float(c.score or 0)) for c in r.candidates] for r in small.requests]
    write_candidates(folder / "c.parquet", spectra, found, "graph")
    return {"spectra": folder / "s.mgf.gz", "candidates": folder / "c.parquet", "folder": folder}

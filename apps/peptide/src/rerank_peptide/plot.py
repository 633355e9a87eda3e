"""Annotated mirror spectra: first candidate above, second below, b/y ions coloured, doubtful residues marked."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError, require
from rerank_core.files import atomic_path, atomic_write
from rerank_peptide.masses import PROTON, WATER, residue_masses, to_proforma
from rerank_peptide.mztab import Prediction, read_predictions
from rerank_peptide.pipeline import residue_support
from rerank_peptide.spectra import Spectrum, read_spectra

DOUBTFUL = 0.5
"""A residue is doubtful when at most one of its two bonds shows a fragment."""


def plot(result: Path, spectra: Path, out: Path, indices: Sequence[int] | None) -> int:
    """Draw pictures (SVG) and ``index.html``, which needs none of them beside it; returns their number.

    Raises
    ------
    InputError
        When a wanted spectrum has no identification.
    """
    require("spectrum_utils", "rerank-peptide[plots]", "drawing spectra")
    require("matplotlib", "rerank-peptide[plots]", "drawing spectra")
    found = read_predictions(result)
    by_id = {s.id: s for s in read_spectra(spectra).spectra}
    wanted = [str(i) for i in indices] if indices else [i for i in found if i in by_id][:10]
    absent = [i for i in wanted if i not in found or i not in by_id]
    if absent or not wanted:
        raise InputError(f"no identification of spectrum {', '.join(absent) or 'any'} in it", result)
    names = []
    for i in wanted:
        name = f"spectrum-{i}.svg"
        with atomic_path(out / name) as path:
            _draw(by_id[i], found[i], path)
        names.append((i, name, found[i]))
    with atomic_write(out / "index.html") as page:
        page.write("<!doctype html><meta charset='utf-8'><title>Mirror spectra</title><h1>Mirror spectra</h1>")
        for i, name, predictions in names:
            page.write(f"<h2>Spectrum {i}: {_residues_html(by_id[i], predictions[0])}</h2>")
            if len(predictions) > 1:
                page.write(f"<p>second: {_residues_html(by_id[i], predictions[1])}</p>")
            # Inside the page, so that one file can be sent on.
            picture = base64.b64encode((out / name).read_bytes()).decode("ascii")
            page.write(f"<img src='data:image/svg+xml;base64,{picture}' alt='Spectrum {i}'>")
    return len(names)


def _residues_html(spectrum: Spectrum, prediction: Prediction) -> str:
    support = residue_support(spectrum, prediction.tokens)
    return "".join(
        f"<span style='color:{'#b30000' if s <= DOUBTFUL else '#00441b'}'>{html.escape(t)}</span>"
        for t, s in zip(prediction.tokens, support, strict=True)
    )


def _draw(spectrum: Spectrum, predictions: Sequence[Prediction], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from spectrum_utils import plot as sup

    figure, axes = plt.subplots(figsize=(11, 6))
    pair = [_annotated(spectrum, p) for p in predictions[:2]]
    if len(pair) == 2:
        sup.mirror(*pair, ax=axes)
    else:
        sup.spectrum(pair[0], ax=axes)
    axes.set_title(
        " / ".join(to_proforma(p.tokens) for p in predictions[:2])
        + f"\n{spectrum.title}, {spectrum.precursor_mz:.4f}, {spectrum.charge}+"
    )
    figure.tight_layout()
    figure.savefig(path, format="svg")
    plt.close(figure)


def _annotated(spectrum: Spectrum, prediction: Prediction) -> Any:
    import spectrum_utils.fragment_annotation as fa
    from spectrum_utils.spectrum import MsmsSpectrum

    msms = MsmsSpectrum(
        spectrum.title, spectrum.precursor_mz, spectrum.charge, spectrum.mz.copy(), spectrum.intensity.copy()
    )
    msms.scale_intensity(max_intensity=1.0)
    # Annotations of our own: spectrum_utils would fetch UNIMOD from the network to read modifications.
    masses = residue_masses(prediction.tokens)
    prefix = np.cumsum(masses)[:-1]
    notes: list[Any] = [None] * len(msms.mz)
    for k, m in enumerate(prefix, 1):
        for ion, number, mz in (("b", k, m + PROTON), ("y", masses.size - k, masses.sum() - m + WATER + PROTON)):
            j = int(np.abs(msms.mz - mz).argmin())
            if abs(msms.mz[j] - mz) <= 0.02:
                notes[j] = fa.PeakInterpretation()
                notes[j].fragment_annotations.append(fa.FragmentAnnotation(f"{ion}{number}", charge=1))
    msms._annotation = np.array([n if n is not None else fa.PeakInterpretation() for n in notes], dtype=object)
    msms.proforma = None
    return msms

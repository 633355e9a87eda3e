"""Spectrum and peptide as text, so that any judge of the workspace can be asked. Expect little of it: see the docs."""

from __future__ import annotations

import numpy as np

from rerank_core.types import Candidate
from rerank_peptide.masses import peptide_mass, to_proforma
from rerank_peptide.spectra import Spectrum


class PeptideRendering:
    """The 30 strongest peaks, and the peptide with its b and y ladder.

    ``instruction`` says what relevance means.
    """

    instruction = "Which peptide explains the fragment spectrum? Its b and y ions should be among the peaks."

    def query(self, query: Spectrum) -> str:
        """Return precursor and peaks."""
        strongest = np.sort(np.argsort(-query.intensity)[:30])
        top = query.intensity.max()
        peaks = " ".join(f"{query.mz[i]:.2f}:{100 * query.intensity[i] / top:.0f}" for i in strongest)
        return f"precursor mass {query.mass:.3f}, charge {query.charge}; peaks (m/z:percent) {peaks}"

    def candidate(self, candidate: Candidate[tuple[str, ...]]) -> str:
        """Return ProForma and mass."""
        return f"{to_proforma(candidate.content)} (mass {peptide_mass(candidate.content):.3f})"

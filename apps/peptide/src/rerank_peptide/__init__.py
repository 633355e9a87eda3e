"""Rerank de novo peptide candidates for tandem mass spectra."""

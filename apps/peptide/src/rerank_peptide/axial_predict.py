"""Inference of the axial network that does not compute padding: lists of similar shape go through it together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from rerank_peptide.axial import PAD, AxialModel, Prediction

# A call of the network costs as much as this many tokens; so much padding is accepted to save one.
_CALL: Final = 32
# A batch of more numbers an activation than this leaves the processor's cache, and every step takes longer.
_CACHED: Final = 2**20


def alike(shapes: Sequence[tuple[int, ...]], most: int) -> list[list[int]]:
    """Group indices of arrays so that padding those of a group to one shape costs little.

    Parameters
    ----------
    shapes
        Shape of each array.
    most
        Elements in a padded group, unless a single array has more.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(shapes)), key=lambda i: shapes[i]):
        group = [*groups[-1], i] if groups else [i]
        padded = len(group) * math.prod(map(max, zip(*(shapes[j] for j in group), strict=True)))
        if groups and padded <= most and padded - sum(math.prod(shapes[j]) for j in group) <= _CALL:
            groups[-1] = group
        else:
            groups.append([i])
    return groups


def predict(
    model: AxialModel,
    spectra: Tensor,
    mass: Tensor,
    charge: Tensor,
    tokens: Tensor,
    sites: Tensor | None = None,
    summary: Tensor | None = None,
) -> Prediction:
    """Say what ``model(spectra, ...)`` says, faster on a processor; at padding the answer is 0."""
    if spectra.device.type != "cpu":
        return model(spectra, mass, charge, tokens, sites, summary)
    n, n_peaks, _ = spectra.shape
    most = _CACHED // model.params.dim
    peaks = _extent(spectra.sum(dim=2) != 0)
    memory = spectra.new_zeros(n, n_peaks + 2, model.params.dim)
    padding = torch.ones(n, n_peaks + 2, dtype=torch.bool)
    for group in alike([(p,) for p in peaks], most):
        width = max(peaks[i] for i in group)
        memory[group, : width + 2], padding[group, : width + 2] = model.encoder(spectra[group, :width], mass[group])

    there = tokens != PAD
    # The official scale of row attention counts the batch's rows, so these stay.
    rows = [tokens.shape[1]] * n if model.params.parity else _extent(there.any(dim=2))
    columns = _extent(there.any(dim=1))
    pmd, rmd = spectra.new_zeros(tokens.shape[:2]), spectra.new_zeros(tokens.shape)
    match = torch.zeros_like(pmd) if model.params.match else None
    for group in alike(list(zip(rows, columns, strict=True)), most):
        r, c, width = (max(sizes[i] for i in group) for sizes in (rows, columns, peaks))
        said = model.decode(
            memory[group, : width + 2], padding[group, : width + 2], mass[group], charge[group], tokens[group, :r, :c],
            None if sites is None else sites[group, :r, :c], None if summary is None else summary[group, :r],
        )  # fmt: skip
        pmd[group, :r], rmd[group, :r, :c] = said.pmd, said.rmd
        if match is not None and said.match is not None:
            match[group, :r] = said.match
    is_row = there.any(dim=2)
    return Prediction(pmd * is_row, rmd * there, None if match is None else match * is_row)


def _extent(there: Tensor) -> list[int]:
    """Where the last True of each row is, counted from 1; shape (n, width)."""
    return (there * torch.arange(1, there.shape[1] + 1)).amax(dim=1).tolist()

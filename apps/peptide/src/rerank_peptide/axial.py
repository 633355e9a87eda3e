"""The axial-attention reranker of RankNovo: spectrum encoder, candidate 'alignment', PMD and RMD heads.

Source: Qiu et al., *Universal Biological Sequence Reranking for Improved De Novo Peptide Sequencing* (ICML 2025,
arXiv 2505.17552) and its evaluation code ``BEAM-Labs/denovo`` (commit 52c17225), which is followed where they differ.

Candidates of one spectrum are stacked as rows of an alignment, padded with a real gap token. Each decoder layer does
row attention with one map shared by all rows, column attention between candidates, cross-attention to the spectrum,
and a feed-forward step, all pre-norm residual. The class column predicts each candidate's PMD (lower is better), every
other column the residue's RMD.

Departures, each behind ``AxialParams.parity``:

* official: columns that are padding *in row 0* are masked in row attention, which is wrong for rows of unequal length
  in one batch; ours: a column is masked where every row is padding, and padding rows get no weight.
* official: I and L are different tokens of equal mass; ours: I is folded into L before tokenising.

Two additions of ours, off at the official size (``AxialParams.evidence``, ``AxialParams.match``): every residue brings
along what the spectrum says of its two bonds and the class column the candidate's features
([`rerank_peptide.evidence`][]), so that matching peaks with masses need not be learned; and a third head on the class
column gives the logit that a candidate is the peptide, against "none of these" at 0.

The spectrum encoder is depthcharge's ``SpectrumTransformerEncoder`` with RankNovo's peak encoding (m/z by sines and
cosines, intensity by a linear map) and its two pseudo-peaks: one at m/z 0, one at the neutral precursor mass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from depthcharge.encoders import FloatEncoder
from depthcharge.transformers import SpectrumTransformerEncoder
from torch import Tensor, nn

from rerank_peptide.evidence import N_SITE, N_SUMMARY
from rerank_peptide.masses import PROTON, TOKEN_MASSES
from rerank_peptide.spectra import Spectrum

SYMBOLS: Final = (
    "<cls>", "<pad>", "<eos>", "<unk>", "G", "A", "S", "P", "V", "T", "L", "I", "N", "D", "Q", "K", "E", "M", "H", "F",
    "R", "Y", "W", "C+57.021", "M+15.995", "N+0.984", "Q+0.984", "+42.011", "+43.006-17.027", "+43.006", "-17.027",
    ".", "-", "<null_1>", "<null_2>", "<null_3>", "<null_4>", "<null_5>", "<null_6>", "<null_7>", "<mask>",
)  # fmt: skip
CLS, PAD, UNK, GAP = 0, 1, 3, 32
_ID: Final = {s: i for i, s in enumerate(SYMBOLS)}
_MASS: Final = torch.tensor([TOKEN_MASSES.get(s, 0.0) for s in SYMBOLS], dtype=torch.float64)


@dataclass(frozen=True)
class AxialParams:
    """Architecture; the defaults are the official size (50.5 M parameters).

    Parameters
    ----------
    columns, cross
        Switches of column attention and of the spectrum, for ablations.
    parity
        Reproduce the official masking.
    max_peaks
        Most intense peaks kept of a spectrum.
    evidence
        Residues and candidates bring along what the spectrum says of them.
    match
        A third head: the logit that a candidate is right.
    """

    dim: int = 512
    heads: int = 8
    feedforward: int = 1024
    encoder_layers: int = 8
    decoder_layers: int = 8
    dropout: float = 0.3
    max_length: int = 100
    max_charge: int = 10
    columns: bool = True
    cross: bool = True
    parity: bool = False
    max_peaks: int = 300
    evidence: bool = False
    match: bool = False


class _Peaks(nn.Module):
    """sin/cos of m/z plus a linear map of intensity; input (batch, peaks, 2), output (batch, peaks, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mz = FloatEncoder(dim)
        self.intensity = nn.Linear(1, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.mz(x[..., 0]) + self.intensity(x[..., 1:2])


class SpectrumEncoder(SpectrumTransformerEncoder):
    """depthcharge's encoder with RankNovo's two pseudo-peaks in place of its global token."""

    def __init__(self, p: AxialParams) -> None:
        super().__init__(p.dim, p.heads, p.feedforward, p.encoder_layers, p.dropout, _Peaks(p.dim))
        # A prototype of torch's that warns on every run.
        self.transformer_encoder.use_nested_tensor = False
        self.zero_peak = nn.Parameter(torch.randn(1))
        self.mass_peak = nn.Parameter(torch.randn(1))

    def forward(self, spectra: Tensor, mass: Tensor) -> tuple[Tensor, Tensor]:
        """Encode spectra.

        Parameters
        ----------
        spectra
            Shape (batch, n_peaks, 2): m/z and intensity, padded with zeros.
        mass
            Neutral precursor masses, shape (batch,).

        Returns
        -------
        Memory (batch, n_peaks + 2, dim) and padding mask (batch, n_peaks + 2), True where padded.
        """
        n = spectra.shape[0]
        padding = spectra.sum(dim=2) == 0
        first = torch.stack([torch.zeros_like(mass), self.zero_peak.expand(n)], dim=1)
        second = torch.stack([mass, self.mass_peak.expand(n)], dim=1)
        x = self.peak_encoder(torch.cat([first[:, None], second[:, None], spectra], dim=1))
        mask = torch.cat([padding.new_zeros(n, 2), padding], dim=1)
        # Attention without a mask is a tenth faster; asking for one that is not needed would stall training.
        needed = self.training or bool(padding.any())
        return self.transformer_encoder(x, src_key_padding_mask=mask if needed else None), mask


class Embedding(nn.Module):
    """Token, residue mass and remaining mass, with precursor and charge on the class column."""

    def __init__(self, p: AxialParams) -> None:
        super().__init__()
        self.token = nn.Embedding(len(SYMBOLS), p.dim // 2)
        self.charge = nn.Embedding(p.max_charge, p.dim // 2)
        self.precursor = FloatEncoder(p.dim // 2)
        self.residue = FloatEncoder(p.dim // 4)
        self.rest = FloatEncoder(p.dim // 4)
        self.register_buffer("mass", _MASS.clone(), persistent=False)

    def forward(self, tokens: Tensor, mass: Tensor, charge: Tensor) -> Tensor:
        """Embed tokens of shape (batch, rows, columns); masses and charges have shape (batch,)."""
        b, r, c = tokens.shape
        each = self.mass.double()[tokens]
        # Rounded before the difference, as in the official code: the shortest wavelength (1 mDa) sees the rounding.
        rest = mass.float()[:, None, None] - each.cumsum(dim=2).float()
        parts = [
            self.token(tokens),
            self.residue(each.float().reshape(b * r, c)).reshape(b, r, c, -1),
            self.rest(rest.reshape(b * r, c)).reshape(b, r, c, -1),
        ]
        x = torch.cat(parts, dim=-1)
        zero = self.residue(mass.new_zeros(b, 1))[:, 0]
        head = torch.cat([self.precursor(mass.float()[:, None])[:, 0] + self.charge(charge - 1), zero, zero], dim=-1)
        return torch.cat([x[:, :, :1] + head[:, None, None], x[:, :, 1:]], dim=2)


class Evidence(nn.Module):
    """Embeds what the spectrum says: two bonds a residue, and the candidate's features beside the list's best."""

    def __init__(self, p: AxialParams) -> None:
        super().__init__()
        self.site = nn.Sequential(nn.Linear(2 * N_SITE, p.dim), nn.GELU(), nn.Linear(p.dim, p.dim))
        self.candidate = nn.Sequential(nn.Linear(2 * N_SUMMARY, p.dim), nn.GELU(), nn.Linear(p.dim, p.dim))
        self.register_buffer("mean", torch.zeros(N_SUMMARY))
        self.register_buffer("scale", torch.ones(N_SUMMARY))

    def forward(self, sites: Tensor, summary: Tensor, is_row: Tensor) -> Tensor:
        """Embed; sites (batch, rows, columns, 37), summary (batch, rows, 44), is_row (batch, rows)."""
        before = torch.nn.functional.pad(sites, (0, 0, 1, 0))[:, :, :-1]
        x = self.site(torch.cat([before, sites], dim=-1))
        own = ((summary - self.mean) / self.scale).clamp(-5, 5)
        best = own.masked_fill(~is_row[..., None], -10.0).amax(dim=1, keepdim=True)
        head = self.candidate(torch.cat([own, (own - best).clamp(min=-5)], dim=-1))
        return torch.cat([head[:, :, None], x[:, :, 1:]], dim=2)


class RowAttention(nn.Module):
    """Self-attention along a candidate with one attention map for all candidates of a spectrum."""

    def __init__(self, p: AxialParams) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(p.dim, p.dim) for _ in range(4))
        self.heads, self.parity = p.heads, p.parity
        self.dropout = nn.Dropout(p.dropout)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Attend; x (batch, rows, columns, dim), padding (batch, rows, columns), True where padded."""
        b, r, c, d = x.shape
        h, w = self.heads, d // self.heads
        q = self.q(x).view(b, r, c, h, w)
        k, v = self.k(x).view(b, r, c, h, w), self.v(x).view(b, r, c, h, w)
        # Official scale: 1 / sqrt(width * rows); with ragged batches only the rows that exist count.
        rows = torch.full((b,), float(r), device=x.device) if self.parity else (~padding[:, :, 0]).sum(1).clamp(min=1)
        scale = (w * rows).rsqrt().to(x.dtype)
        q = q * (~padding)[..., None, None] * scale[:, None, None, None, None]
        logits = torch.einsum("brihd,brjhd->bhij", q, k if self.parity else k * (~padding)[..., None, None])
        masked = padding[:, 0] if self.parity else padding.all(dim=1)
        logits = logits.masked_fill(masked[:, None, None, :], -10000.0)
        weights = self.dropout(logits.softmax(dim=-1))
        return self.out(torch.einsum("bhij,brjhd->brihd", weights, v).reshape(b, r, c, d))


class ColumnAttention(nn.Module):
    """Self-attention between the candidates at one position."""

    def __init__(self, p: AxialParams) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(p.dim, p.dim) for _ in range(4))
        self.heads = p.heads
        self.dropout = nn.Dropout(p.dropout)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """Attend; shapes as in row attention."""
        b, r, c, d = x.shape
        if r == 1:
            return self.out(self.v(x))
        h, w = self.heads, d // self.heads
        q = self.q(x).view(b, r, c, h, w) * w**-0.5
        k, v = self.k(x).view(b, r, c, h, w), self.v(x).view(b, r, c, h, w)
        logits = torch.einsum("bichd,bjchd->bhcij", q, k)
        logits = logits.masked_fill(padding.transpose(1, 2)[:, None, :, None, :], -10000.0)
        weights = self.dropout(logits.softmax(dim=-1))
        return self.out(torch.einsum("bhcij,bjchd->bichd", weights, v).reshape(b, r, c, d))


class Layer(nn.Module):
    """Row, column and cross-attention, then feed-forward: pre-norm residual blocks."""

    def __init__(self, p: AxialParams) -> None:
        super().__init__()
        self.row, self.row_norm = RowAttention(p), nn.LayerNorm(p.dim)
        self.columns, self.crossing = p.columns, p.cross
        self.column, self.column_norm = ColumnAttention(p), nn.LayerNorm(p.dim)
        self.cross = nn.MultiheadAttention(p.dim, p.heads, dropout=p.dropout, batch_first=True)
        self.cross_norm = nn.LayerNorm(p.dim)
        self.fc1, self.fc2 = nn.Linear(p.dim, p.feedforward), nn.Linear(p.feedforward, p.dim)
        self.norm = nn.LayerNorm(p.dim)
        self.dropout = nn.Dropout(p.dropout)

    def forward(self, x: Tensor, padding: Tensor, memory: Tensor, memory_padding: Tensor) -> Tensor:
        """Transform (batch, rows, columns, dim)."""
        x = x + self.dropout(self.row(self.row_norm(x), padding))
        if self.columns:
            x = x + self.dropout(self.column(self.column_norm(x), padding))
        if self.crossing:
            x = x + self.dropout(self._cross(self.cross_norm(x), memory, memory_padding))
        return x + self.dropout(self.fc2(self.dropout(nn.functional.gelu(self.fc1(self.norm(x))))))

    def _cross(self, x: Tensor, memory: Tensor, memory_padding: Tensor) -> Tensor:
        # All rows of a spectrum ask the same memory: one long query sequence instead of one memory copy a row. The
        # attention is the module's own, written out: its way of splitting heads copies keys and values, which costs
        # as much as projecting them.
        b, r, c, d = x.shape
        m, h = self.cross, self.cross.num_heads
        weights, biases = m.in_proj_weight.split([d, 2 * d]), m.in_proj_bias.split([d, 2 * d])
        q = nn.functional.linear(x, weights[0], biases[0]).view(b, r * c, h, -1).transpose(1, 2)
        k, v = nn.functional.linear(memory, weights[1], biases[1]).view(b, -1, 2, h, d // h).permute(2, 0, 3, 1, 4)
        dropout = m.dropout if self.training else 0.0
        out = nn.functional.scaled_dot_product_attention(q, k, v, ~memory_padding[:, None, None], dropout)
        return m.out_proj(out.transpose(1, 2).reshape(b, r, c, d))


@dataclass(frozen=True)
class Prediction:
    """What the network says.

    Parameters
    ----------
    pmd
        Shape (batch, rows), lower is better.
    rmd
        Shape (batch, rows, columns); column 0 is the class column.
    match
        Shape (batch, rows): the logit that the candidate is right, against 0 for none; None without that head.
    """

    pmd: Tensor
    rmd: Tensor
    match: Tensor | None = None


class AxialModel(nn.Module):
    """The whole network."""

    def __init__(self, params: AxialParams) -> None:
        super().__init__()
        self.params = params
        self.encoder = SpectrumEncoder(params)
        self.embedding = Embedding(params)
        self.position = nn.Embedding(params.max_length + 2, params.dim, padding_idx=PAD)
        self.before, self.after = nn.LayerNorm(params.dim), nn.LayerNorm(params.dim)
        self.dropout = nn.Dropout(params.dropout)
        self.layers = nn.ModuleList(Layer(params) for _ in range(params.decoder_layers))
        self.pmd, self.rmd = nn.Linear(params.dim, 1), nn.Linear(params.dim, 1)
        self.evidence = Evidence(params) if params.evidence else None
        self.match = nn.Linear(params.dim, 1) if params.match else None
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        spectra: Tensor,
        mass: Tensor,
        charge: Tensor,
        tokens: Tensor,
        sites: Tensor | None = None,
        summary: Tensor | None = None,
    ) -> Prediction:
        """Predict PMD and RMD.

        Parameters
        ----------
        spectra
            (batch, n_peaks, 2), zero-padded.
        mass, charge
            (batch,): neutral precursor mass in Da, and charge.
        tokens
            (batch, rows, columns): class token first, gaps to the longest candidate of the spectrum, then padding.
        sites, summary
            With ``params.evidence``: (batch, rows, columns, 37) and (batch, rows, 44).
        """
        memory, memory_padding = self.encoder(spectra, mass)
        return self.decode(memory, memory_padding, mass, charge, tokens, sites, summary)

    def decode(
        self,
        memory: Tensor,
        memory_padding: Tensor,
        mass: Tensor,
        charge: Tensor,
        tokens: Tensor,
        sites: Tensor | None = None,
        summary: Tensor | None = None,
    ) -> Prediction:
        """Predict from the encoder's output."""
        padding = tokens == PAD
        positions = (~padding).cumsum(dim=2) * (~padding) + PAD
        x = self.embedding(tokens, mass, charge) + self.position(positions)
        if self.evidence is not None:
            if sites is None or summary is None:
                raise ValueError("this model needs evidence: sites and summary")
            x = x + self.evidence(sites, summary, ~padding[:, :, 0])
        x = self.dropout(self.before(x))
        x = x * (~padding)[..., None]
        for layer in self.layers:
            x = layer(x, padding, memory, memory_padding)
        x = self.after(x)
        head = x[:, :, 0]
        match = None if self.match is None else self.match(head)[..., 0]
        return Prediction(self.pmd(head)[..., 0], self.rmd(x)[..., 0], match)


def tokenise(candidates: Sequence[Sequence[str]], fold_isoleucine: bool = True) -> np.ndarray:
    """Turn one spectrum's candidates into token ids, shape (rows, longest + 1): class token, residues, gaps.

    Tokens outside the alphabet become ``<unk>``, whose mass is 0.
    """
    width = max(len(c) for c in candidates)
    out = np.full((len(candidates), width + 1), GAP, dtype=np.int64)
    out[:, 0] = CLS
    for row, candidate in zip(out, candidates, strict=True):
        for i, token in enumerate(candidate, 1):
            row[i] = _ID.get("L" if fold_isoleucine and token == "I" else token, UNK)
    return out


def preprocess(spectrum: Spectrum, max_peaks: int) -> np.ndarray:
    """Official preprocessing: m/z 50.5-4500, no precursor within 2 Da, most intense peaks, square root, unit norm.

    Returns
    -------
    ndarray
        Shape (n_peaks, 2), float32, m/z ascending; one dummy peak (0, 1) where nothing is left.
    """
    keep = (spectrum.mz >= 50.5) & (spectrum.mz <= 4500)
    for charge in range(1, spectrum.charge + 1):
        keep &= np.abs(spectrum.mz - (spectrum.mass / charge + PROTON)) > 2.0
    mz, intensity = spectrum.mz[keep], spectrum.intensity[keep]
    if mz.size > max_peaks:
        top = np.sort(np.argsort(-intensity, kind="stable")[:max_peaks])
        mz, intensity = mz[top], intensity[top]
    if not mz.size:
        return np.array([[0.0, 1.0]], dtype=np.float32)
    root = np.sqrt(intensity)
    return np.stack([mz, root / np.linalg.norm(root)], axis=1).astype(np.float32)


def collate(
    spectra: Sequence[np.ndarray],
    masses: Sequence[float],
    charges: Sequence[int],
    tokens: Sequence[np.ndarray],
    evidence: Sequence[tuple[Sequence[np.ndarray], np.ndarray]] | None = None,
) -> tuple[Tensor, ...]:
    """Pad a batch: spectra with zeros, tokens with padding in rows and columns, evidence with zeros."""
    n = len(spectra)
    peaks = np.zeros((n, max(s.shape[0] for s in spectra), 2), dtype=np.float32)
    ids = np.full((n, max(t.shape[0] for t in tokens), max(t.shape[1] for t in tokens)), PAD, dtype=np.int64)
    for i, (s, t) in enumerate(zip(spectra, tokens, strict=True)):
        peaks[i, : s.shape[0]] = s
        ids[i, : t.shape[0], : t.shape[1]] = t
    out = (
        torch.from_numpy(peaks),
        torch.tensor(masses, dtype=torch.float32),
        torch.tensor([min(max(c, 1), 10) for c in charges], dtype=torch.int64),
        torch.from_numpy(ids),
    )
    if evidence is None:
        return out
    sites = np.zeros((*ids.shape, N_SITE), dtype=np.float32)
    summary = np.zeros((*ids.shape[:2], N_SUMMARY), dtype=np.float32)
    for i, (rows, features) in enumerate(evidence):
        summary[i, : len(features)] = features
        for r, row in enumerate(rows):
            sites[i, r, 1 : len(row) + 1] = row
    return (*out, torch.from_numpy(sites), torch.from_numpy(summary))


def parameter_count(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(math.prod(p.shape) for p in model.parameters() if p.requires_grad)

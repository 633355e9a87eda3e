"""A small autoregressive engine on depthcharge: spectrum in, peptide out, N to C and C to N, by beam search.

Architecture as in Casanovo (Yilmaz et al., ICML 2022): depthcharge's spectrum encoder and analyte decoder, with the
precursor's mass and charge as the global token. Beams that overshoot the precursor mass are cut, and a peptide
counts only if it weighs what the precursor weighs. Both directions' peptides are pooled. No weights ship with the
package: fit them with ``task: transformer``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from depthcharge.encoders import FloatEncoder
from depthcharge.transformers import AnalyteTransformerDecoder, SpectrumTransformerEncoder
from torch import Tensor, nn

from rerank_core.errors import InputError, UsageError
from rerank_core.files import atomic_path
from rerank_peptide.axial import preprocess
from rerank_peptide.config import FitTransformer
from rerank_peptide.masses import ISOTOPE, TOKEN_MASSES, WATER, fold, is_terminal, parse_peptide
from rerank_peptide.spectra import Spectrum

TOKENS: Final = tuple(t for t in TOKEN_MASSES if not is_terminal(t) and t != "I")
_STOP: Final = len(TOKENS) + 1  # 0 pads
_ID: Final = {t: i for i, t in enumerate(TOKENS, 1)} | {"I": TOKENS.index("L") + 1}
_MASS: Final = np.array([0.0, *(TOKEN_MASSES[t] for t in TOKENS), 0.0])


class _Decoder(AnalyteTransformerDecoder):
    """depthcharge's decoder whose global token holds precursor mass, charge and direction."""

    def __init__(self, dim: int, heads: int, feedforward: int, layers: int) -> None:
        super().__init__(_STOP + 1, dim, heads, feedforward, layers, 0.0, True, 0)
        self.mass, self.charge, self.direction = FloatEncoder(dim), nn.Embedding(11, dim), nn.Embedding(2, dim)

    def global_token_hook(self, tokens: Tensor, *args: Tensor, **kwargs: Any) -> Tensor:
        mass, charge, direction = args
        return self.mass(mass[:, None])[:, 0] + self.charge(charge) + self.direction(direction)


class TransformerEngine(nn.Module):
    """Encoder and decoder of the engine; one network serves both directions."""

    def __init__(self, dim: int = 64, heads: int = 4, feedforward: int = 128, layers: int = 2) -> None:
        super().__init__()
        self.settings = {"dim": dim, "heads": heads, "feedforward": feedforward, "layers": layers}
        self.encoder = SpectrumTransformerEncoder(dim, heads, feedforward, layers)
        self.decoder = _Decoder(dim, heads, feedforward, layers)

    def encode(self, peaks: Tensor) -> tuple[Tensor, Tensor]:
        """Encode spectra of shape (batch, n_peaks, 2)."""
        return self.encoder(peaks[..., 0], peaks[..., 1])

    def logits(
        self, tokens: Tensor, mass: Tensor, charge: Tensor, direction: Tensor, memory: Tensor, padding: Tensor
    ) -> Tensor:
        """Next-token logits, shape (batch, length + 1, n_tokens); place i predicts token i."""
        embedded = self.decoder.embed(tokens, mass, charge, direction, memory=memory, memory_key_padding_mask=padding)
        return self.decoder.score_embeddings(embedded)


def _peaks(spectra: Sequence[Spectrum], limit: int) -> Tensor:
    prepared = [preprocess(s, limit) for s in spectra]
    out = np.zeros((len(prepared), max(len(p) for p in prepared), 2), np.float32)
    for row, p in zip(out, prepared, strict=True):
        row[: len(p)] = p
    return torch.from_numpy(out)


def candidates(
    spectra: Sequence[Spectrum], top: int = 20, model: str | None = None, *, ppm: float = 30.0
) -> list[list[tuple[tuple[str, ...], float]]]:
    """Sequence spectra by beam search in both directions.

    Parameters
    ----------
    model
        Folder of ``fit`` with ``task: transformer``.

    Returns
    -------
    For each spectrum (tokens, mean log-probability a token) pairs, best first.
    """
    if model is None:
        raise UsageError(
            "no transformer weights ship with the package; fit some (task: transformer) and name the folder with --model"
        )
    engine, max_peaks = load_engine(Path(model))
    out = []
    for spectrum in spectra:
        with torch.inference_mode():
            memory, padding = engine.encode(_peaks([spectrum], max_peaks))
            found = [x for d in (0, 1) for x in _beam(engine, spectrum, memory, padding, d, top, ppm)]
        best: dict[str, tuple[tuple[str, ...], float]] = {}
        for tokens, score in sorted(found, key=lambda x: -x[1]):
            best.setdefault(fold(tokens), (tokens, score))
        out.append(list(best.values())[:top])
    return out


def _beam(
    engine: TransformerEngine,
    spectrum: Spectrum,
    memory: Tensor,
    padding: Tensor,
    direction: int,
    beams: int,
    ppm: float,
) -> list[tuple[tuple[str, ...], float]]:
    target = spectrum.mass - WATER
    slack = ppm * 1e-6 * spectrum.mass
    live: list[tuple[list[int], float, float]] = [([], 0.0, 0.0)]  # ids, log-probability, mass
    done: list[tuple[tuple[str, ...], float]] = []
    for _ in range(int(target / 57) + 2):
        if not live:
            break
        n = len(live)
        tokens = torch.tensor([ids for ids, _, _ in live], dtype=torch.int64).reshape(n, -1)
        logits = engine.logits(
            tokens,
            torch.full((n,), spectrum.mass, dtype=torch.float32),
            torch.full((n,), min(spectrum.charge, 10)),
            torch.full((n,), direction),
            memory.expand(n, -1, -1),
            padding.expand(n, -1),
        )[:, -1]
        steps = logits.log_softmax(-1).double().numpy()
        grown = []
        for (ids, score, mass), step in zip(live, steps, strict=True):
            if any(abs(target - mass - k * ISOTOPE) < slack for k in (0, 1)):
                peptide = tuple(TOKENS[i - 1] for i in (ids if direction == 0 else ids[::-1]))
                done.append((peptide, (score + float(step[_STOP])) / (len(ids) + 1)))
            grown += [
                ([*ids, i], score + float(step[i]), mass + _MASS[i])
                for i in range(1, _STOP)
                if mass + _MASS[i] <= target + slack
            ]
        live = sorted(grown, key=lambda x: -x[1])[:beams]
    return sorted(done, key=lambda x: -x[1])[:beams]


def _training(config: FitTransformer) -> Iterator[tuple[Spectrum, list[int]]]:
    from rerank_peptide.lists import labelled

    for file, _, _ in labelled(config):
        for s in file.spectra:
            tokens = parse_peptide(file.labels[s.id])
            if all(t in _ID for t in tokens):  # terminal and rare modifications are left to other engines
                yield s, [_ID[t] for t in tokens]


def fit_transformer(config: FitTransformer, out: Path, *, resume: bool = True) -> None:
    """Train with teacher forcing on both directions and save ``transformer.safetensors``."""
    from rerank_peptide.axial_rerank import pick_device

    torch.manual_seed(config.seed)
    device = pick_device(config.device)
    engine = TransformerEngine(config.dim, config.heads, config.feedforward, config.layers).to(device)
    optimiser = torch.optim.AdamW(engine.parameters(), config.learning_rate)
    data = list(_training(config))
    if not data:
        raise InputError("no labelled spectrum with a peptide of the alphabet")
    checkpoint, start = out / "transformer-last.pt", 0
    if resume and checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["settings"] == engine.settings:
            engine.load_state_dict(state["model"])
            optimiser.load_state_dict(state["optimiser"])
            start = int(state["step"])
    out.mkdir(parents=True, exist_ok=True)
    for step in range(start, config.steps):
        rng = np.random.default_rng([config.seed, step])
        loss = _loss(
            engine, [data[i] for i in rng.integers(0, len(data), config.batch_size)], config.max_peaks, rng, device
        )
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(engine.parameters(), 1.5)
        optimiser.step()
        if step % 50 == 0:
            print(f"step {step} loss {float(loss):.3f}", file=sys.stderr, flush=True)
        if (step + 1) % 100 == 0 or step + 1 == config.steps:
            with atomic_path(checkpoint) as path:
                torch.save(
                    {
                        "model": engine.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1,
                        "settings": engine.settings,
                    },
                    path,
                )  # fmt: skip
    _save(out, engine.cpu(), config.max_peaks)


def _loss(
    engine: TransformerEngine,
    items: Sequence[tuple[Spectrum, list[int]]],
    limit: int,
    rng: np.random.Generator,
    device: str,
) -> Tensor:
    n = len(items)
    direction = rng.integers(0, 2, n)
    rows = [ids if d == 0 else ids[::-1] for (_, ids), d in zip(items, direction, strict=True)]
    width = max(map(len, rows))
    tokens = torch.zeros((n, width), dtype=torch.int64)
    target = torch.zeros((n, width + 1), dtype=torch.int64)
    for i, ids in enumerate(rows):
        tokens[i, : len(ids)] = torch.tensor(ids)
        target[i, : len(ids)] = torch.tensor(ids)
        target[i, len(ids)] = _STOP
    memory, padding = engine.encode(_peaks([s for s, _ in items], limit).to(device))
    logits = engine.logits(
        tokens.to(device),
        torch.tensor([s.mass for s, _ in items], dtype=torch.float32, device=device),
        torch.tensor([min(s.charge, 10) for s, _ in items], device=device),
        torch.from_numpy(direction).to(device),
        memory,
        padding,
    )
    return nn.functional.cross_entropy(logits.transpose(1, 2), target.to(device), ignore_index=0)


def _save(out: Path, engine: TransformerEngine, max_peaks: int) -> None:
    from safetensors.torch import save_file

    state = {k: v.contiguous() for k, v in engine.state_dict().items() if not k.endswith(("sin_term", "cos_term"))}
    with atomic_path(out / "transformer.safetensors") as path:
        save_file(state, str(path), {"settings": json.dumps(engine.settings | {"max_peaks": max_peaks})})


def load_engine(folder: Path) -> tuple[TransformerEngine, int]:
    """Read a fitted engine; returns it and the number of peaks it was fitted with.

    Raises
    ------
    InputError
        When the folder holds no such engine.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / "transformer.safetensors"
    try:
        with safe_open(str(path), "pt") as file:
            settings = json.loads((file.metadata() or {})["settings"])
            state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not a dict
        max_peaks = int(settings.pop("max_peaks"))
        engine = TransformerEngine(**settings)
        missing, unexpected = engine.load_state_dict(state, strict=False)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"holds no transformer engine: {error}", path) from error
    if unexpected or any(not k.endswith(("sin_term", "cos_term")) for k in missing):
        raise InputError("weights do not fit the architecture", path)
    return engine.eval(), max_peaks

"""Spectra and candidate files into requests; JSON of both; labels into gold."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rerank_core.errors import InputError
from rerank_core.types import Candidate, Dataset, FloatArray, Request
from rerank_peptide.masses import ISOTOPE, PeptideError, fold, parse_peptide, peptide_mass, to_proforma
from rerank_peptide.spectra import Spectrum, SpectrumFile, read_spectra
from rerank_peptide.tables import CandidateFile, Hit, Key, read_candidates

Peptide: TypeAlias = tuple[str, ...]
PeptideRequest: TypeAlias = Request[Spectrum, Peptide]


@dataclass
class Joined:
    """Requests, and what did not make it into them.

    Parameters
    ----------
    requests
        One a usable spectrum, in file order; a spectrum without candidates has none.
    engines
        Names that occur.
    notes
        Lines for a person: rows skipped, spectra skipped, spectra without candidates.
    """

    requests: list[PeptideRequest]
    engines: tuple[str, ...]
    notes: list[str] = field(default_factory=list)


class _Lookup:
    """Finds the spectrum that a key of a candidate file means."""

    def __init__(self, spectra: Sequence[Spectrum]) -> None:
        self.index = {str(s.index): s for s in spectra}
        self.scan = {str(s.scan): s for s in spectra if s.scan is not None}
        titles: dict[str, Spectrum | None] = {}
        for s in spectra:
            titles[s.title] = None if s.title in titles else s
        self.title = titles
        self.ambiguous = {t for t, s in titles.items() if s is None}

    def find(self, key: Key) -> Spectrum | None:
        kind, value = key
        if kind == "index":
            return self.index.get(value)
        if kind == "scan":
            return self.scan.get(value) or self.title.get(value)
        found = self.title.get(value)
        if found is not None or value in self.ambiguous:
            return found
        scan = re.search(r"(?:scan|index)=(\d+)", value)
        if scan:
            return self.scan.get(scan[1]) or self.index.get(scan[1])
        return self.index.get(value) if value.isdigit() else None


def join(spectra: SpectrumFile, files: Sequence[CandidateFile], limit: int | None = None) -> Joined:
    """Bring spectra and candidates together.

    Candidates that differ in I and L only, or that several engines propose, become one; the engines' ranks and scores
    stay as features ``rank:ENGINE`` and ``score:ENGINE``, and ``probability:ENGINE`` where some engine's scores are
    probabilities.

    Raises
    ------
    InputError
        When a file's candidates name no spectrum of the file, or do not weigh what the spectra weigh.
    """
    lookup = _Lookup(spectra.spectra)
    notes = _spectrum_notes(spectra)
    hits: dict[str, list[Hit]] = {s.id: [] for s in spectra.spectra}
    for file in files:
        notes += _collect(file, lookup, hits, spectra.path)
    engines = tuple(dict.fromkeys(h.engine for found in hits.values() for h in found))
    quantile = _quantiles([h for found in hits.values() for h in found]) if len(engines) > 1 else None
    probability = {e: f for e in engines if (f := _probability_scale([_scores(h, e) for h in hits.values()]))}
    requests = [_request(s, hits[s.id], quantile, probability, limit) for s in spectra.spectra]
    others = [e for e in engines if e not in probability]
    if probability and others:
        requests = _with_beliefs(requests, others)
    empty = [r.id for r in requests if not r.candidates]
    if empty:
        shown = ", ".join(empty[:10]) + (" ..." if len(empty) > 10 else "")
        notes.append(f"{len(empty)} of {len(requests)} spectra have no candidate (index {shown})")
    return Joined(requests, engines, notes)


def _spectrum_notes(spectra: SpectrumFile) -> list[str]:
    notes = []
    if spectra.skipped:
        shown = "; ".join(f"{i} ({t}): {why}" for i, t, why in spectra.skipped[:5])
        notes.append(f"{len(spectra.skipped)} spectra skipped: {shown}")
    titles = [s.title for s in spectra.spectra]
    doubles = len(titles) - len(set(titles))
    if doubles:
        notes.append(
            f"{doubles} spectra repeat an earlier title; files that name spectra by title cannot reach these titles"
        )
    return notes


def _collect(file: CandidateFile, lookup: _Lookup, hits: dict[str, list[Hit]], spectra_path: str) -> list[str]:
    lost, fits, placed = 0, 0, 0
    for hit in file.hits:
        spectrum = lookup.find(hit.key)
        if spectrum is None:
            lost += 1
            continue
        placed += 1
        off = spectrum.mass - peptide_mass(hit.tokens)
        fits += min(abs(off - k * ISOTOPE) for k in (-1, 0, 1, 2)) < max(0.05, 1e-4 * spectrum.mass)
        hits[spectrum.id].append(hit)
    if not placed:
        raise InputError(
            f"none of its {len(file.hits)} candidates names a spectrum of {spectra_path}; are these another file's?",
            file.path,
        )
    if placed >= 20 and fits < 0.1 * placed:
        raise InputError(
            f"only {fits} of {placed} candidates weigh what their spectra in {spectra_path} weigh; are these another "
            "file's?",
            file.path,
        )
    notes = []
    if lost:
        notes.append(f"{file.path}: {lost} candidates name no usable spectrum and were left out")
    for reason, count in file.skipped.most_common():
        notes.append(f"{file.path}: {count} rows: {reason}, e.g. {file.skipped_examples[reason]}")
    return notes


def _quantiles(hits: Iterable[Hit]) -> dict[str, np.ndarray]:
    scores: dict[str, list[float]] = {}
    for h in hits:
        if h.score is not None:
            scores.setdefault(h.engine, []).append(h.score)
    return {e: np.sort(np.array(v)) for e, v in scores.items()}


def _scores(hits: Iterable[Hit], engine: str) -> list[float | None]:
    return [h.score for h in hits if h.engine == engine]


def _probability_scale(lists: Iterable[Sequence[float | None]]) -> Callable[[float], float] | None:
    """Return what turns an engine's scores into probabilities, or None where they are something else.

    Beam search reports a sequence's (log-)probability, other engines numbers of their own. Probabilities of one spectrum's
    candidates sum to 1 at most, in every list; a list of one tells nothing. A sum that is tiny everywhere is no
    probability either, but some negative score: at least a twentieth must lie on the candidates on average.
    """
    several = [x for x in lists if len(x) > 1]
    if not several or any(s is None for x in several for s in x):
        return None
    for scale, low, high in ((math.exp, -math.inf, 0.0), (float, 0.0, 1.0)):
        if all(s is not None and low <= s <= high for x in several for s in x):
            sums = np.array([sum(scale(s) for s in x if s is not None) for x in several])
            return scale if sums.max() <= 1.001 and sums.mean() >= 0.05 else None
    return None


def _with_beliefs(requests: Sequence[PeptideRequest], engines: Sequence[str]) -> list[PeptideRequest]:
    """Give engines that report no probability one: the share of what is believed true that they propose, equally divided.

    That share is seen where another engine believes in its first candidate: how often, weighted by that belief, this engine
    proposes it too.
    """
    known, total = dict.fromkeys(engines, 0.5), 1.0
    for r in requests:
        belief = np.array([sum(v for k, v in c.features.items() if k.startswith("probability:")) for c in r.candidates])
        if belief.any():
            top = r.candidates[int(belief.argmax())].features
            total += belief.max()
            for e in engines:
                known[e] += belief.max() * (f"rank:{e}" in top)
    out = []
    for r in requests:
        each = {e: known[e] / total / max(1, sum(f"rank:{e}" in c.features for c in r.candidates)) for e in engines}
        shares = [{f"probability:{e}": p for e, p in each.items() if f"rank:{e}" in c.features} for c in r.candidates]
        believed = (replace(c, features={**c.features, **s}) for c, s in zip(r.candidates, shares, strict=True))
        out.append(replace(r, candidates=tuple(believed)))
    return out


def _request(
    spectrum: Spectrum,
    hits: Sequence[Hit],
    quantile: Mapping[str, np.ndarray] | None,
    probability: Mapping[str, Callable[[float], float]],
    limit: int | None,
) -> PeptideRequest:
    merged: dict[str, dict[str, Any]] = {}
    for hit in sorted(hits, key=lambda h: h.rank):
        entry = merged.setdefault(
            fold(hit.tokens), {"tokens": hit.tokens, "features": {}, "scores": [], "rank": hit.rank}
        )
        if hit.score is not None and hit.engine in probability:
            name = f"probability:{hit.engine}"
            entry["features"][name] = entry["features"].get(name, 0.0) + probability[hit.engine](hit.score)
        name = f"rank:{hit.engine}"
        if name in entry["features"]:
            continue
        entry["features"][name] = float(hit.rank)
        if hit.score is not None:
            entry["features"][f"score:{hit.engine}"] = hit.score
            if quantile is None:
                entry["scores"].append(hit.score)
            else:
                known = quantile[hit.engine]
                entry["scores"].append(float(np.searchsorted(known, hit.score, side="right") / known.size))
    candidates = [
        Candidate(to_proforma(e["tokens"]), e["tokens"], max(e["scores"]) if e["scores"] else None, e["features"])
        for e in merged.values()
    ]
    if any(c.score is not None for c in candidates):
        worst = min(c.score for c in candidates if c.score is not None)
        candidates = [
            c if c.score is not None else Candidate(c.id, c.content, worst - 1e-6, c.features) for c in candidates
        ]
        order = sorted(range(len(candidates)), key=lambda i: -(candidates[i].score or 0.0))
        candidates = [candidates[i] for i in order]
    return Request(spectrum.id, spectrum, tuple(candidates[:limit]))


def log_prior(request: PeptideRequest) -> FloatArray:
    """What the engines believe of each candidate, natural logarithm, shape (n_candidates,).

    The engines' mean probability (features ``probability:ENGINE``), relative to a candidate of average probability; zeros where
    no engine reports any.
    """
    n = len(request.candidates)
    believed = [[v for k, v in c.features.items() if k.startswith("probability:")] for c in request.candidates]
    if n < 2 or not any(believed):
        return np.zeros(n)
    out = np.log(np.maximum([sum(v) for v in believed], 1e-12))
    return out - np.log(np.mean(np.exp(out)))


def believed_share(request: PeptideRequest) -> float | None:
    """How probable the engines hold it that one of the candidates is right; of several the largest, None where none says."""
    engines = {k for c in request.candidates for k in c.features if k.startswith("probability:")}
    sums = [sum(c.features.get(e, 0.0) for c in request.candidates) for e in engines]
    return min(max(sums), 1.0) if sums else None


def gold_of(requests: Iterable[PeptideRequest], labels: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Return gains: 1 for a candidate that matches the label in every residue (0.5/0.1 Da), for labelled spectra."""
    from rerank_peptide.matching import peptide_match

    gold = {}
    for r in requests:
        if r.id in labels:
            truth = parse_peptide(labels[r.id])
            gold[r.id] = {c.id: float(peptide_match(truth, c.content)) for c in r.candidates}
    return gold


def load_requests(
    spectra: str | Path, candidates: Mapping[str, str | Path], limit: int | None = None
) -> tuple[Joined, SpectrumFile]:
    """Read spectra and candidate files and join them; ``candidates`` maps engine names to files."""
    file = read_spectra(spectra)
    return join(file, [read_candidates(p, n) for n, p in candidates.items()], limit), file


def load(folder: Path) -> Dataset[Spectrum, Peptide]:
    """Read a data folder (``spectra/*.mgf.gz``, ``candidates/compnovocid_candidates.parquet``) for ablations."""
    requests: list[PeptideRequest] = []
    gold: dict[str, Mapping[str, float]] = {}
    splits: dict[str, str] = {}
    for name in ("real_hcd_train", "real_hcd_dev"):
        joined, file = load_requests(
            folder / "spectra" / f"{name}.mgf.gz",
            {"compnovo": folder / "candidates" / "compnovocid_candidates.parquet"},
        )
        renamed = [Request(f"{name}:{r.id}", r.query, r.candidates) for r in joined.requests if r.candidates]
        requests += renamed
        gold.update(gold_of(renamed, {f"{name}:{i}": label for i, label in file.labels.items()}))
        splits.update({f"{name}:{i}": fold(parse_peptide(label)) for i, label in file.labels.items()})
    return Dataset(requests, gold, {r.id: splits[r.id] for r in requests})


class PeptideCodec:
    """Spectra and peptides to JSON and back."""

    def encode_query(self, query: Spectrum) -> Any:
        """Return title, precursor, charge and peaks."""
        return {
            "index": query.index, "title": query.title, "precursor_mz": query.precursor_mz, "charge": query.charge,
            "scan": query.scan, "retention_time": query.retention_time,
            "mz": query.mz.tolist(), "intensity": query.intensity.tolist(),
        }  # fmt: skip

    def decode_query(self, value: Any) -> Spectrum:
        """Read a spectrum."""
        try:
            return Spectrum(
                int(value["index"]), str(value["title"]), np.asarray(value["mz"], np.float64),
                np.asarray(value["intensity"], np.float64), float(value["precursor_mz"]), int(value["charge"]),
                value.get("scan"), value.get("retention_time"),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"a spectrum needs index, title, mz, intensity, precursor_mz, charge: {error}") from error

    def encode_content(self, content: Peptide) -> str:
        """Return ProForma."""
        return to_proforma(content)

    def decode_content(self, value: Any) -> Peptide:
        """Read a peptide in any dialect."""
        try:
            return parse_peptide(str(value))
        except PeptideError as error:
            raise InputError(str(error)) from error


def tell(notes: Iterable[str]) -> None:
    """Print notes on stderr, one line each."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)

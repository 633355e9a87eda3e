"""Residues, modifications and masses; peptide text in every dialect the engines write.

A peptide is a tuple of *tokens*: one a residue, ``"M+15.995"`` for a modified one, and a leading ``"+42.011"`` for a
modified N-terminus (it is a token of its own, as in Casanovo and RankNovo). Masses are monoisotopic, in Da. The
28-token alphabet of the DeepNovo family has the masses of the RankNovo source (``BEAM-Labs/denovo``); any other
modification is kept as residue plus delta.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from rerank_core.types import FloatArray

PROTON: Final = 1.007276
WATER: Final = 18.0105647
AMMONIA: Final = 17.0265491
CARBON_MONOXIDE: Final = 27.9949146
ISOTOPE: Final = 1.00335

RESIDUES: Final[dict[str, float]] = {
    "G": 57.021464, "A": 71.037114, "S": 87.032028, "P": 97.052764, "V": 99.068414, "T": 101.047670,
    "C": 103.009184, "L": 113.084064, "I": 113.084064, "N": 114.042927, "D": 115.026943, "Q": 128.058578,
    "K": 128.094963, "E": 129.042593, "M": 131.040485, "H": 137.058912, "F": 147.068414, "R": 156.101111,
    "Y": 163.063329, "W": 186.079313,
}  # fmt: skip

TOKEN_MASSES: Final[dict[str, float]] = {
    **{r: m for r, m in RESIDUES.items() if r != "C"},
    "C+57.021": 160.030649, "M+15.995": 147.035400, "N+0.984": 115.026943, "Q+0.984": 129.042594,
    "+42.011": 42.010565, "+43.006-17.027": 25.980265, "+43.006": 43.005814, "-17.027": -17.026549,
}  # fmt: skip
"""The alphabet of the DeepNovo family: no free cysteine, because it is carbamidomethylated in every one of its sets."""

UNIMOD: Final[dict[int, tuple[str, float]]] = {
    1: ("Acetyl", 42.010565), 4: ("Carbamidomethyl", 57.021464), 5: ("Carbamyl", 43.005814),
    7: ("Deamidated", 0.984016), 21: ("Phospho", 79.966331), 27: ("Glu->pyro-Glu", -18.010565),
    28: ("Gln->pyro-Glu", -17.026549), 34: ("Methyl", 14.015650), 35: ("Oxidation", 15.994915),
    36: ("Dimethyl", 28.031300), 37: ("Trimethyl", 42.046950), 39: ("Methylthio", 45.987721),
    121: ("GG", 114.042927), 122: ("Formyl", 27.994915), 214: ("iTRAQ4plex", 144.102063),
    312: ("Cysteinyl", 119.004099), 385: ("Ammonia-loss", -17.026549), 737: ("TMT6plex", 229.162932),
}  # fmt: skip

_BY_NAME: Final = {name.lower(): delta for name, delta in UNIMOD.values()} | {
    "cam": 57.021464, "ox": 15.994915, "deam": 0.984016, "ac": 42.010565, "carbamidomethylation": 57.021464,
    "deamidation": 0.984016, "acetylation": 42.010565, "carbamylation": 43.005814,
}  # fmt: skip
_MOD_LETTER: Final = {"C": 57.021464, "M": 15.994915, "N": 0.984016, "Q": 0.984016}  # DeepNovo's "Cmod", "Mmod" ...
_TERMINAL: Final = {42.011: "+42.011", 43.006: "+43.006", -17.027: "-17.027", 25.979: "+43.006-17.027"}
_NAMED: Final = {"C+57.021", "M+15.995", "N+0.984", "Q+0.984"}
_EXACT: Final = {round(d, 3): d for _, d in UNIMOD.values()}


class PeptideError(ValueError):
    """A text is no peptide this library can weigh; the message says which part."""


_DELTA = r"[+-]\d*\.?\d+"
_UNIT = re.compile(
    rf"(?P<residue>[A-Z])(?P<mods>(?:\[[^\]]*\]|\([^)]*\)|{_DELTA}(?:\[[^\]]*\])?|[+-]\[[^\]]*\]|mod|\(ox\))*)"
)
_PREFIX = re.compile(rf"^(?P<mods>(?:n?\[[^\]]*\]|n?\([^)]*\)|{_DELTA})+)-?")
_PART = re.compile(rf"\[(?P<square>[^\]]*)\]|\((?P<round>[^)]*)\)|(?P<delta>{_DELTA})|(?P<word>mod)|[+-](?=\[)|n")


def _delta(name: str, residue: str, text: str) -> float:
    name = name.strip()
    if re.fullmatch(rf"(?:{_DELTA}){{2,}}", name):
        return sum(_delta(part, residue, text) for part in re.findall(_DELTA, name))
    if re.fullmatch(r"[+-]?\d*\.?\d+", name):
        value = float(name)
        return _EXACT.get(round(value, 3), _nearest(value))
    upper = name.upper()
    if upper.startswith(("UNIMOD:", "U:")) and upper.split(":", 1)[1].isdigit():
        number = int(upper.split(":", 1)[1])
        if number in UNIMOD:
            return UNIMOD[number][1]
        raise PeptideError(f"unknown modification {name!r} in {text!r}; give its mass, e.g. {residue}[+79.966]")
    key = name.lower().removeprefix("u:").split("|")[0]
    if key in _BY_NAME:
        return _BY_NAME[key]
    raise PeptideError(f"unknown modification {name!r} in {text!r}; give its mass, e.g. {residue}[+79.966]")


def _nearest(value: float) -> float:
    # Engines round: "+.98", "+15.99", "+57.02". Accept a known delta within the rounding of two decimals.
    close = [d for d in _EXACT.values() if abs(d - value) <= 0.0061]
    return min(close, key=lambda d: abs(d - value)) if close else value


def _deltas(mods: str, residue: str, text: str) -> list[float]:
    out = []
    for part in _PART.finditer(mods):
        if part["word"]:
            if residue not in _MOD_LETTER:
                raise PeptideError(f"no standard modification of {residue!r} is known in {text!r}")
            out.append(_MOD_LETTER[residue])
        else:
            name = part["square"] if part["square"] is not None else part["round"] or part["delta"]
            if name:
                out.append(_delta(name, residue, text))
    return out


def _residue_token(residue: str, deltas: Sequence[float], text: str) -> str:
    if residue not in RESIDUES:
        raise PeptideError(f"unknown residue {residue!r} in {text!r}; the 20 standard amino acids are supported")
    if residue == "C" and not deltas:
        return "C+57.021"
    total = sum(deltas)
    if residue == "C" and abs(total) < 5e-4:
        return "C+0.000"
    return residue if abs(total) < 5e-4 else f"{residue}{total:+.3f}"


def _terminal_token(deltas: Sequence[float]) -> str | None:
    total = sum(deltas)
    if abs(total) < 5e-4:
        return None
    for known, token in _TERMINAL.items():
        if abs(known - total) < 0.0061:
            return token
    return f"{total:+.3f}"


@lru_cache(maxsize=200_000)
def parse_peptide(text: str) -> tuple[str, ...]:
    """Read a peptide in ProForma, Casanovo, PEAKS, DeepNovo or InstaNovo style.

    Parameters
    ----------
    text
        ``[UNIMOD:1]-PEM[Oxidation]K``, ``+42.011PEM+15.995K``, ``PEM(+15.99)K``, ``P,E,Mmod,K`` ... A charge
        (``/2``) at the end is dropped. A bare ``C`` is read as carbamidomethylated, as every engine of the family
        means it; write ``C[+0]`` for a free cysteine.

    Returns
    -------
    Tokens, the N-terminal modification first where there is one.

    Raises
    ------
    PeptideError
        On an empty text, a residue outside the 20 standard ones, or a modification without a known mass.
    """
    body = text.strip().replace(",", "").replace(" ", "")
    body = re.sub(r"/\d+$", "", body)
    if not body or body.lower() in {"null", "nan", "none"}:
        raise PeptideError("empty peptide")
    tokens: list[str] = []
    terminal: list[float] = []
    position = 0
    head = _PREFIX.match(body)
    if head:
        terminal = _deltas(head["mods"], "N-terminus", text)
        position = head.end()
    while position < len(body):
        unit = _UNIT.match(body, position)
        if unit is None:
            raise PeptideError(f"cannot read {body[position : position + 8]!r} in peptide {text!r}")
        deltas = _deltas(unit["mods"], unit["residue"], text)
        if not tokens and len(deltas) == 1 and round(deltas[0], 3) in {42.011, 43.006, -17.027}:
            terminal, deltas = [*terminal, *deltas], []  # these sit on the N-terminus whatever residue they are put on
        tokens.append(_residue_token(unit["residue"], deltas, text))
        position = unit.end()
    if not tokens:
        raise PeptideError(f"no residues in {text!r}")
    first = _terminal_token(terminal)
    return (first, *tokens) if first else tuple(tokens)


@lru_cache(maxsize=4096)
def token_mass(token: str) -> float:
    """Return a token's monoisotopic mass in Da.

    Raises
    ------
    PeptideError
        When the token is not a residue with an optional delta, or a terminal delta.
    """
    if token in TOKEN_MASSES:
        return TOKEN_MASSES[token]
    match = re.fullmatch(rf"([A-Z]?)((?:{_DELTA})*)", token)
    if not match or (match[1] and match[1] not in RESIDUES) or not (match[1] or match[2]):
        raise PeptideError(f"unknown token {token!r}")
    deltas = [_EXACT.get(round(float(d), 3), float(d)) for d in re.findall(_DELTA, match[2])]
    return (RESIDUES[match[1]] if match[1] else 0.0) + sum(deltas)


def masses_of(tokens: Iterable[str]) -> FloatArray:
    """Return the tokens' masses, shape (n_tokens,)."""
    return np.array([token_mass(t) for t in tokens], dtype=np.float64)


def residue_masses(tokens: Sequence[str]) -> FloatArray:
    """Return one mass a residue, shape (n_residues,): a terminal modification is added to the first residue."""
    masses = masses_of(tokens)
    if is_terminal(tokens[0]) and len(masses) > 1:
        masses[1] += masses[0]
        return masses[1:]
    return masses


def is_terminal(token: str) -> bool:
    """Say whether a token is a terminal modification rather than a residue."""
    return token[0] in "+-"


def peptide_mass(tokens: Iterable[str]) -> float:
    """Return the neutral monoisotopic mass in Da, water included."""
    return float(sum(token_mass(t) for t in tokens)) + WATER


def mz(tokens: Iterable[str], charge: int) -> float:
    """Return the m/z of the intact peptide ion."""
    return peptide_mass(tokens) / charge + PROTON


def fold(tokens: Sequence[str]) -> str:
    """Return a key that is equal for peptides no mass spectrometer of this kind tells apart by I and L."""
    return "".join(tokens).replace("I", "L")


def plain(tokens: Sequence[str]) -> str:
    """Return the bare residue letters."""
    return "".join(t[0] for t in tokens if not is_terminal(t))


def to_casanovo(tokens: Sequence[str]) -> str:
    """Return the peptide as the DeepNovo family writes it: ``+42.011PEM+15.995K``."""
    return "".join(tokens)


def to_proforma(tokens: Sequence[str]) -> str:
    """Return the peptide in ProForma 2.0 with UNIMOD accessions where the mass is one of the common ones."""
    out = []
    for token in tokens:
        if is_terminal(token):
            out.append("".join(f"[{_tag(d)}]" for d in re.findall(_DELTA, token)) + "-")
        else:
            delta = token[1:]
            out.append(token[0] + (f"[{_tag(delta)}]" if delta else ""))
    return "".join(out)


_TAGS: Final = {"+57.021": 4, "+15.995": 35, "+0.984": 7, "+42.011": 1, "+43.006": 5, "-17.027": 385, "+79.966": 21}


def _tag(delta: str) -> str:
    return f"UNIMOD:{_TAGS[delta]}" if delta in _TAGS else delta


def modifications(tokens: Sequence[str]) -> list[tuple[int, float]]:
    """Return (position, delta) of each modification: 0 is the N-terminus, residues count from 1."""
    out: list[tuple[int, float]] = []
    position = 0
    for token in tokens:
        if is_terminal(token):
            out.extend((0, token_mass(d)) for d in re.findall(_DELTA, token))
            continue
        position += 1
        if len(token) > 1:
            out.append((position, token_mass(token) - RESIDUES[token[0]]))
    return out

"""OpenMS's CompNovoCID as a first-stage engine, where it is installed (Debian package ``topp``, OpenMS up to 2.8).

CompNovo (Bertsch et al., Electrophoresis 2009) is a divide-and-conquer de novo engine without trained weights. The
wrapper writes mzML with OpenMS's own converter, edits the tool's parameter file, and reads the hits back.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rerank_core.errors import RerankError
from rerank_peptide.masses import PeptideError, parse_peptide
from rerank_peptide.spectra import Spectrum, write_mgf


@dataclass(frozen=True)
class CompNovoParams:
    """Settings; tolerances in Da."""

    fragment_tolerance: float = 0.02
    precursor_tolerance: float = 0.03
    tryptic_only: bool = False
    timeout: float = 3600.0


def available() -> bool:
    """Say whether the tools are on the PATH."""
    return shutil.which("CompNovoCID") is not None and shutil.which("FileConverter") is not None


def _run(command: Sequence[str], timeout: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise RerankError(f"{command[0]} took longer than {timeout:.0f} s; give it fewer spectra") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
        raise RerankError(f"{command[0]} failed: {last[0]}")


def _ini(folder: Path, params: CompNovoParams, top: int) -> Path:
    from lxml import etree

    path = folder / "compnovo.ini"
    _run(["CompNovoCID", "-write_ini", str(path)], 60)
    tree = etree.parse(str(path), etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True))
    values = {
        "tryptic_only": "true" if params.tryptic_only else "false",
        "precursor_mass_tolerance": str(params.precursor_tolerance),
        "fragment_mass_tolerance": str(params.fragment_tolerance),
        "number_of_hits": str(top),
    }
    lists = {"fixed_modifications": "Carbamidomethyl (C)", "variable_modifications": "Oxidation (M)"}
    for node in tree.iter("ITEM"):
        if node.get("name") in values:
            node.set("value", values[node.get("name")])
    for node in tree.iter("ITEMLIST"):
        if node.get("name") in lists:
            for child in list(node):
                node.remove(child)
            etree.SubElement(node, "LISTITEM", value=lists[node.get("name")])
    tree.write(str(path), xml_declaration=True, encoding="ISO-8859-1")
    return path


def candidates(
    spectra: Sequence[Spectrum], top: int = 20, params: CompNovoParams | None = None
) -> list[list[tuple[tuple[str, ...], float]]]:
    """Sequence spectra with CompNovoCID.

    Returns
    -------
    For each spectrum (tokens, score) pairs, best first; empty where the tool gave nothing.

    Raises
    ------
    RerankError
        When the tools are not installed, fail, or take too long.
    """
    params = params or CompNovoParams()
    if not available():
        raise RerankError(
            "CompNovoCID and FileConverter are not on the PATH; install OpenMS 2.x (Debian: apt install topp)"
        )
    with tempfile.TemporaryDirectory(prefix="compnovo-") as name:
        folder = Path(name)
        # Retention time carries the position through: CompNovo reports nothing else of the spectrum's identity.
        numbered = [
            Spectrum(i, f"i={i}", s.mz, s.intensity, s.precursor_mz, s.charge, i + 1, float(i + 1))
            for i, s in enumerate(spectra)
        ]
        write_mgf(folder / "in.mgf", numbered)
        _run(["FileConverter", "-in", str(folder / "in.mgf"), "-out", str(folder / "in.mzML")], params.timeout)
        ini = _ini(folder, params, top)
        command = ["CompNovoCID", "-ini", str(ini), "-in", str(folder / "in.mzML"), "-out", str(folder / "out.idXML")]
        _run(command, params.timeout)
        return _read(folder / "out.idXML", len(spectra), top)


def _read(path: Path, n: int, top: int) -> list[list[tuple[tuple[str, ...], float]]]:
    from pyteomics.openms import idxml

    found: list[list[tuple[tuple[str, ...], float]]] = [[] for _ in range(n)]
    with idxml.IDXML(str(path), use_index=False) as reader:
        for item in reader:
            position = round(float(item["RT"])) - 1
            if not 0 <= position < n:
                continue
            for hit in item.get("PeptideHit", []):
                try:
                    tokens = parse_peptide(str(hit["sequence"]).lstrip("."))
                except PeptideError:
                    continue
                found[position].append((tokens, float(hit["score"])))
    return [sorted(hits, key=lambda h: -h[1])[:top] for hits in found]

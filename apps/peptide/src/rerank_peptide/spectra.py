"""Tandem mass spectra: reading MGF and mzML, cleaning, centroiding.

A spectrum keeps its position in the file (``index``), because that is what engines' result files refer to; titles
may repeat or be absent. Labels that a file carries are kept apart from the spectra, so that nothing that ranks can
see them.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rerank_core.errors import InputError
from rerank_core.types import FloatArray
from rerank_peptide.masses import PROTON

MAX_PEAKS: Final = 2000
"""Peaks kept of a spectrum while reading, most intense first: more is noise, and 100,000 would only cost time."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """One fragment spectrum.

    Parameters
    ----------
    index
        Position in the file, from 0.
    title
        As in the file; by default the index.
    mz, intensity
        Shape (n_peaks,), m/z ascending, intensities positive.
    precursor_mz
        Of the isolated ion.
    charge
        Of the precursor, at least 1.
    scan
        Scan number where the file gives one.
    retention_time
        In seconds, where the file gives one.
    """

    index: int
    title: str
    mz: FloatArray
    intensity: FloatArray
    precursor_mz: float
    charge: int
    scan: int | None = None
    retention_time: float | None = None

    @property
    def id(self) -> str:
        """The request id: the index as text."""
        return str(self.index)

    @property
    def mass(self) -> float:
        """Neutral precursor mass in Da."""
        return (self.precursor_mz - PROTON) * self.charge


@dataclass(frozen=True)
class SpectrumFile:
    """What a file held.

    Parameters
    ----------
    spectra
        In file order.
    labels
        Spectrum id -> peptide text, from ``SEQ=``, where the file is annotated.
    skipped
        (index, title, reason) of every spectrum that cannot be used.
    path
        Where it came from.
    """

    spectra: list[Spectrum]
    labels: Mapping[str, str] = field(default_factory=dict)
    skipped: Sequence[tuple[int, str, str]] = ()
    path: str = ""


def clean(mz: NDArray, intensity: NDArray, limit: int = MAX_PEAKS) -> tuple[FloatArray, FloatArray]:
    """Drop peaks that are no peaks, sort by m/z, centroid profile data, keep the ``limit`` most intense.

    Parameters
    ----------
    mz, intensity
        Shape (n,), in any order; NaN, infinite, negative and zero values are dropped.
    """
    mz, intensity = np.asarray(mz, np.float64), np.asarray(intensity, np.float64)
    good = np.isfinite(mz) & np.isfinite(intensity) & (intensity > 0) & (mz > 0)
    profile = _is_profile(mz, intensity)
    if profile:
        order = np.argsort(mz, kind="stable")
        mz, intensity = _centroid(mz[order], np.nan_to_num(intensity[order]))
    else:
        mz, intensity = mz[good], intensity[good]
    if mz.size > limit:
        keep = np.sort(np.argsort(-intensity, kind="stable")[:limit])
        mz, intensity = mz[keep], intensity[keep]
    order = np.argsort(mz, kind="stable")
    return mz[order], intensity[order]


def _is_profile(mz: FloatArray, intensity: FloatArray) -> bool:
    # In profile mode the spacing of most points is a few mDa and neighbours differ little; a centroided spectrum of
    # any instrument has a median spacing far above 0.05.
    if mz.size < 200:
        return False
    spacing = np.diff(np.sort(mz))
    spacing = spacing[spacing > 0]
    return bool(
        spacing.size and np.median(spacing) < 0.02 and np.median(spacing / np.sort(mz)[1 : spacing.size + 1]) < 4e-5
    )


def _centroid(mz: FloatArray, intensity: FloatArray) -> tuple[FloatArray, FloatArray]:
    # One peak a run of points between local minima: intensity-weighted m/z, height of the highest point.
    gap = np.concatenate([[True], np.diff(mz) > np.maximum(0.02, 4e-5 * mz[1:])])
    left = np.concatenate([[0.0], intensity[:-1]])
    right = np.concatenate([intensity[1:], [0.0]])
    valley = (intensity <= left) & (intensity < right)
    start = gap | valley
    group = np.cumsum(start) - 1
    total = np.bincount(group, intensity)
    centre = np.bincount(group, intensity * mz)
    height = np.zeros(total.size)
    np.maximum.at(height, group, intensity)
    good = (total > 0) & (height > 0)
    return centre[good] / total[good], height[good]


def read_spectra(path: str | Path) -> SpectrumFile:
    """Read an MGF or mzML file, gzipped or not.

    Spectra without usable charge, precursor or peaks are not dropped in silence: they stand in ``skipped``.

    Raises
    ------
    InputError
        When the file is absent, cut off, of an unknown kind, or holds no usable spectrum.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file; give an MGF or mzML file", path)
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".mgf"):
        entries = _read_mgf(path)
    elif name.endswith(".mzml"):
        entries = _read_mzml(path)
    else:
        raise InputError("unknown spectrum format; give .mgf or .mzML, optionally .gz", path)
    spectra: list[Spectrum] = []
    labels: dict[str, str] = {}
    skipped: list[tuple[int, str, str]] = []
    for index, (fields, mz, intensity) in enumerate(entries):
        spectrum, reason = _build(index, fields, mz, intensity)
        if spectrum is None:
            skipped.append((index, str(fields.get("title") or index), reason))
            continue
        spectra.append(spectrum)
        if fields.get("seq"):
            labels[spectrum.id] = str(fields["seq"])
    if not spectra:
        why = f"; first: spectrum {skipped[0][0]}: {skipped[0][2]}" if skipped else ""
        raise InputError(f"no usable spectrum{why}", path)
    return SpectrumFile(spectra, labels, skipped, str(path))


def stream_spectra(path: str | Path, batch: int = 2000) -> Iterator[SpectrumFile]:
    """Read annotated spectra in batches, so that a collection may be larger than memory.

    Parameters
    ----------
    path
        A Parquet file, a folder of them or a Lance dataset as depthcharge writes them (``spectra_to_parquet``,
        ``SpectrumDataset``: columns ``precursor_mz``, ``precursor_charge``, ``mz_array``, ``intensity_array`` and the
        peptide as ``seq``, ``sequence`` or ``peptide``); any other file is read whole by `read_spectra`.

    Raises
    ------
    InputError
        When columns are missing or nothing usable is there.
    """
    path = Path(path)
    names = path.name.lower()
    if not names.endswith((".parquet", ".pq", ".lance")) and not path.is_dir():
        yield read_spectra(path)
        return
    if not path.exists():
        raise InputError("no such file", path)
    index = 0
    for rows in _record_batches(path, batch):
        file = _from_rows(rows, index, path)
        index += rows.num_rows
        yield file


def _record_batches(path: Path, batch: int) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.dataset as arrow

    if path.name.lower().endswith(".lance"):
        import lance  # comes with depthcharge

        yield from lance.dataset(str(path)).to_batches(batch_size=batch)
        return
    try:
        yield from arrow.dataset(path, format="parquet").to_batches(batch_size=batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"is no Parquet of spectra: {error}", path) from error


def _from_rows(rows: Any, start: int, path: Path) -> SpectrumFile:
    names = set(rows.schema.names)
    label = next((n for n in ("seq", "sequence", "peptide") if n in names), None)
    missing = {"precursor_mz", "precursor_charge", "mz_array", "intensity_array"} - names
    if missing or label is None:
        wanted = ", ".join(sorted(missing)) or "seq, sequence or peptide"
        raise InputError(f"lacks the column {wanted}; depthcharge's spectra_to_parquet writes what is read here", path)
    spectra: list[Spectrum] = []
    labels: dict[str, str] = {}
    skipped: list[tuple[int, str, str]] = []
    for offset, row in enumerate(rows.to_pylist()):
        fields = {
            "title": row.get("title") or row.get("scan_id"), "precursor_mz": row["precursor_mz"],
            "charge": row["precursor_charge"],
        }  # fmt: skip
        mz, intensity = (np.asarray(row[n] or [], np.float64) for n in ("mz_array", "intensity_array"))
        spectrum, reason = _build(start + offset, fields, mz, intensity)
        if spectrum is None:
            skipped.append((start + offset, str(fields["title"]), reason))
            continue
        spectra.append(spectrum)
        if row[label]:
            labels[spectrum.id] = str(row[label])
    return SpectrumFile(spectra, labels, skipped, str(path))


def _build(index: int, fields: Mapping[str, Any], mz: NDArray, intensity: NDArray) -> tuple[Spectrum | None, str]:
    title = str(fields.get("title") or index)
    precursor = fields.get("precursor_mz")
    if precursor is None or not np.isfinite(precursor) or precursor <= 0:
        return None, "no precursor m/z"
    charge = fields.get("charge")
    if charge is None or charge < 1:
        return None, "no precursor charge; add CHARGE= or convert with charge assignment"
    mz, intensity = clean(mz, intensity)
    if mz.size == 0:
        return None, "no peaks with positive intensity"
    return (
        Spectrum(
            index, title, mz, intensity, float(precursor), int(charge), fields.get("scan"), fields.get("retention_time")
        ),
        "",
    )


_Entry = tuple[dict[str, Any], NDArray, NDArray]


def _read_mgf(path: Path) -> Iterator[_Entry]:
    from pyteomics import mgf

    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    begun = ended = 0
    try:
        with opener(path, "rt", encoding="utf-8", errors="replace", newline=None) as text:
            for line in text:
                begun += line.startswith("BEGIN IONS")
                ended += line.startswith("END IONS")
        if begun != ended:
            raise InputError(f"{begun} BEGIN IONS but {ended} END IONS: the file is cut off or damaged", path)
        with (
            opener(path, "rt", encoding="utf-8", errors="replace", newline=None) as text,
            mgf.read(text, convert_arrays=1, read_charges=False, use_index=False) as reader,
        ):
            for number, entry in enumerate(reader):
                yield _mgf_fields(entry["params"], number, path), entry["m/z array"], entry["intensity array"]
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"damaged gzip file ({error}); fetch it again", path) from error
    except InputError:
        raise
    except Exception as error:  # pyteomics raises its own and bare ValueErrors on damaged numbers
        if type(error).__module__.startswith("pyteomics") or isinstance(error, (ValueError, IndexError, KeyError)):
            raise InputError(f"cannot be read as MGF: {error}", path) from error
        raise


def _mgf_fields(params: Mapping[str, Any], number: int, path: Path) -> dict[str, Any]:
    charges = params.get("charge")
    scans = str(params.get("scans", "")).split("-")[0]
    rt = params.get("rtinseconds")
    pepmass = params.get("pepmass")
    return {
        "title": params.get("title"),
        "precursor_mz": float(pepmass[0]) if pepmass and pepmass[0] is not None else None,
        "charge": abs(int(charges[0])) if charges else None,
        "scan": int(scans) if scans.isdigit() else None,
        "retention_time": float(rt) if rt is not None else None,
        "seq": params.get("seq"),
    }


def _read_mzml(path: Path) -> Iterator[_Entry]:
    from lxml.etree import XMLSyntaxError
    from pyteomics import mzml
    from pyteomics.xml import PyteomicsError

    opener: Any = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rb") as binary, mzml.MzML(binary, use_index=False, iterative=True) as reader:
            for entry in reader:
                if entry.get("ms level", 2) < 2:
                    continue
                yield (
                    _mzml_fields(entry),
                    entry.get("m/z array", np.empty(0)),
                    entry.get("intensity array", np.empty(0)),
                )
    except (XMLSyntaxError, PyteomicsError) as error:
        raise InputError(f"damaged mzML, it may be cut off ({error}); fetch or convert it again", path) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"damaged gzip file ({error}); fetch it again", path) from error


def _mzml_fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    ion: Mapping[str, Any] = {}
    for precursor in entry.get("precursorList", {}).get("precursor", [])[:1]:
        ion = precursor.get("selectedIonList", {}).get("selectedIon", [{}])[0]
    charge = ion.get("charge state")
    scan_text = str(entry.get("id", "")).rpartition("scan=")[2].split(" ")[0]
    scans = entry.get("scanList", {}).get("scan", [{}])
    rt = scans[0].get("scan start time") if scans else None
    seconds = None
    if rt is not None:
        seconds = float(rt) * (60.0 if getattr(rt, "unit_info", "minute") == "minute" else 1.0)
    return {
        "title": entry.get("spectrum title") or entry.get("id"),
        "precursor_mz": ion.get("selected ion m/z"),
        "charge": int(charge) if charge is not None else None,
        "scan": int(scan_text) if scan_text.isdigit() else None,
        "retention_time": seconds,
    }


def write_mgf(path: str | Path, spectra: Sequence[Spectrum], labels: Mapping[str, str] | None = None) -> None:
    """Write spectra, atomically, gzipped when the name ends so; ``labels`` go to ``SEQ=``."""
    from rerank_core.io import atomic_write

    labels = labels or {}
    with atomic_write(path) as out:
        for s in spectra:
            out.write(f"BEGIN IONS\nTITLE={s.title}\nPEPMASS={s.precursor_mz:.6f}\nCHARGE={s.charge}+\n")
            if s.scan is not None:
                out.write(f"SCANS={s.scan}\n")
            if s.retention_time is not None:
                out.write(f"RTINSECONDS={s.retention_time:.3f}\n")
            if s.id in labels:
                out.write(f"SEQ={labels[s.id]}\n")
            out.writelines(f"{m:.5f} {i:.6g}\n" for m, i in zip(s.mz, s.intensity, strict=True))
            out.write("END IONS\n\n")

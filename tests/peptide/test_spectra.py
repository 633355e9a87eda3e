from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest

from rerank_core.errors import InputError
from rerank_peptide.spectra import Spectrum, clean, read_spectra, write_mgf

MGF = "BEGIN IONS\nTITLE={title}\nPEPMASS=451.25\n{charge}SEQ=LAHYNKR\n{peaks}END IONS\n"
PEAKS = "300.2 5\n110.07 3\n175.119 0\n200.1 2\n"


def write(path: Path, *entries: str, newline: str = "\n") -> Path:
    path.write_bytes("\n".join(entries).replace("\n", newline).encode())
    return path


def entry(title: str = "a", charge: str = "CHARGE=2+\n", peaks: str = PEAKS) -> str:
    return MGF.format(title=title, charge=charge, peaks=peaks)


def test_peaks_are_sorted_and_empty_ones_dropped(tmp_path: Path) -> None:
    file = read_spectra(write(tmp_path / "a.mgf", entry()))
    assert file.spectra[0].mz.tolist() == [110.07, 200.1, 300.2]
    assert file.labels == {"0": "LAHYNKR"}
    assert not hasattr(file.spectra[0], "label")


def test_windows_line_ends_and_gzip(tmp_path: Path) -> None:
    plain = read_spectra(write(tmp_path / "a.mgf", entry(), newline="\r\n"))
    with gzip.open(tmp_path / "b.mgf.gz", "wt") as out:
        out.write(entry())
    packed = read_spectra(tmp_path / "b.mgf.gz")
    assert np.array_equal(plain.spectra[0].mz, packed.spectra[0].mz)
    assert plain.spectra[0].charge == packed.spectra[0].charge == 2


def test_unusable_spectra_are_reported_by_index(tmp_path: Path) -> None:
    file = read_spectra(
        write(
            tmp_path / "a.mgf",
            entry("ok"),
            entry("none", ""),
            entry("zero", "CHARGE=0\n"),
            entry("bare", peaks=""),
            entry("ok"),
        )
    )
    assert [s.index for s in file.spectra] == [0, 4]
    assert [(i, t) for i, t, _ in file.skipped] == [(1, "none"), (2, "zero"), (3, "bare")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mgf", b"BEGIN IONS\nTITLE=a\nPEPMASS=4", "cut off"),
        ("a.mgf", b"", "no usable spectrum"),
        ("a.mgf.gz", b"not gzip", "gzip"),
        ("a.mgf.gz", gzip.compress(entry().encode() * 50, mtime=0)[:60], "gzip"),
        ("a.raw", b"x", "unknown spectrum format"),
        ("a.mzML", b"<mzML><run><spectrumList><spectrum id='x'", "mzML"),
        ("a.mgf", b"BEGIN IONS\nPEPMASS=abc\nCHARGE=2+\n100 1\nEND IONS\n", "MGF"),
    ],
)
def test_damaged_files_give_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_spectra(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_hundred_thousand_peaks_are_cut_to_the_strongest() -> None:
    rng = np.random.default_rng(0)
    mz, intensity = rng.uniform(100, 90_000, 100_000), rng.uniform(0, 1, 100_000)
    start = time.process_time()
    kept, strength = clean(mz, intensity)
    assert kept.size == 2000 and time.process_time() - start < 2
    assert strength.min() >= np.sort(intensity)[-2000] - 1e-12


def test_nan_and_negative_peaks_go() -> None:
    mz, intensity = clean(np.array([1.0, np.nan, 3.0, 4.0]), np.array([1.0, 1.0, -1.0, np.inf]))
    assert mz.tolist() == [1.0] and intensity.tolist() == [1.0]


def test_profile_data_is_centroided() -> None:
    grid = np.arange(200.0, 202.0, 0.002)
    signal = np.exp(-((grid - 200.5) ** 2) / 2e-5) + 0.5 * np.exp(-((grid - 201.3) ** 2) / 2e-5)
    signal[signal < 1e-6] = 0
    mz, _ = clean(grid, signal)
    assert mz.size == 2
    assert mz == pytest.approx([200.5, 201.3], abs=1e-3)


def test_mgf_round_trip(tmp_path: Path) -> None:
    s = Spectrum(0, "t", np.array([100.12345, 200.5]), np.array([1.0, 0.25]), 500.123456, 3, 7, 1.5)
    write_mgf(tmp_path / "x.mgf.gz", [s], {"0": "PEPTIDEK"})
    file = read_spectra(tmp_path / "x.mgf.gz")
    again = file.spectra[0]
    assert (again.title, again.charge, again.scan, again.retention_time) == ("t", 3, 7, 1.5)
    assert again.mz == pytest.approx(s.mz) and again.precursor_mz == pytest.approx(s.precursor_mz)
    assert file.labels["0"] == "PEPTIDEK"


def test_mzml_reads_what_mgf_reads(tmp_path: Path) -> None:
    from rerank_peptide.engines import compnovo

    if not compnovo.available():
        pytest.skip("OpenMS (Debian package topp) is not installed; its FileConverter writes the mzML")
    write(tmp_path / "a.mgf", entry())
    compnovo._run(["FileConverter", "-in", str(tmp_path / "a.mgf"), "-out", str(tmp_path / "a.mzML")], 60)
    got = read_spectra(tmp_path / "a.mzML").spectra[0]
    assert got.mz == pytest.approx([110.07, 200.1, 300.2], abs=1e-3) and got.charge == 2
    whole = (tmp_path / "a.mzML").read_bytes()
    (tmp_path / "b.mzML").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut off|no usable"):
        read_spectra(tmp_path / "b.mzML")

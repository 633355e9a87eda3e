"""A small installed domain: the documentation's example, found through a real entry point."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "did_you_mean.py"


@pytest.fixture(scope="session")
def example_env(tmp_path_factory) -> dict[str, str]:
    """Return an environment in which the example is an installed distribution."""
    site = tmp_path_factory.mktemp("site")
    shutil.copy(EXAMPLE, site)
    info = site / "did_you_mean-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: did-you-mean\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[rerank.domains]\ndid-you-mean = did_you_mean:domain\n")
    return os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture(scope="session")
def rerank(example_env) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command ``rerank`` with the example domain installed."""

    def run(*args: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "rerank_core.cli", *map(str, args)],
            capture_output=True,
            text=True,
            env=example_env,
            timeout=120,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, done.stderr + done.stdout
        return done

    return run

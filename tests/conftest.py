"""Fixtures every member's tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_root() -> Path:
    """Return the folder of shared development data; it may not exist."""
    return Path(os.environ.get("RERANK_SHARED_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Return a function from a relative path to a file or folder of the shared data; skips where it is absent."""

    def find(relative: str) -> Path:
        path = shared_root() / relative
        if not path.exists():
            pytest.skip(f"shared data not found: {path} (set RERANK_SHARED_DATA)")
        return path

    return find

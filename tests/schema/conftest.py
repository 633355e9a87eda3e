"""Shared by this member's tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("schema", deadline=None, max_examples=60)
settings.load_profile("schema")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


class HashEncoder:
    """A deterministic encoder without weights: character trigrams hashed into 256 places, for tests of what is around it."""

    def fingerprint(self) -> str:
        return "hash-trigrams"

    def encode(self, texts: list[str]) -> np.ndarray:
        from rerank_schema.sampling import murmur3

        out = np.zeros((len(texts), 256), dtype=np.float32)
        for i, text in enumerate(texts):
            for j in range(max(1, len(text) - 2)):
                out[i, murmur3(text[j : j + 3].encode()) % 256] += 1
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


@pytest.fixture
def encoder() -> HashEncoder:
    return HashEncoder()


@pytest.fixture
def csv_file(tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that writes a CSV and gives its path."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write

"""What the image tests share: small descriptor sets and a folder of real pictures cut from packaged photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rerank_image.arrays import Matrix, l2
from rerank_image.sample import SOURCES, find_photograph

Clusters = Callable[..., tuple[Matrix, Matrix]]


def clusters(n: int = 300, queries: int = 6, dims: int = 32, groups: int = 30, seed: int = 0) -> tuple[Matrix, Matrix]:
    """(queries, database) of unit vectors around common centres, without twins."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dims))
    db = centres[rng.integers(0, groups, n)] + 0.7 * rng.normal(size=(n, dims))
    q = centres[rng.integers(0, groups, queries)] + 0.7 * rng.normal(size=(queries, dims))
    return l2(q).astype(np.float32), l2(db).astype(np.float32)


@pytest.fixture
def make_clusters() -> Clusters:
    return clusters


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve crops of the packaged photographs, 80 to 120 pixels."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    for s, source in enumerate(SOURCES):
        with Image.open(find_photograph(*source)) as photo:
            for k in range(4):
                box = (40 * k, 30 * k, 40 * k + 120, 30 * k + 80)
                photo.convert("RGB").crop(box).save(folder / f"photo{s}-{k}.jpg", quality=90)
    return folder

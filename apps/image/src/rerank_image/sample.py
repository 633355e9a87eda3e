"""The embedded sample: views cut out of the photographs that scikit-learn and matplotlib ship.

Each query is a view (a tilted, rescaled, recoloured crop) of a random region of one photograph; the gallery holds
other views of overlapping regions and of regions elsewhere. Truth is geometry: how much two regions overlap.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rerank_core.errors import ModelNotFound
from rerank_core.types import Candidate, Dataset, Request
from rerank_image.arrays import Matrix
from rerank_image.photos import Photo
from rerank_image.search import search

if TYPE_CHECKING:
    from PIL import Image

SOURCES = (("scikit-learn", "china.jpg"), ("scikit-learn", "flower.jpg"), ("matplotlib", "grace_hopper.jpg"))
EASY, HARD = 0.5, 0.2  # intersection over union of the regions


@dataclass(frozen=True)
class View:
    """A region of a photograph: its number, [x0, y0, x1, y1], and the picture cut out of it."""

    photo: int
    box: tuple[float, float, float, float]
    picture: Image.Image


def find_photograph(package: str, name: str) -> Path:
    """Find a picture that an installed package ships, without importing the package."""
    try:
        for file in distribution(package).files or []:
            if file.name == name:
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise ModelNotFound(f"the sample is cut from {name}, which {package} ships: pip install {package}")


def overlap(a: View, b: View) -> float:
    """Intersection over union of two regions; 0 in different photographs."""
    if a.photo != b.photo:
        return 0.0
    w = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
    h = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    if w <= 0 or h <= 0:
        return 0.0
    area = [(v.box[2] - v.box[0]) * (v.box[3] - v.box[1]) for v in (a, b)]
    return w * h / (sum(area) - w * h)


def make_views(seed: int = 7, per_photo: int = 20, near: int = 5, elsewhere: int = 20) -> tuple[list[View], list[View]]:
    """Cut (queries, gallery) out of the photographs; the same for the same seed."""
    from rerank_image.pictures import open_picture

    rng = np.random.default_rng(seed)
    queries, gallery = [], []
    for number, source in enumerate(SOURCES):
        photo = open_picture(find_photograph(*source))
        for _ in range(per_photo):
            box = _region(rng, photo.size)
            queries.append(_view(rng, photo, number, box))
            gallery += [_view(rng, photo, number, _jitter(rng, box, photo.size)) for _ in range(near)]
        gallery += [_view(rng, photo, number, _region(rng, photo.size)) for _ in range(elsewhere)]
    order = rng.permutation(len(gallery))
    return queries, [gallery[i] for i in order]


def _region(rng: np.random.Generator, size: tuple[int, int]) -> tuple[float, float, float, float]:
    side = rng.uniform(0.22, 0.4) * min(size)
    x, y = rng.uniform(0, size[0] - side), rng.uniform(0, size[1] - side)
    return (x, y, x + side, y + side)


def _jitter(
    rng: np.random.Generator, box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    side = min((box[2] - box[0]) * rng.uniform(0.75, 1.35), *size)
    x = np.clip(box[0] + rng.uniform(-0.4, 0.4) * side, 0, size[0] - side)
    y = np.clip(box[1] + rng.uniform(-0.4, 0.4) * side, 0, size[1] - side)
    return (float(x), float(y), float(x + side), float(y + side))


def _view(rng: np.random.Generator, photo: Image.Image, number: int, box: tuple[float, float, float, float]) -> View:
    """Cut a region with a tilt, blur it by rescaling, change brightness, contrast and colour, maybe mirror it."""
    from PIL import Image, ImageEnhance, ImageOps

    side = box[2] - box[0]
    x0, y0, x1, y1 = (round(v) for v in (box[0] - side / 4, box[1] - side / 4, box[2] + side / 4, box[3] + side / 4))
    turned = photo.crop((x0, y0, x1, y1)).rotate(float(rng.uniform(-20, 20)), Image.Resampling.BICUBIC)
    low, high = round(side / 4), round(side * 5 / 4)
    picture = turned.crop((low, low, high, high)).resize((int(rng.integers(48, 97)),) * 2, Image.Resampling.BICUBIC)
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(float(rng.uniform(0.5, 1.5)))
    if rng.random() < 0.3:
        picture = ImageOps.mirror(picture)
    return View(number, box, picture.resize((128, 128), Image.Resampling.BICUBIC))


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def build_sample(seed: int = 7, depth: int = 100) -> Dataset[Photo, Photo]:
    """Describe the views with the packaged EfficientNet-Lite0 and retrieve each query's first ``depth`` candidates."""
    from rerank_image.extract import ExtractConfig, load_extractor

    queries, gallery = make_views(seed)
    extractor = load_extractor(ExtractConfig(size=128, enlarge=128, scales=1))
    q: Matrix = extractor.describe([v.picture for v in queries])
    x: Matrix = extractor.describe([v.picture for v in gallery])
    photos = [Photo(x[i], _encoded(v.picture)) for i, v in enumerate(gallery)]
    hits = search(q, x, depth)
    requests = [
        Request(
            f"view{i:02d}",
            Photo(q[i], _encoded(view.picture)),
            tuple(
                Candidate(f"g{j:03d}", photos[j], float(s))
                for j, s in zip(hits.ids[i].tolist(), hits.scores[i].tolist(), strict=True)
            ),
        )
        for i, view in enumerate(queries)
    ]
    gold = {f"view{i:02d}": _gains(view, gallery) for i, view in enumerate(queries)}
    return Dataset(requests, gold, name="views of three photographs")


def _gains(query: View, gallery: list[View]) -> dict[str, float]:
    shares = {f"g{j:03d}": overlap(query, v) for j, v in enumerate(gallery)}
    return {j: 2.0 if s >= EASY else 1.0 for j, s in shares.items() if s >= HARD}

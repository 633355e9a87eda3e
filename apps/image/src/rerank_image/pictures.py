"""Finding and opening pictures: whatever lies in a folder, without crashing and without being fooled."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rerank_core.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2"})
MAX_PIXELS = 200_000_000


@dataclass
class Found:
    """Pictures of a folder, sorted by path, and what could not be read (path, reason)."""

    files: list[Path] = field(default_factory=list)
    problems: list[tuple[Path, str]] = field(default_factory=list)


def find_pictures(folder: str | Path) -> Found:
    """Find files with a picture's suffix below a folder; a link to a folder seen before is not entered again.

    Raises
    ------
    InputError
        When the folder does not exist.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError("is not a folder" if root.exists() else "does not exist", root)
    found = Found()
    seen: set[tuple[int, int]] = set()
    stack = [root]
    while stack:
        here = stack.pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda e: e.name)
        except OSError as error:
            found.problems.append((here, error.strerror or str(error)))
            continue
        for entry in entries:
            path = Path(entry.path)
            try:
                if entry.is_dir():
                    stack.append(path)
                elif path.suffix.lower() in SUFFIXES:
                    if entry.is_file():
                        found.files.append(path)
                    else:
                        found.problems.append((path, "no file behind this name (broken link?)"))
            except OSError as error:
                found.problems.append((path, error.strerror or str(error)))
    found.files.sort()
    return found


def sha256(path: Path) -> str:
    """Content hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_picture(path: str | Path) -> Image.Image:
    """Open a picture as upright RGB: EXIF orientation applied, first frame, transparency on white, 16 bit scaled.

    Raises
    ------
    InputError
        When the file is empty, cut off, no picture, or larger than 200 million pixels.
    """
    from PIL import Image, ImageOps

    p = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning; our limit is an error and named
            with Image.open(p) as raw:
                if raw.width * raw.height > MAX_PIXELS:
                    raise InputError(f"{raw.width} x {raw.height} pixels are too many (limit {MAX_PIXELS})", p)
                raw.seek(0)
                raw.load()
                upright = ImageOps.exif_transpose(raw)
                return to_rgb(upright)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise anything on hostile bytes; it is the file's fault
        text = str(error) or type(error).__name__
        raise InputError(f"cannot be read as a picture: {text.replace(str(p), 'file')}", p) from None


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert any mode to RGB; transparent parts become white."""
    from PIL import Image

    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        import numpy as np

        values = np.asarray(picture, dtype=np.float64)
        high = 65535.0 if picture.mode != "F" else max(float(values.max(initial=0)), 1e-12)
        return Image.fromarray((values.clip(0, high) / high * 255).round().astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")


def crop(picture: Image.Image, box: Iterable[float], name: str | Path = "picture") -> Image.Image:
    """Cut ``[x0, y0, x1, y1]`` (pixels, truncated to whole ones) out of a picture.

    Raises
    ------
    InputError
        When the box is empty or leaves the picture.
    """
    x0, y0, x1, y1 = (int(v) for v in box)
    if x0 >= x1 or y0 >= y1 or x0 < 0 or y0 < 0 or x1 > picture.width or y1 > picture.height:
        raise InputError(
            f"box [{x0}, {y0}, {x1}, {y1}] is not inside the picture of {picture.width} x {picture.height} pixels", name
        )
    return picture.crop((x0, y0, x1, y1))


def one_line(path: Path | str) -> str:
    """Show a path on one line, whatever characters its name has."""
    return str(path).encode("unicode_escape").decode("ascii") if not str(path).isprintable() else str(path)

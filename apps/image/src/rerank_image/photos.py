"""The domain's values: a photo as a descriptor with, where there is one, its picture; and their JSON form."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.rendering import Picture
from rerank_core.types import Candidate
from rerank_image.arrays import Matrix


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo.

    Parameters
    ----------
    vector
        Its descriptor, shape (d,), float32, unit norm.
    picture
        Encoded picture (JPEG, PNG), or None where only the descriptor is known.
    path
        Where the picture lies, if not in ``picture``.
    """

    vector: Matrix
    picture: bytes | None = None
    path: str | None = None


class PhotoCodec:
    """JSON form ``{"vector": [...] or base64 of little-endian float32, "picture": base64?, "path"?}``."""

    def encode_query(self, query: Photo) -> Any:
        """Return the JSON form."""
        out: dict[str, Any] = {"vector": base64.b64encode(query.vector.astype("<f4").tobytes()).decode("ascii")}
        if query.picture is not None:
            out["picture"] = base64.b64encode(query.picture).decode("ascii")
        if query.path is not None:
            out["path"] = query.path
        return out

    def decode_query(self, value: Any) -> Photo:
        """Read the JSON form.

        Raises
        ------
        InputError
            When there is no vector, or it is not finite.
        """
        if isinstance(value, list):
            value = {"vector": value}
        if not isinstance(value, dict) or "vector" not in value:
            raise InputError("a photo is an object with 'vector' (numbers, or base64 of float32)")
        raw = value["vector"]
        try:
            if isinstance(raw, str):
                vector = np.frombuffer(base64.b64decode(raw, validate=True), "<f4").astype(np.float32)
            else:
                vector = np.asarray(raw, dtype=np.float32)
            picture = base64.b64decode(value["picture"], validate=True) if value.get("picture") else None
        except (binascii.Error, ValueError, TypeError):
            raise InputError("a photo's vector or picture is damaged (numbers or base64 are expected)") from None
        if vector.ndim != 1 or not vector.size or not np.isfinite(vector).all():
            raise InputError("a photo's vector must be a list of finite numbers")
        return Photo(vector, picture, value.get("path"))

    encode_content = encode_query
    decode_content = decode_query


@dataclass(frozen=True)
class PhotoRendering:
    """Shows photos to judges that see; a photo without a picture cannot be shown.

    Parameters
    ----------
    side
        Longest side in pixels, so that a judge's prompt stays small.
    """

    instruction: str = "Judge whether the picture shows the same object or place as the query picture."
    side: int = 448

    def query(self, query: Photo) -> Picture:
        """Return the query's picture."""
        return self._picture(query, "query")

    def candidate(self, candidate: Candidate[Photo]) -> Picture:
        """Return the candidate's picture."""
        return self._picture(candidate.content, candidate.id)

    def _picture(self, photo: Photo, caption: str) -> Picture:
        if photo.picture is not None:
            return Picture(photo.picture, caption)
        if photo.path is None:
            raise InputError(f"photo {caption!r} has only a descriptor; a judge needs its 'picture' or 'path'")
        import io

        from rerank_image.pictures import open_picture

        image = open_picture(Path(photo.path))
        image.thumbnail((self.side, self.side))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        return Picture(buffer.getvalue(), caption)

"""Small pictures of samples, as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tledge.errors import DataError
from tledge.schema import Mistake

SIDE = 160
_QUALITY = 80


def with_pictures(mistakes: Sequence[Mistake]) -> list[tuple[Mistake, str, str]]:
    """Return (mistake, file name, data URI of its picture or nothing) for each mistake, in their order."""
    with ThreadPoolExecutor() as pool:  # Pillow decodes outside Python's lock
        pictures = list(pool.map(_picture_of, mistakes))
    return [(each, Path(each.path).name, picture) for each, picture in zip(mistakes, pictures, strict=True)]


def _picture_of(mistake: Mistake) -> str:
    if isinstance(mistake.value, str):  # a text, which no path is to be made of
        return ""
    return thumbnail(mistake.path if mistake.value is None else mistake.value)


def thumbnail(source: str | np.ndarray) -> str:
    """Return a picture, the one at a path or uint8 [H, W, 3] or [H, W], as a JPEG data URI of at most 160 pixels.

    A picture that can no longer be read gives the empty string: by then the model is trained, and a picture that was
    moved or damaged meanwhile is no reason to lose the report. So does a vector.
    """
    from tledge.decode import decode

    if isinstance(source, np.ndarray):
        return _jpeg(source) if source.dtype == np.uint8 else ""
    try:
        return _jpeg(decode(source))
    except (DataError, OSError, ValueError):
        return ""


def _jpeg(pixels: np.ndarray) -> str:
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()

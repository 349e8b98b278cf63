"""Small pictures of samples, as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np

SIDE = 160
_QUALITY = 80


def jpeg(pixels: np.ndarray) -> str:
    """Return a picture, uint8 [H, W, 3] or [H, W], as a JPEG data URI of at most 160 pixels."""
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()

"""Pictures: decode → resize → uint8; training and serving both go through here."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable
from typing import ClassVar, get_args

import numpy as np

from tledge import native
from tledge.decode import decode
from tledge.errors import DataError
from tledge.modalities.reader import Part, Reader, Shown, Source, describe, to_base64
from tledge.schema import Fit, GoldenSample, Interpolation, PreprocessSpec


def fit_into(image: np.ndarray, spec: PreprocessSpec, out: np.ndarray) -> None:
    """Resize `image`, uint8 [H, W, 3] or [H, W], into `out`, uint8 [spec.height, spec.width, 3]."""
    native.resize_normalize([np.ascontiguousarray(image)], out[None], spec.fit, spec.interpolation)


def whole(source: Source) -> np.ndarray:
    """Return the picture `source` (path, bytes of a file, pixels) as it is, uint8 [H, W, 3] RGB of its own size.

    Raises what `decode` raises, and DataError for an array that is no picture.
    """
    pixels = _checked(source) if isinstance(source, np.ndarray) else decode(source)
    rgb = np.broadcast_to(pixels[..., None], (*pixels.shape, 3)) if pixels.ndim == 2 else pixels
    return np.ascontiguousarray(rgb)


class ImageReader(Reader):
    """Picture files, or uint8 [H, W, 3] RGB or [H, W] grey → uint8 [height, width, 3] RGB."""

    kind, noun, revision = "image", "picture", 2
    example, unit = "new.jpg", "px"
    steps: ClassVar[tuple[str, ...]] = ("decode", "resize")
    extent = "pixels"

    def load(self, source: Source, part: Part | None = None) -> np.ndarray:
        """Return the picture at the model's size."""
        return self._resized(_checked(source) if isinstance(source, np.ndarray) else self._decoded(source))

    def in_steps(self, source: bytes, done: Callable[[], None]) -> list[np.ndarray]:
        """Return the picture, decoded no larger than it must be, then resized."""
        pixels = self._decoded(source)
        done()
        row = self._resized(pixels)
        done()
        return [row]

    def extent_of(self, source: bytes) -> float:
        """Return its height times its width."""
        height, width = decode(source).shape[:2]
        return float(height * width)

    def _decoded(self, source: str | os.PathLike[str] | bytes) -> np.ndarray:
        return decode(source, (self.spec.height, self.spec.width))

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        row = np.empty((self.spec.height, self.spec.width, 3), np.uint8)
        fit_into(pixels, self.spec, row)
        return row

    def mismatch(self, value: object) -> str:
        """Return what must hold unless `value` is uint8 [H, W, 3] or [H, W]."""
        if _is_picture(value):
            return ""
        return "An image must be a path, bytes, or uint8 [H, W, 3] RGB or [H, W] grey"

    def is_one(self, samples: object) -> bool:
        """Tell whether `samples` is one array of at most three dimensions."""
        return isinstance(samples, np.ndarray) and samples.ndim <= 3

    @property
    def blank(self) -> np.ndarray | None:
        """Black, uint8 [height, width, 3]."""
        return np.zeros((self.spec.height, self.spec.width, 3), np.uint8)

    def inputs(self) -> dict[str, tuple[str, list[int | str]]]:
        """Return `image`, uint8 [height, width, 3]."""
        return {self.kind: ("tensor(uint8)", [self.spec.height, self.spec.width, 3])}

    @classmethod
    def size(cls, spec: PreprocessSpec) -> str:
        """Return width × height in pixels."""
        return f"{spec.width}×{spec.height}"

    @classmethod
    def check(cls, spec: PreprocessSpec) -> None:
        """Raise ValueError for a fit or an interpolation that there is not."""
        known = [(spec.kind, (cls.kind,)), (spec.fit, get_args(Fit)), (spec.interpolation, get_args(Interpolation))]
        if any(word not in words for word, words in known):
            raise ValueError("an unknown word")

    @classmethod
    def shown(cls, source: Source, part: Part | None = None) -> Shown:
        """Return the pixels, of a large JPEG as few as there may be."""
        return Shown(pixels=_checked(source) if isinstance(source, np.ndarray) else decode(source))

    def to_golden(self, row: np.ndarray) -> GoldenSample:
        """Return the pixels as a PNG in base64."""
        from PIL import Image

        buffer = io.BytesIO()
        # Pillow's `optimize` takes up to twenty times as long, for a tenth less.
        Image.fromarray(row).save(buffer, "PNG", compress_level=3)
        return GoldenSample(to_base64(buffer.getvalue()), ())

    def from_golden(self, sample: GoldenSample) -> np.ndarray:
        """Return the pixels, uint8 [height, width, 3]."""
        from PIL import Image

        with Image.open(io.BytesIO(base64.b64decode(sample.png)), formats=["PNG"]) as image:
            row = np.asarray(image.convert("RGB"))
        if self.blank is not None and row.shape != self.blank.shape:
            raise ValueError("of another size than the model's")
        return row


class WholeImageReader(ImageReader):
    """The same for a graph that resizes by itself: pictures of any size, uint8 [H, W, 3] RGB."""

    even, steps = False, ("decode",)

    def load(self, source: Source, part: Part | None = None) -> np.ndarray:
        """Return the picture at its own size."""
        return whole(source)

    def in_steps(self, source: bytes, done: Callable[[], None]) -> list[np.ndarray]:
        """Return the picture decoded: the graph resizes it."""
        row = whole(source)
        done()
        return [row]

    @property
    def blank(self) -> None:
        """None: a picture may have any size."""
        return

    def bucket(self, row: np.ndarray) -> tuple[int, ...]:
        """Return height and width."""
        return row.shape

    def inputs(self) -> dict[str, tuple[str, list[int | str]]]:
        """Return `image`, uint8 [H, W, 3]."""
        return {self.kind: ("tensor(uint8)", ["H", "W", 3])}


def _checked(pixels: np.ndarray) -> np.ndarray:
    if not _is_picture(pixels):
        raise DataError(f"the model takes pictures, this is {describe(pixels)}")
    return pixels


def _is_picture(value: object) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype == np.uint8
        and (value.ndim == 2 or value.shape[2:] == (3,))
        and value.size > 0
    )

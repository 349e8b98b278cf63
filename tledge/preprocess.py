"""Make a picture into what a model sees: decode → resize → uint8 RGB. Training and serving both go through here."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np

from tledge import native
from tledge.decode import decode
from tledge.errors import DataError
from tledge.schema import PreprocessSpec

# Part of the key of cached features: count it up when the pixels that a file becomes change.
REVISION = 1
PAD_GREY = 128


def fit_into(image: np.ndarray, spec: PreprocessSpec, out: np.ndarray) -> None:
    """Resize `image`, uint8 [H, W, 3] or [H, W], into `out`, uint8 [spec.height, spec.width, 3].

    `stretch` ignores the aspect ratio; `crop` takes the largest centred box of the target's aspect ratio; `pad` keeps
    the whole picture, centred on grey (PAD_GREY). A picture that has the target's size already passes unchanged.
    """
    if image.shape[:2] == (spec.height, spec.width):
        out[...] = image if image.ndim == 3 else image[..., None]
    else:
        _FITS[spec.fit](image, spec.interpolation, out)


def _stretch(image: np.ndarray, interpolation: str, out: np.ndarray) -> None:
    native.resize(image, out, interpolation=interpolation)


def _crop(image: np.ndarray, interpolation: str, out: np.ndarray) -> None:
    (height, width), (out_height, out_width) = image.shape[:2], out.shape[:2]
    zoom = max(out_height / height, out_width / width)
    box_height, box_width = min(height, out_height / zoom), min(width, out_width / zoom)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    native.resize(image, out, (left, top, width - left, height - top), interpolation)


def _pad(image: np.ndarray, interpolation: str, out: np.ndarray) -> None:
    (height, width), (out_height, out_width) = image.shape[:2], out.shape[:2]
    zoom = min(out_height / height, out_width / width)
    inner_height = min(out_height, max(1, round(height * zoom)))
    inner_width = min(out_width, max(1, round(width * zoom)))
    top, left = (out_height - inner_height) // 2, (out_width - inner_width) // 2
    out[...] = PAD_GREY
    native.resize(image, out[top : top + inner_height, left : left + inner_width], interpolation=interpolation)


_FITS = {"stretch": _stretch, "crop": _crop, "pad": _pad}


# ── Both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def load_into(source: str | os.PathLike[str] | bytes, spec: PreprocessSpec, out: np.ndarray) -> None:
    """Decode a picture and fit it into `out`, uint8 [spec.height, spec.width, 3]; raises what `decode` raises."""
    fit_into(decode(source), spec, out)


def preprocess(images: Iterable[str | os.PathLike[str] | np.ndarray], spec: PreprocessSpec) -> np.ndarray:
    """Return uint8 [N, spec.height, spec.width, 3] of N pictures, each a path or uint8 [H, W, 3] RGB or [H, W] grey.

    An array in place of the list must be [N, H, W, 3]. Raises DataError when a file cannot be decoded, and TypeError
    for anything that is neither a path nor such an array.
    """
    single = isinstance(images, str | bytes | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim != 4)
    if single:
        raise TypeError(f"Images must be a list of paths or arrays, or uint8 [N, H, W, 3]; found {_describe(images)}.")
    images = list(images)
    out = np.empty((len(images), spec.height, spec.width, 3), np.uint8)
    for image, place in zip(images, out, strict=True):
        if isinstance(image, str | os.PathLike):
            _load_named(image, spec, place)
        else:
            fit_into(_checked(image), spec, place)
    return out


def _load_named(path: str | os.PathLike[str], spec: PreprocessSpec, out: np.ndarray) -> None:
    try:
        load_into(path, spec, out)
    except DataError as error:
        raise DataError(f"Picture {os.fspath(path)}: {error.message}.", "Replace or remove it.") from error


def _checked(image: object) -> np.ndarray:
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or not (image.ndim == 2 or image.shape[2:] == (3,))
        or image.size == 0
    ):
        raise TypeError(f"An image must be a path, or uint8 [H, W, 3] RGB or [H, W] grey; found {_describe(image)}.")
    return np.ascontiguousarray(image)


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__

"""Make a sample into what a model sees; training and serving both go through here.

A picture: decode → resize → uint8 RGB. A vector: float32, of the right length.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tledge import native
from tledge.decode import decode
from tledge.errors import DataError
from tledge.schema import InputSpec, PreprocessSpec, VectorSpec

# Part of the key of cached features: count it up when the pixels that a file becomes change.
REVISION = 2


def fit_into(image: np.ndarray, spec: PreprocessSpec, out: np.ndarray) -> None:
    """Resize `image`, uint8 [H, W, 3] or [H, W], into `out`, uint8 [spec.height, spec.width, 3]."""
    native.resize_normalize([np.ascontiguousarray(image)], out[None], spec.fit, spec.interpolation)


# ── Vectors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def flatten_into(value: np.ndarray, spec: VectorSpec, out: np.ndarray) -> None:
    """Put the numbers of `value`, any shape of spec.length finite numbers, into `out`, float32 [spec.length]."""
    if value.size != spec.length or value.dtype.kind not in "fiub":
        raise DataError(f"{spec.length} numbers are wanted, found {_describe(value)}")
    out[:] = value.reshape(-1)
    if not np.isfinite(out).all():
        raise DataError("every number must be finite, found NaN or infinity")


# ── Any input ────────────────────────────────────────────────────────────────────────────────────────────────────────


def empty(count: int, spec: InputSpec) -> np.ndarray:
    """Return a batch of zeros: uint8 [count, height, width, 3] for pictures, float32 [count, length] for vectors."""
    if isinstance(spec, VectorSpec):
        return np.zeros((count, spec.length), np.float32)
    return np.zeros((count, spec.height, spec.width, 3), np.uint8)


def load_into(source: str | os.PathLike[str] | bytes | np.ndarray, spec: InputSpec, out: np.ndarray) -> None:
    """Make `source` into one row of a batch of `empty`: a picture (path, bytes of a file, pixels) or a vector.

    Raises what `decode` raises, and DataError when `source` is a picture and the model takes vectors, or the reverse.
    """
    if isinstance(spec, VectorSpec):
        if not isinstance(source, np.ndarray):
            raise DataError("the model takes vectors, this is a picture file")
        flatten_into(source, spec, out)
    elif isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim not in (2, 3):
            raise DataError("the model takes pictures, this is a vector")
        fit_into(source, spec, out)
    else:
        fit_into(decode(source, (spec.height, spec.width)), spec, out)


def whole(source: str | os.PathLike[str] | bytes | np.ndarray) -> np.ndarray:
    """Return the picture `source` (path, bytes of a file, pixels) as it is, uint8 [H, W, 3] RGB of its own size.

    Raises what `decode` raises, and DataError when `source` is no picture.
    """
    pixels = source if isinstance(source, np.ndarray) else decode(source)
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise DataError("the model takes pictures, this is a vector")
    grey = pixels.ndim == 2 or pixels.shape[2] == 1
    rgb = np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3)) if grey else pixels
    return np.ascontiguousarray(rgb)


def pictures(samples: Iterable[str | os.PathLike[str] | bytes | np.ndarray], spec: PreprocessSpec) -> list[np.ndarray]:
    """Return each of `samples` as `whole` does; what they may be, and what is raised, is as in `preprocess`."""
    return [
        _named(whole, sample) if isinstance(sample, str | bytes | os.PathLike) else whole(_checked(sample, spec))
        for sample in _listed(samples, spec)
    ]


def preprocess(samples: Iterable[str | os.PathLike[str] | bytes | np.ndarray], spec: InputSpec) -> np.ndarray:
    """Return a batch of N samples, as `empty` shapes it.

    Pictures are paths, bytes of files, or uint8 [H, W, 3] RGB or [H, W] grey; an array for all must be [N, H, W, 3].
    Vectors are arrays of as many numbers as the model takes, or one array [N, length]. Raises DataError when a file
    cannot be decoded or a number is not finite, and TypeError for anything that is not of that form.
    """
    listed = _listed(samples, spec)
    out = empty(len(listed), spec)
    for sample, place in zip(listed, out, strict=True):
        if isinstance(sample, str | bytes | os.PathLike):
            _named(load_into, sample, spec, place)
        else:
            load_into(_checked(sample, spec), spec, place)
    return out


_WORDS = {"image": "Image", "vector": "Vector"}


def _listed(samples: Iterable[Any], spec: InputSpec) -> list[Any]:
    batch = 4 if isinstance(spec, PreprocessSpec) else 2
    if isinstance(samples, str | bytes | os.PathLike) or (isinstance(samples, np.ndarray) and samples.ndim != batch):
        wanted = (
            "a list of paths, bytes or arrays, or uint8 [N, H, W, 3]" if batch == 4 else f"float32 [N, {spec.length}]"
        )
        raise TypeError(f"{_WORDS[spec.kind]}s must be {wanted}; found {_describe(samples)}.")
    return list(samples)


def _named(load: Callable[..., Any], source: str | os.PathLike[str] | bytes, *rest: Any) -> Any:
    try:
        return load(source, *rest)
    except DataError as error:
        name = f"of {len(source):,} bytes" if isinstance(source, bytes) else os.fspath(source)
        raise DataError(f"Picture {name}: {error.message}.", "Replace or remove it.") from error


def _checked(sample: object, spec: InputSpec) -> np.ndarray:
    if isinstance(spec, VectorSpec):
        if not isinstance(sample, np.ndarray) or sample.size != spec.length or sample.dtype.kind not in "fiub":
            raise TypeError(f"A vector must be an array of {spec.length} numbers; found {_describe(sample)}.")
        return sample
    if (
        not isinstance(sample, np.ndarray)
        or sample.dtype != np.uint8
        or not (sample.ndim == 2 or sample.shape[2:] == (3,))
        or sample.size == 0
    ):
        raise TypeError(
            f"An image must be a path, bytes, or uint8 [H, W, 3] RGB or [H, W] grey; found {_describe(sample)}."
        )
    return np.ascontiguousarray(sample)


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__

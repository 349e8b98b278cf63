"""Sample arrays → what a Sample's value is: uint8 pictures or float32 vectors, converted once, and told of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from tledge.errors import DataError

_REAL = "buif"
_BLOCK_BYTES = 1 << 24
_HINT = (
    "Give pictures [n, height, width] or [n, height, width, 3] of bytes, or of numbers in 0..1 or 0..255; or vectors "
    "[n, length]."
)


def convert(arrays: Mapping[str, np.ndarray], place: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return each array as uint8 [n, h, w] or [n, h, w, 3], or as float32 [n, d], and notes on what was changed.

    One range, 0..1 or 0..255, holds for all of them. Raises DataError, naming array and row, when numbers are not
    finite, pixels lie outside of their range, or shapes do not go together.
    """
    for key, array in arrays.items():
        if array.dtype.kind not in _REAL or array.ndim not in (2, 3, 4) or 0 in array.shape:
            raise DataError(f"{place}[{key}] are no samples: {array.dtype} {list(array.shape)}.", _HINT)
    lengths = {array.shape[1] if array.ndim == 2 else None for array in arrays.values()}
    if len(lengths) > 1:
        shapes = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items())
        raise DataError(f"{place} must hold samples of one kind; found {shapes}.", _HINT)
    if lengths != {None}:
        return {key: _vectors(array, f"{place}[{key}]") for key, array in arrays.items()}, []
    return _pictures(arrays, place)


def _blocks(array: np.ndarray) -> Iterator[slice]:
    """Yield slices of rows small enough that their copies do not matter beside the array."""
    step = max(1, _BLOCK_BYTES // max(1, array[0].nbytes))
    for start in range(0, len(array), step):
        yield slice(start, start + step)


def _require_rows(array: np.ndarray, good: Callable[[np.ndarray], np.ndarray], place: str, must: str) -> None:
    for block in _blocks(array):
        bad = ~good(array[block]).reshape(len(array[block]), -1).all(axis=1)
        if bad.any():
            raise DataError(f"{place} row {block.start + int(bad.argmax())} must {must}.", _HINT)


def _vectors(array: np.ndarray, place: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused as such
        found = np.ascontiguousarray(array, np.float32)
    _require_rows(found, np.isfinite, place, "be finite in float32")
    return found


# ── Pictures ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _pictures(arrays: Mapping[str, np.ndarray], place: str) -> tuple[dict[str, np.ndarray], list[str]]:
    notes: dict[str, None] = {}  # in order, each once
    last = {key: _channels_last(array, f"{place}[{key}]", notes) for key, array in arrays.items()}
    scaled = [key for key, array in last.items() if array.dtype != np.uint8]
    for key in scaled:
        _require_rows(last[key], _is_pixel, f"{place}[{key}]", "hold pixels in 0..1 or 0..255")
    unit = bool(scaled) and max(float(last[key].max()) for key in scaled) <= 1
    for key in scaled:
        notes[f"{place}[{key}]: {last[key].dtype} pixels in 0..{1 if unit else 255} were converted to bytes."] = None
        last[key] = _to_bytes(last[key], 255 if unit else 1)
    return {key: np.ascontiguousarray(array) for key, array in last.items()}, list(notes)


def _channels_last(array: np.ndarray, place: str, notes: dict[str, None]) -> np.ndarray:
    if array.ndim == 3:
        return array
    if array.shape[-1] not in (1, 3) and array.shape[1] in (1, 3):
        notes[f"{place}: channels came first and were put last."] = None
        array = np.moveaxis(array, 1, -1)
    if array.shape[-1] not in (1, 3):
        raise DataError(f"{place} must have 1 or 3 channels; found {list(array.shape)}.", _HINT)
    return array[..., 0] if array.shape[-1] == 1 else array


def _is_pixel(block: np.ndarray) -> np.ndarray:
    return (block >= 0) & (block <= 255)  # false for what is no number, too


def _to_bytes(array: np.ndarray, factor: int) -> np.ndarray:
    found = np.empty(array.shape, np.uint8)
    for block in _blocks(array):
        np.rint(array[block].astype(np.float32) * factor, out=found[block], casting="unsafe")
    return found

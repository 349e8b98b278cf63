"""The pickles of CIFAR's Python version, read without numpy's own constructors and without running their code."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from tledge import safe_pickle
from tledge.errors import DataError

_PIXELS = 3 * 32 * 32
_HINT = "Get the file again."
_DTYPES = frozenset({"u1", "i1", "i2", "i4", "i8"})


class _Array(safe_pickle.Stateful):
    """Stands for an array whose state (version, shape, dtype, order, bytes) comes later; `array` is None till then."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        match state:
            case (int(), tuple() as shape, _Dtype() as dtype, bool() | int() as by_columns, bytes() as contents):
                self.array = _view(shape, dtype, bool(by_columns), contents)
            case _:
                raise pickle.UnpicklingError("an array is not described as numpy describes it")


class _Dtype(safe_pickle.Stateful):
    """Stands for numpy.dtype, of which a batch needs whole numbers only."""

    __slots__ = ("code", "order")

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|"):
            raise pickle.UnpicklingError(f"its numbers are in order {order!r}")
        self.order = order


def _view(shape: tuple[Any, ...], dtype: _Dtype, by_columns: bool, contents: bytes) -> np.ndarray:
    numbers = np.frombuffer(contents, np.dtype(dtype.order + dtype.code))
    if not all(type(size) is int and size >= 0 for size in shape) or math.prod(shape) != numbers.size:
        raise pickle.UnpicklingError("an array's shape does not go with its size")
    return numbers.reshape(shape, order="F" if by_columns else "C")


# The names lead to functions, not to the classes, of which a pickle could make objects that were never initialised.
def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _dtype(code: Any, *_: Any) -> _Dtype:
    text = code.decode("ascii") if isinstance(code, bytes) else code
    if text not in _DTYPES:
        raise pickle.UnpicklingError(f"its numbers are of type {text!r}")
    return _Dtype(text)


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand for _codecs.encode, by which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("bytes are not written as Python writes them")
    return text.encode("latin1")


_NDARRAY = object()  # only ever handed to _reconstruct
_NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
}


def read_batch(path: Path, fine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels uint8 [n, 3072], all red ones first, and labels int [n] of one batch."""
    batch = _read(path)
    data, labels = batch.get("data"), batch.get("fine_labels" if fine else "labels")
    pixels = data.array if isinstance(data, _Array) else None
    if pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise DataError(f"{path} must hold `data`, bytes in rows of {_PIXELS}.", _HINT)
    if isinstance(labels, _Array):
        labels = None if labels.array is None else labels.array.reshape(-1).tolist()
    if not labels or not isinstance(labels, list) or not all(map(_is_label, labels)):
        raise DataError(f"{path} must hold `{'fine_' * fine}labels`, a list of whole numbers.", _HINT)
    if len(labels) != len(pixels):
        raise DataError(f"{path} holds {len(pixels)} pictures and {len(labels)} labels.", _HINT)
    return pixels, np.array(labels, np.int64)


def _is_label(label: Any) -> bool:
    return type(label) is int and 0 <= label < 1 << 31


def read_names(path: Path, fine: bool) -> tuple[str, ...]:
    """Return the class names that a file batches.meta or meta holds."""
    names = _read(path).get("fine_label_names" if fine else "label_names")
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise DataError(f"{path} must hold a list of class names.", _HINT)
    return tuple(name if isinstance(name, str) else name.decode("utf-8", "replace") for name in names)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            found = safe_pickle.load(stream, _NAMES, encoding="bytes")
        return {key.decode("ascii") if isinstance(key, bytes) else str(key): value for key, value in found.items()}
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).", _HINT) from error
    except Exception as error:  # what damaged pickles raise is, by their documentation, not limited to a few kinds
        raise DataError(f"{path} is not a plain CIFAR file: {error}.", _HINT) from error

"""Read the weights in a legacy torch file (the layout before zip archives) without torch and without running its code.

The file is five pickles in a row (magic number, protocol version, facts about the machine, the state, the storage
keys), then for each key its number of elements as int64 and the raw little-endian elements. A pickle may name any
function and call it, so the names that it may use are an exhaustive table here, and none of them leads anywhere.
Source: `_legacy_save` in torch/serialization.py; Python documentation of `pickle`, "Restricting Globals".
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from tledge import safe_pickle
from tledge.errors import BackboneError

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
_HINT = "Install the package that brings the file again."


@dataclass(frozen=True, slots=True)
class _StorageType:
    """Stands for a torch storage class. It is no class and cannot be called, so a pickle can only pass it around."""

    dtype: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Says where elements are: the numbers themselves come after the pickles."""

    key: str
    dtype: str
    elements: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view into a storage; `offset` and `strides` count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _RebuildTensor:
    """Stands for torch._utils._rebuild_tensor_v2. Without slots to write to, a pickle cannot alter it."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor has no storage")
        view = _Tensor(storage, offset, tuple(shape), tuple(strides))
        _check_bounds(view)
        return view


_ADMITTED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch", "HalfStorage"): _StorageType("<f2"),
    ("torch", "FloatStorage"): _StorageType("<f4"),
    ("torch", "DoubleStorage"): _StorageType("<f8"),
    ("torch", "IntStorage"): _StorageType("<i4"),
    ("torch", "LongStorage"): _StorageType("<i8"),
}


def _open_storage(pid: Any) -> _Storage:
    match pid:
        case ("storage", _StorageType() as kind, str() as key, str(), int() as elements, None) if elements >= 0:
            return _Storage(key, kind.dtype, elements)
    raise pickle.UnpicklingError("a storage is not described as torch describes it")


def read_state(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Return the arrays of the state dictionary that the file's bytes `data` hold; `name` is what to call the file.

    The arrays are C-contiguous and own their memory. Raises BackboneError when the bytes are not such a file, are cut
    short, reach outside their storages or name anything that a state dictionary does not need.
    """
    try:
        return _read(io.BytesIO(data))
    except Exception as error:  # what damaged pickles raise is, by their documentation, not limited to a few kinds
        raise BackboneError(f"{name} is not a plain torch weights file: {error}.", _HINT) from error


def _read(stream: io.BytesIO) -> dict[str, np.ndarray]:
    if _load(stream) != MAGIC_NUMBER or _load(stream) != PROTOCOL_VERSION:
        raise pickle.UnpicklingError("it does not begin as the legacy layout does")
    if not _load(stream)["little_endian"]:
        raise pickle.UnpicklingError("its numbers are big-endian")
    state, keys = _load(stream), _load(stream)
    if not isinstance(state, dict) or not all(isinstance(value, _Tensor) for value in state.values()):
        raise pickle.UnpicklingError("it holds something else than named tensors")
    storages = {view.storage.key: view.storage for view in state.values()}
    elements = {key: _read_elements(stream, storages[key]) for key in keys}
    return {name: _view(elements[view.storage.key], view) for name, view in state.items()}


def _load(stream: io.BytesIO) -> Any:
    return safe_pickle.load(stream, _ADMITTED, open_persistent=_open_storage)


def _read_elements(stream: io.BytesIO, storage: _Storage) -> np.ndarray:
    (found,) = struct.unpack("<q", stream.read(8))
    if found != storage.elements:
        raise ValueError(f"storage {storage.key} should hold {storage.elements} elements, but holds {found}")
    dtype = np.dtype(storage.dtype)
    return np.frombuffer(stream.read(found * dtype.itemsize), dtype, count=found)


def _check_bounds(view: _Tensor) -> None:
    numbers = (view.offset, *view.shape, *view.strides)
    if len(view.shape) != len(view.strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor's shape or strides make no sense")
    last = view.offset + sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    if math.prod(view.shape) and (last >= view.storage.elements or math.prod(view.shape) > view.storage.elements):
        raise pickle.UnpicklingError("a tensor reaches outside its storage")


def _view(elements: np.ndarray, view: _Tensor) -> np.ndarray:
    strides = tuple(stride * elements.itemsize for stride in view.strides)
    reached = np.lib.stride_tricks.as_strided(elements[view.offset :], view.shape, strides, writeable=False)
    return np.array(reached, order="C")

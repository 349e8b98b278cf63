"""Arrays in the memory of a GPU, for the CUDA kernels of `tledge.native`. Not run on a GPU yet.

A build without those kernels, or a machine without a GPU, has no `name`, and nothing here does anything then.
"""

from __future__ import annotations

import contextlib
import math
import os
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from tledge.errors import TledgeError

try:
    from tledge import _kernels
except ImportError:  # `tledge.native` says so
    _kernels = None

_cuda = getattr(_kernels, "cuda", None)  # there only in a build with the CUDA kernels, on a machine with a GPU
_allowed: ContextVar[bool] = ContextVar("allowed", default=False)
_kept: list[Any] = []  # a weak reference to the last array that was kept, and what it is on the GPU
_LARGE_BYTES = 64 << 20


def name() -> str:
    """Return the name of the GPU that the CUDA kernels run on; empty where there is none, or none were built."""
    return "" if _cuda is None else _cuda.DEVICE


def upload(array: np.ndarray) -> Any:
    """Return a copy of `array`, C-contiguous, in the memory of the GPU, for as long as it is held.

    Variant `cuda` of a kernel takes it in place of `x`, `labels`, `targets` or `shares`, so that what many calls share
    goes there once: `implementation("softmax_loss_grad", "cuda")(upload(x), weights, upload(labels), …)`. That variant
    wants all arrays C-contiguous. Not run on a GPU yet.

    Raises TledgeError when there is no GPU or this build has no CUDA kernels, RuntimeError when its memory is full.
    """
    if _cuda is None:
        raise TledgeError("There is no GPU that the kernels could run on.", "'tledge doctor' lists what there is.")
    return _cuda.upload(array)


@contextlib.contextmanager
def allowed(yes: bool) -> Iterator[None]:
    """Let `kept` have its way inside, where `yes`; without this it does nothing."""
    token = _allowed.set(yes)
    try:
        yield
    finally:
        _allowed.reset(token)


def kept(array: np.ndarray) -> Any | None:
    """Return `array` as `upload` does if a GPU may be used, it is large enough to be worth it and fits, else None.

    The last array stays there as long as it lives, so that asking again costs nothing; it must not change meanwhile.
    Large are 64 MB: one pass over so much takes a processor milliseconds, and a fit makes hundreds of passes.
    """
    if _cuda is None or not _allowed.get() or array.nbytes < _LARGE_BYTES or os.environ.get("TLEDGE_KERNELS"):
        return None
    if not _kept or _kept[0]() is not array:
        _kept.clear()
        try:
            _kept[:] = weakref.ref(array, lambda _: _kept.clear()), upload(array)
        except RuntimeError:  # its memory is full
            return None
    return _kept[1]


def pinned(shape: tuple[int, ...], dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """Return zeros in memory that a GPU copies from and to by itself, or in ordinary memory where there is no GPU."""
    if _cuda is None:
        return np.zeros(shape, dtype)
    return _cuda.pinned(math.prod(shape) * np.dtype(dtype).itemsize).view(dtype).reshape(shape)

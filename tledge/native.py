"""Pick, kernel by kernel, the compiled function from `tledge._kernels` or its twin in `tledge.reference`.

By default the fastest variant that this processor can run is taken. TLEDGE_KERNELS=reference|scalar|avx2|avx512|neon in
the environment forces one; it is read once, at the first call. A build with the CUDA kernels has a variant `cuda` where
there is a GPU. It is never taken by default: what lies in the host's memory is mostly not worth the way to the device.
`on_gpu` keeps an array there.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np

from tledge import reference
from tledge.errors import TledgeError

try:
    from tledge import _kernels
except ImportError as error:
    _kernels = None
    if os.environ.get("TLEDGE_KERNELS") != "reference":
        warnings.warn(
            f"tledge runs without its compiled kernels ({error}): the NumPy reference gives the same results, slowly.",
            RuntimeWarning,
            stacklevel=2,
        )

_gpu = getattr(_kernels, "cuda", None)  # there only in a build with the CUDA kernels, on a machine with a GPU

_may_use_gpu: ContextVar[bool] = ContextVar("may_use_gpu", default=False)
_kept: list[Any] = []  # a weak reference to the last array that was kept on the GPU, and what it is there
_WORTH_A_GPU = 64 << 20

KERNELS = ("resize", "softmax_loss_grad", "sigmoid_loss_grad", "gram")


class Variant(NamedTuple):
    """One way to compute a kernel: its name, the instructions it needs, whether this processor has them."""

    name: str
    isa: str
    supported: bool


def resize(
    image: np.ndarray, out: np.ndarray, box: reference.Box | None = None, interpolation: str = "bilinear"
) -> None:
    """Resample `image` to the size of `out`, antialiased, into `out`; the same bytes as Pillow's `Image.resize`.

    `image` is uint8 [H, W, 3], [H, W, 1] or [H, W], C-contiguous; grey is replicated into the three channels. `out` is
    uint8 [h, w, 3], contiguous within each row, its rows any distance apart: a window of a batch will do. `box` is the
    region to take, (x0, y0, x1, y1) in source pixels; the whole image without it. `interpolation` is "bilinear" or
    "bicubic". The interpreter's lock is released meanwhile.

    Raises TypeError on another dtype, rank or layout (nothing is ever copied to fit), ValueError on an empty image, on
    a box that is empty or leaves the image, or on an unknown interpolation. Formula and source: `tledge.reference`.
    """
    implementation("resize")(image, out, box, interpolation)


def softmax_loss_grad(
    x: np.ndarray, weights: np.ndarray, labels: np.ndarray, shares: np.ndarray, gradient: np.ndarray, threads: int = 1
) -> float:
    """Return the loss of softmax regression and add its derivative by `weights` to `gradient`, in one pass over `x`.

    The loss is Σ share · −log p(label | x) over rows and folds. Folds are models of their own over the same rows:
    `weights` is float32 [classes · folds, d + 1], row c · folds + f that of class c in fold f, the bias last;
    `gradient` is float64 of the same shape. `x` is float32 or float16 [n, d], `labels` int32 [n], all C-contiguous;
    `shares` float32 [folds, n] is the weight of each row in each fold, contiguous along the rows. The rows are
    shared out over up to `threads` threads, the interpreter's lock released; equal arguments give equal bits in one
    variant, on any number of threads.

    Raises TypeError on another dtype, rank, shape or layout, ValueError on an empty array, a label that is no class,
    or no thread. Formula and source: `tledge.reference`.
    """
    return implementation("softmax_loss_grad")(x, weights, labels, shares, gradient, threads)


def sigmoid_loss_grad(
    x: np.ndarray, weights: np.ndarray, targets: np.ndarray, shares: np.ndarray, gradient: np.ndarray, threads: int = 1
) -> float:
    """Return the loss of logistic regression, a sigmoid for each class, and add its derivative to `gradient`.

    `targets` is bool [n, classes] and `shares` float32 [classes, folds, n]; all else is as in `softmax_loss_grad`.
    """
    return implementation("sigmoid_loss_grad")(x, weights, targets, shares, gradient, threads)


def gram(x: np.ndarray, labels: np.ndarray, product: np.ndarray, sums: np.ndarray) -> None:
    """Add xᵀx to `product` and the rows of each label to `sums`.

    `x` is float32 or float16 [n, d], `labels` int32 [n] in 0..classes-1; `product` float64 [d, d] and `sums` float64
    [classes, d], all C-contiguous.

    Raises TypeError on another dtype, rank, shape or layout, ValueError on an empty array or a label that is no class.
    Formula and source: `tledge.reference`.
    """
    implementation("gram")(x, labels, product, sums)


def gpu() -> str:
    """Return the name of the GPU that the CUDA kernels run on; empty where there is none, or none were built."""
    return "" if _gpu is None else _gpu.DEVICE


def on_gpu(array: np.ndarray) -> Any:
    """Return a copy of `array`, C-contiguous, in the memory of the GPU, for as long as it is held.

    Variant `cuda` of a kernel takes it in place of `x`, `labels`, `targets` or `shares`, so that what many calls share
    goes there once: `implementation("softmax_loss_grad", "cuda")(on_gpu(x), weights, on_gpu(labels), …)`. That variant
    wants all arrays C-contiguous. Not run on a GPU yet.

    Raises TledgeError when there is no GPU or this build has no CUDA kernels, RuntimeError when its memory is full.
    """
    if _gpu is None:
        raise TledgeError("There is no GPU that the kernels could run on.", "'tledge doctor' lists what there is.")
    return _gpu.upload(array)


@contextlib.contextmanager
def may_use_gpu(allowed: bool) -> Iterator[None]:
    """Let `kept_on_gpu` have its way inside, where `allowed`; without this it does nothing."""
    token = _may_use_gpu.set(allowed)
    try:
        yield
    finally:
        _may_use_gpu.reset(token)


def kept_on_gpu(array: np.ndarray) -> Any | None:
    """Return `array` as `on_gpu` does if a GPU may be used, it is large enough to be worth it and fits, else None.

    The last array stays there as long as it lives, so that asking again costs nothing; it must not change meanwhile.
    Large are 64 MB: one pass over so much takes a processor milliseconds, and a fit makes hundreds of passes.
    """
    if _gpu is None or not _may_use_gpu.get() or array.nbytes < _WORTH_A_GPU or os.environ.get("TLEDGE_KERNELS"):
        return None
    if not _kept or _kept[0]() is not array:
        _kept.clear()
        try:
            _kept[:] = weakref.ref(array, lambda _: _kept.clear()), on_gpu(array)
        except RuntimeError:  # its memory is full
            return None
    return _kept[1]


def pinned(shape: tuple[int, ...], dtype: np.dtype | type = np.uint8) -> np.ndarray:
    """Return zeros in memory that a GPU copies from and to by itself, or in ordinary memory where there is no GPU."""
    if _gpu is None:
        return np.zeros(shape, dtype)
    return _gpu.pinned(math.prod(shape) * np.dtype(dtype).itemsize).view(dtype).reshape(shape)


def variants(kernel: str) -> tuple[Variant, ...]:
    """Return the variants of `kernel` that this build holds, the fastest first; the NumPy reference is the last."""
    compiled = () if _kernels is None else _kernels.VARIANTS.get(kernel, ())
    return (*(Variant(*row) for row in compiled), Variant("reference", "NumPy", True))


@functools.cache
def implementation(kernel: str, variant: str | None = None) -> Callable[..., Any]:
    """Return the function that computes `kernel`: in the `variant` named, else in the one that is `chosen`.

    Raises TledgeError when that variant is not in this build or needs instructions that this processor lacks.
    """
    name = chosen(kernel, variant)
    if name == "reference":
        return getattr(reference, kernel)
    if name == "cuda":
        return getattr(_gpu, kernel)
    return functools.partial(getattr(_kernels, kernel), variant=name)


def chosen(kernel: str, variant: str | None = None) -> str:
    """Return the name of the variant that computes `kernel`: the one given, else TLEDGE_KERNELS, else the fastest.

    Raises TledgeError when that variant is not in this build or needs instructions that this processor lacks.
    """
    available = [each.name for each in variants(kernel) if each.supported]
    name = variant or os.environ.get("TLEDGE_KERNELS") or available[0]
    if name not in available:
        raise TledgeError(
            f"Kernel variant {name!r} of {kernel} is not available here.",
            f"Set TLEDGE_KERNELS to one of {', '.join(available)}, or leave it unset.",
        )
    return name

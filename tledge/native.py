"""Pick, kernel by kernel, the compiled function from `tledge._kernels` or its twin in `tledge.reference`.

By default the fastest variant that this processor can run is taken. TLEDGE_KERNELS=reference|scalar|avx2|avx512|neon in
the environment forces one; it is read once, at the first call. A build with the CUDA kernels has a variant `cuda` where
there is a GPU. It is never taken by default: what lies in the host's memory is mostly not worth the way to the device.
`tledge.gpu` keeps arrays there.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Sequence
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

KERNELS = ("resize_normalize", "softmax_loss_grad", "sigmoid_loss_grad", "observe", "gram")


class Variant(NamedTuple):
    """One way to compute a kernel: its name, the instructions it needs, whether this processor has them."""

    name: str
    isa: str
    supported: bool


def resize_normalize(
    images: Sequence[np.ndarray],
    out: np.ndarray,
    fit: str = "stretch",
    interpolation: str = "bilinear",
    levels: np.ndarray | None = None,
    threads: int = 1,
) -> None:
    """Resample each of `images` to the size of its place in `out`, antialiased, into `out`: the bytes of Pillow.

    `images` are uint8 [H, W, 3], [H, W, 1] or [H, W], C-contiguous, of any sizes; grey is replicated into the three
    channels. `out` is uint8 [N, h, w, 3], or float32 or float16 [N, 3, h, w], C-contiguous, and overlaps none of them.
    `levels`, of the float type of `out`, [3, 256], is what each grey level of each channel becomes: take
    `reference.levels_of(mean, std, dtype)`. `fit`: "stretch" ignores the aspect ratio; "crop" takes the largest centred
    box of the target's; "pad" keeps the whole picture, centred on grey. A picture of the target's size passes
    unchanged. `interpolation` is "bilinear" or "bicubic". Up to `threads` pictures are worked on at a time; the
    interpreter's lock is released meanwhile.

    Raises TypeError on another dtype, rank or layout (nothing is ever copied to fit), ValueError on an empty array,
    another number of images than `out` holds, or an unknown word. Formula and source: `tledge.reference`.
    """
    implementation("resize_normalize")(images, out, fit, interpolation, levels, threads)


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


def observe(x: np.ndarray, counts: np.ndarray, summary: np.ndarray) -> None:
    """Add the values of `x`, one batch of many, to the histogram `counts` and the `summary` of those before it.

    `x` is float32 of any shape, `counts` int64 [reference.BINS], `summary` float64 [6]: the exponent e of the bins, the
    smallest value, the largest, their number, their sum, the sum of their squares; both zeros before the first batch.
    Bin i of −2048 … 2047 stands at counts[2048 + i] and holds [i · 2^e, (i + 1) · 2^e). All arrays are C-contiguous.
    The interpreter's lock is released meanwhile; all variants give equal bits, and no count depends on the order of
    batches.

    Raises TypeError on another dtype, rank, shape or layout, ValueError on an empty `x` or one that is not finite, of
    which nothing is counted then. Why bins are powers of two: `tledge.reference`.
    """
    implementation("observe")(x, counts, summary)


def gram(x: np.ndarray, labels: np.ndarray, product: np.ndarray, sums: np.ndarray) -> None:
    """Add xᵀx to `product` and the rows of each label to `sums`.

    `x` is float32 or float16 [n, d], `labels` int32 [n] in 0..classes-1; `product` float64 [d, d] and `sums` float64
    [classes, d], all C-contiguous.

    Raises TypeError on another dtype, rank, shape or layout, ValueError on an empty array or a label that is no class.
    Formula and source: `tledge.reference`.
    """
    implementation("gram")(x, labels, product, sums)


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
        return getattr(_kernels.cuda, kernel)
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

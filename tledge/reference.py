"""The kernels in plain NumPy: what each must compute, the oracle of its tests, and the fallback without the extension.

Every function here has a twin of the same name, signature and refusals in `tledge._kernels`, and `tledge.native` picks
between them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Box = tuple[float, float, float, float]

_FIXED_POINT = 2.0**22
_TILE_BYTES = 64 << 20  # of logits in memory at a time


def resize(image: np.ndarray, out: np.ndarray, box: Box | None = None, interpolation: str = "bilinear") -> None:
    """Resample `image` to the size of `out`, antialiased, into `out`.

    `image` is uint8 [H, W, 3], [H, W, 1] or [H, W], C-contiguous; grey is replicated into the three channels. `out` is
    uint8 [h, w, 3], contiguous within each row, its rows any distance apart: a window of a batch will do. The two must
    not overlap. `box` is the region to take, (x0, y0, x1, y1) in source pixels, fractions allowed; the whole image
    without it. `interpolation` is "bilinear" or "bicubic" (a = -1/2).

    Raises TypeError on another dtype, rank or layout, ValueError on an empty image, a box that is empty or leaves the
    image, or an unknown interpolation. Source: Keys 1981, "Cubic convolution interpolation for digital image
    processing", for the cubic; windows, rounding after each pass, and the order of the passes (down before across only
    where the height shrinks much more than the width) are those of Pillow 13's `Image.resize`: the bytes are the same.
    """
    _check_arrays(image, out)
    if interpolation not in _FILTERS:
        raise ValueError(f'interpolation must be "bilinear" or "bicubic", found {interpolation!r}.')
    (height, width), pixels = image.shape[:2], image.reshape(*image.shape[:2], -1)
    x0, y0, x1, y1 = _check_box(box, width, height)
    across = _weights(width, out.shape[1], x0, x1, interpolation)
    down = _weights(height, out.shape[0], y0, y1, interpolation)
    if height > out.shape[0] and height - out.shape[0] > 2 * (width - out.shape[1]):
        out[...] = _to_bytes(across @ _to_bytes(np.tensordot(down, pixels, 1)))
    else:
        out[...] = _to_bytes(np.tensordot(down, _to_bytes(across @ pixels), 1))


def _weights(size: int, outputs: int, low: np.float32, high: np.float32, interpolation: str) -> np.ndarray:
    """Return the [outputs, size] coefficients of one axis, whole numbers in units of 2**-22 (exact in float64)."""
    weigh, support = _FILTERS[interpolation]
    scale = float(high - low) / outputs
    stretch = max(scale, 1.0)
    centres = (float(low) + (np.arange(outputs) + 0.5) * scale)[:, None]
    first, end = (np.trunc(centres + side * support * stretch + 0.5) for side in (-1, 1))
    taps = np.arange(size)
    weights = np.where((taps >= first) & (taps < end), weigh(np.abs(taps - centres + 0.5) / stretch), 0.0)
    weights /= weights.sum(1, keepdims=True)
    return np.trunc(weights * _FIXED_POINT + np.copysign(0.5, weights))


def _to_bytes(sums: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(sums / _FIXED_POINT + 0.5), 0, 255)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - distance, 0.0)


def _cubic(distance: np.ndarray) -> np.ndarray:
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((2.5 - 0.5 * distance) * distance - 4.0) * distance + 2.0
    return np.where(distance < 1.0, near, np.where(distance < 2.0, far, 0.0))


_FILTERS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
}


# ── Loss and gradient of linear classifiers ──────────────────────────────────────────────────────────────────────────


def softmax_loss_grad(
    x: np.ndarray, weights: np.ndarray, labels: np.ndarray, shares: np.ndarray, gradient: np.ndarray, threads: int = 1
) -> float:
    """Return the loss of softmax regression and add its derivative by `weights` to `gradient`.

    The loss is Σ share · −log p(label | x) over rows and folds. Folds are models of their own over the same rows:
    `weights` is float32 [classes · folds, d + 1], row c · folds + f that of class c in fold f, the bias last;
    `gradient` is float64 of the same shape. `x` is float32 or float16 [n, d], `labels` int32 [n], all C-contiguous;
    `shares` float32 [folds, n] is the weight of each row in each fold, contiguous along the rows. `threads` is how many
    may work on it; here, NumPy decides.

    Raises TypeError on another dtype, rank, shape or layout, ValueError on an empty array, a label that is no class, or
    no thread.
    Source: Bishop 2006, Pattern Recognition and Machine Learning, eqs. 4.108 and 4.109. Agrees with the exact result
    to 4 · eps · √d relative to the largest derivative, eps that of float32.
    """
    folds, classes = _check_models(x, weights, shares, gradient, threads, rank=2)
    _check_vector("labels", labels, np.dtype(np.int32), (len(x),))
    _check_labels(labels, classes)
    loss = 0.0
    for rows in _tiles(len(x), len(weights)):
        part, share, label, each = x[rows].astype(np.float32), shares[:, rows], labels[rows], np.arange(len(x[rows]))
        logits = (weights[:, :-1] @ part.T + weights[:, -1:]).reshape(classes, folds, -1)
        logits -= logits.max(axis=0)
        truth = logits[label, :, each].T
        np.exp(logits, out=logits)
        total = logits.sum(axis=0)
        loss += float((share * (np.log(total) - truth)).sum(dtype=np.float64))
        logits *= share / total
        logits[label, :, each] -= share.T
        _add_gradient(logits, part, gradient)
    return loss


def sigmoid_loss_grad(
    x: np.ndarray, weights: np.ndarray, targets: np.ndarray, shares: np.ndarray, gradient: np.ndarray, threads: int = 1
) -> float:
    """Return the loss of logistic regression, a sigmoid for each class, and add its derivative to `gradient`.

    The loss is Σ share · −log p(target | x) over rows, classes and folds. `targets` is bool [n, classes] and `shares`
    float32 [classes, folds, n]; all else is as in `softmax_loss_grad`. Source: Bishop 2006, eqs. 4.90 and 4.91, in the
    form that cannot overflow: −log p = max(z, 0) − z·y + log(1 + e^−|z|).
    """
    folds, classes = _check_models(x, weights, shares, gradient, threads, rank=3)
    _check_vector("targets", targets, np.dtype(bool), (len(x), classes))
    loss = 0.0
    for rows in _tiles(len(x), len(weights)):
        part, share = x[rows].astype(np.float32), shares[..., rows]
        logits = (weights[:, :-1] @ part.T + weights[:, -1:]).reshape(classes, folds, -1)
        wanted = targets[rows].T[:, None].astype(np.float32)
        faded = np.exp(-np.abs(logits))
        each = np.maximum(logits, 0) - logits * wanted + np.log1p(faded)
        loss += float((share * each).sum(dtype=np.float64))
        likely = np.where(logits >= 0, 1, faded) / (1 + faded)
        _add_gradient(share * (likely - wanted), part, gradient)
    return loss


def _tiles(count: int, columns: int) -> list[slice]:
    size = max(1, _TILE_BYTES // (4 * columns))
    return [slice(first, first + size) for first in range(0, count, size)]


def _add_gradient(error: np.ndarray, x: np.ndarray, gradient: np.ndarray) -> None:
    flat = error.reshape(len(gradient), -1)
    gradient[:, :-1] += flat @ x
    gradient[:, -1] += flat.sum(axis=1)


# ── Products of features ─────────────────────────────────────────────────────────────────────────────────────────────


def gram(x: np.ndarray, labels: np.ndarray, product: np.ndarray, sums: np.ndarray) -> None:
    """Add xᵀx to `product`, and to each row of `sums` the rows of `x` with that label.

    `x` is float32 or float16 [n, d], `labels` int32 [n] in 0..classes-1; `product` float64 [d, d] and `sums` float64
    [classes, d], all C-contiguous. Ridge regression, linear discriminants and class means need no more of the data.

    Raises TypeError on another dtype, rank, shape or layout, ValueError on an empty array or a label that is no class.
    Source: Hastie, Tibshirani and Friedman 2009, The Elements of Statistical Learning, eqs. 3.44 and 4.3.
    """
    half = getattr(x, "dtype", None) == np.float16
    _check_vector("x", x, np.dtype(np.float16 if half else np.float32), (None, None))
    _check_vector("labels", labels, np.dtype(np.int32), (len(x),))
    _check_vector("product", product, np.dtype(np.float64), (x.shape[1], x.shape[1]))
    _check_vector("sums", sums, np.dtype(np.float64), (None, x.shape[1]))
    _check_labels(labels, len(sums))
    for rows in _tiles(len(x), x.shape[1]):
        part = x[rows].astype(np.float64)
        product += part.T @ part
        np.add.at(sums, labels[rows], part)


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _check_arrays(image: np.ndarray, out: np.ndarray) -> None:
    for name, array in (("image", image), ("out", out)):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
            raise TypeError(f"{name} must be a uint8 array, found {getattr(array, 'dtype', type(array).__name__)}.")
    if image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
        raise TypeError(f"image must have shape [H, W, 3], [H, W, 1] or [H, W], found {list(image.shape)}.")
    if not image.flags.c_contiguous:
        raise TypeError("image must be C-contiguous; pass numpy.ascontiguousarray(image).")
    if out.ndim != 3 or out.shape[2] != 3:
        raise TypeError(f"out must have shape [h, w, 3], found {list(out.shape)}.")
    if not out.flags.writeable:
        raise TypeError("out must be writeable.")
    if 0 in image.shape or 0 in out.shape:
        raise ValueError(f"image and out must not be empty, found {list(image.shape)} and {list(out.shape)}.")
    if not out[0].flags.c_contiguous:
        raise TypeError("out must be contiguous within each row.")
    if np.may_share_memory(image, out):
        raise ValueError("image and out must not overlap.")


def _check_models(
    x: np.ndarray, weights: np.ndarray, shares: np.ndarray, gradient: np.ndarray, threads: int, rank: int
) -> tuple[int, int]:
    """Return the numbers of folds and classes."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, found {threads}.")
    half = getattr(x, "dtype", None) == np.float16
    _check_vector("x", x, np.dtype(np.float16 if half else np.float32), (None, None))
    _check_dtype("shares", shares, np.dtype(np.float32))
    _check_shape("shares", shares, (*(None,) * (rank - 1), len(x)))
    if any(step < 0 for step in shares.strides) or shares.strides[-1] != shares.itemsize:
        raise TypeError("shares must be contiguous along its last axis, the rows.")
    folds = shares.shape[-2]
    _check_dtype("weights", weights, np.dtype(np.float32))
    _check_shape("weights", weights, (None if rank == 2 else shares.shape[0] * folds, x.shape[1] + 1))
    if len(weights) % folds:
        raise TypeError(f"weights must have a row for each class and fold, found {list(weights.shape)}.")
    _check_vector("weights", weights, np.dtype(np.float32), weights.shape)
    _check_vector("gradient", gradient, np.dtype(np.float64), weights.shape)
    if not gradient.flags.writeable:
        raise TypeError("gradient must be writeable.")
    return folds, len(weights) // folds


def _check_labels(labels: np.ndarray, classes: int) -> None:
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise ValueError(f"labels must lie in 0..{classes - 1}, found {outside[0]}.")


def _check_vector(name: str, array: np.ndarray, dtype: np.dtype, shape: tuple[int | None, ...]) -> None:
    _check_dtype(name, array, dtype)
    _check_shape(name, array, shape)
    if not array.flags.c_contiguous:
        raise TypeError(f"{name} must be C-contiguous.")


def _check_dtype(name: str, array: np.ndarray, dtype: np.dtype) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise TypeError(f"{name} must be a {dtype} array, found {getattr(array, 'dtype', type(array).__name__)}.")


def _check_shape(name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> None:
    if array.ndim != len(shape) or any(w not in (None, n) for w, n in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise TypeError(f"{name} must have shape [{wanted}], found {list(array.shape)}.")
    if 0 in array.shape:
        raise ValueError(f"{name} must not be empty, found {list(array.shape)}.")


def _check_box(box: Box | None, width: int, height: int) -> tuple[np.float32, ...]:
    """Return the box in single precision, as Pillow keeps it."""
    try:
        x0, y0, x1, y1 = (float(edge) for edge in ((0, 0, width, height) if box is None else box))
    except (TypeError, ValueError):
        raise ValueError(f"box must be four numbers (x0, y0, x1, y1), found {box!r}.") from None
    edges = tuple(np.float32(edge) for edge in (x0, y0, x1, y1))
    if not (0 <= edges[0] < edges[2] <= width and 0 <= edges[1] < edges[3] <= height):
        limits = f"0 <= x0 < x1 <= {width} and 0 <= y0 < y1 <= {height}"
        raise ValueError(f"box must satisfy {limits}, found ({x0:g}, {y0:g}, {x1:g}, {y1:g}).")
    return edges

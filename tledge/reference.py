"""The kernels in plain NumPy: what each must compute, the oracle of its tests, and the fallback without the extension.

Every function here has a twin of the same name, signature and refusals in `tledge._kernels`, and `tledge.native` picks
between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

Box = tuple[float, float, float, float]  # x0, y0, x1, y1
_Fitted = tuple[Box, slice, slice]  # what part of a picture goes to which rows and columns
PAD_GREY = 128

_FIXED_POINT = 2.0**22
_TILE_BYTES = 64 << 20  # of logits in memory at a time
BINS = 4096  # of what `observe` counts; half of them for negative values
_LOWEST_EXPONENT = -160  # of bins where nothing but zeros was seen; the smallest float32 has -159
_SUMS, _BLOCK = 16, 1 << 15


def resize_normalize(
    images: Sequence[np.ndarray],
    out: np.ndarray,
    fit: str = "stretch",
    interpolation: str = "bilinear",
    levels: np.ndarray | None = None,
    threads: int = 1,
) -> None:
    """Resample each of `images` to the size of its place in `out`, antialiased, into `out`.

    `images` are uint8 [H, W, 3], [H, W, 1] or [H, W], C-contiguous, of any sizes; grey is replicated into the three
    channels. `out` is uint8 [N, h, w, 3], or float32 or float16 [N, 3, h, w], C-contiguous, and overlaps none of them.
    `levels`, of the float type of `out`, [3, 256], is what each grey level of each channel becomes (`levels_of`).
    `fit`: "stretch" ignores the aspect ratio; "crop" takes the largest centred box of the target's; "pad" keeps the
    whole picture, centred on grey (PAD_GREY). A picture of the target's size passes unchanged. `interpolation` is
    "bilinear" or "bicubic" (a = -1/2). `threads` is how many of them the compiled variants work with.

    Raises TypeError on another dtype, rank or layout, ValueError on an empty array, another number of images than `out`
    holds, or an unknown word. Source: Keys 1981, "Cubic convolution interpolation for digital image processing", for
    the cubic; windows, rounding after each pass, and the order of the passes (down before across only where the height
    shrinks much more than the width) are those of Pillow 13's `Image.resize` with a `box`: the bytes are the same.
    """
    _check_batch(out, levels)
    _check_images(images, out)
    if fit not in _FITS:
        raise ValueError(f'fit must be "stretch", "crop" or "pad", found {fit!r}.')
    if interpolation not in _FILTERS:
        raise ValueError(f'interpolation must be "bilinear" or "bicubic", found {interpolation!r}.')
    if threads < 1:
        raise ValueError(f"threads must be at least 1, found {threads}.")
    for image, place in zip(images, out, strict=True):
        target = place.shape[:2] if levels is None else place.shape[1:]
        pixels = np.full((*target, 3), PAD_GREY, np.uint8)
        box, rows, columns = _FITS[fit](image.shape[:2], target)
        _resample(image.reshape(*image.shape[:2], -1), pixels[rows, columns], box, interpolation)
        if levels is None:
            place[...] = pixels
        else:
            for channel, values in enumerate(levels):
                place[channel] = values[pixels[..., channel]]


def levels_of(mean: Sequence[float], std: Sequence[float], dtype: type = np.float32) -> np.ndarray:
    """Return [3, 256] of `dtype`: (level - mean) / std for each channel, rounded to float32, then to `dtype`."""
    grey, column = np.arange(256.0), (3, 1)
    return ((grey - np.reshape(mean, column)) / np.reshape(std, column)).astype(np.float32).astype(dtype)


def _stretch(size: tuple[int, int], target: tuple[int, int]) -> _Fitted:
    return (0, 0, size[1], size[0]), slice(None), slice(None)


def _crop(size: tuple[int, int], target: tuple[int, int]) -> _Fitted:
    (height, width), zoom = size, max(target[0] / size[0], target[1] / size[1])
    box_height, box_width = min(height, target[0] / zoom), min(width, target[1] / zoom)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return (left, top, width - left, height - top), slice(None), slice(None)


def _pad(size: tuple[int, int], target: tuple[int, int]) -> _Fitted:
    zoom = min(target[0] / size[0], target[1] / size[1])
    inner = [min(whole, max(1, round(length * zoom))) for length, whole in zip(size, target, strict=True)]
    places = [slice((whole - part) // 2, (whole - part) // 2 + part) for part, whole in zip(inner, target, strict=True)]
    return (0, 0, size[1], size[0]), *places


_FITS: dict[str, Callable[[tuple[int, int], tuple[int, int]], _Fitted]] = {
    "stretch": _stretch,
    "crop": _crop,
    "pad": _pad,
}


def _resample(pixels: np.ndarray, out: np.ndarray, box: Box, interpolation: str) -> None:
    height, width = pixels.shape[:2]
    if (height, width) == out.shape[:2]:
        out[...] = pixels
        return
    x0, y0, x1, y1 = (np.float32(edge) for edge in box)  # single precision, as Pillow keeps it
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


# ── Activations ──────────────────────────────────────────────────────────────────────────────────────────────────────


def observe(x: np.ndarray, counts: np.ndarray, summary: np.ndarray) -> None:
    """Add the values of `x`, one batch of many, to the histogram `counts` and the `summary` of those before it.

    Both are zeros before the first batch. `counts` is int64 [4096]: counts[2048 + i] values lie in [i · 2^e, (i + 1) ·
    2^e), e the least for which −2048 <= i <= 2047 holds of all values so far. `summary` is float64 [6]: e, the smallest
    value, the largest, their number, their sum, the sum of their squares. `x` is float32 of any shape. All arrays are
    C-contiguous.

    When a batch widens the range, bins are merged in pairs, which is exact: ⌊⌊y⌋ / 2⌋ = ⌊y / 2⌋. So the order of
    batches changes no count and no range, only the last bits of the two sums; and between ±max |x| lie 2048 bins at
    least. Raises TypeError on another dtype, rank, shape or layout, ValueError on an empty `x` or one that is not
    finite, of which nothing is counted then.
    """
    _check_activations(x, counts, summary)
    low, high = float(x.min()), float(x.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("x must be finite, found NaN or infinity.")
    largest = max(abs(low), abs(high))
    before = int(summary[0]) if summary[3] else _LOWEST_EXPONENT
    exponent = max(before, int(np.frexp(largest)[1]) - 11 if largest else _LOWEST_EXPONENT)
    for _ in range(min(exponent - before, 12)):  # then all lies in the two bins beside zero, and stays there
        merged = counts.reshape(-1, 2).sum(axis=1)
        counts[:] = 0
        counts[BINS // 4 : -BINS // 4] = merged
    sums = np.zeros((2, _SUMS))
    for values in np.split(x.ravel(), range(_BLOCK, x.size, _BLOCK)):
        wide = np.zeros(-(-len(values) // _SUMS) * _SUMS)
        wide[: len(values)] = values
        for total, addends in zip(sums, (wide, wide * wide), strict=True):
            # One after another, as the compiled kernel adds them: reduced along rows, NumPy does so.
            total[:] = np.add.reduce(np.vstack([total, addends.reshape(-1, _SUMS)]), axis=0)
        bins = np.floor(wide[: len(values)] * 2.0**-exponent).astype(np.int64)
        counts += np.bincount(bins + BINS // 2, minlength=BINS)
    low, high = (low, high) if not summary[3] else (min(low, summary[1]), max(high, summary[2]))
    total, squares = (np.add.accumulate(each)[-1] for each in sums)
    summary[:] = exponent, low + 0.0, high + 0.0, summary[3] + x.size, summary[4] + total, summary[5] + squares


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


def _check_images(images: Sequence[np.ndarray], out: np.ndarray) -> None:
    if isinstance(images, str | bytes) or not isinstance(images, Sequence | np.ndarray):
        raise TypeError(f"images must be a list of arrays, found {type(images).__name__}.")
    if len(images) != len(out):
        raise ValueError(f"images must be as many as out holds, {len(out)}, found {len(images)}.")
    for image in images:
        _check_dtype("image", image, np.dtype(np.uint8))
        if image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)):
            raise TypeError(f"image must have shape [H, W, 3], [H, W, 1] or [H, W], found {list(image.shape)}.")
        if not image.flags.c_contiguous:
            raise TypeError("image must be C-contiguous; pass numpy.ascontiguousarray(image).")
        if 0 in image.shape:
            raise ValueError(f"image must not be empty, found {list(image.shape)}.")
        if np.may_share_memory(image, out):
            raise ValueError("images and out must not overlap.")


def _check_batch(out: np.ndarray, levels: np.ndarray | None) -> None:
    dtype = getattr(out, "dtype", None)
    if not isinstance(out, np.ndarray) or dtype not in (np.uint8, np.float16, np.float32):
        raise TypeError(f"out must be a uint8, float16 or float32 array, found {dtype or type(out).__name__}.")
    pixels = dtype == np.uint8
    _check_vector("out", out, dtype, (None, None, None, 3) if pixels else (None, 3, None, None))
    if not out.flags.writeable:
        raise TypeError("out must be writeable.")
    if pixels != (levels is None):
        raise TypeError("levels must be given where out is float, and only there.")
    if levels is not None:
        _check_vector("levels", levels, dtype, (3, 256))


def _check_activations(x: np.ndarray, counts: np.ndarray, summary: np.ndarray) -> None:
    _check_dtype("x", x, np.dtype(np.float32))
    if not x.ndim:
        raise TypeError("x must have at least one axis.")
    _check_vector("x", x, np.dtype(np.float32), x.shape)
    for name, array, dtype, length in (("counts", counts, np.int64, BINS), ("summary", summary, np.float64, 6)):
        _check_vector(name, array, np.dtype(dtype), (length,))
        if not array.flags.writeable:
            raise TypeError(f"{name} must be writeable.")


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

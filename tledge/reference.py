"""The kernels in plain NumPy: what each must compute, the oracle of its tests, and the fallback without the extension.

Every function here has a twin of the same name, signature and refusals in `tledge._kernels`, and `tledge.native` picks
between them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Box = tuple[float, float, float, float]

_FIXED_POINT = 2.0**22


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

"""Make a picture into what a model sees: decode → resize → uint8 RGB. Training and serving both go through here.

Formats: JPEG, PNG, BMP, WebP, TIFF, GIF, known by content and not by name; of several frames, the first. A file becomes
8-bit RGB (or 8-bit grey, which the resize replicates into R, G and B) in exactly one way:

| In the file                                 | Becomes                                                               |
|---------------------------------------------|-----------------------------------------------------------------------|
| 8-bit grey                                  | the same value in R, G and B                                          |
| 1-bit                                       | 0 or 255                                                              |
| 16-bit grey, integers within 0..65535       | value / 257, rounded: scaled, never clipped                           |
| 12-bit grey (TIFF)                          | value · 255 / 4095, rounded                                           |
| 16-bit RGB or RGBA, 16-bit grey with alpha  | Pillow reduces it to 8 bits on reading, to the high byte: scaled      |
| 32-bit floats (TIFF)                        | value · 255, rounded; refused when any lies outside of 0..1           |
| integers beyond 0..65535 (TIFF)             | refused: no scale is agreed upon                                      |
| over 8 bits with 0 as white (TIFF)          | refused: Pillow reads it as its own negative                          |
| palette                                     | its RGB colours                                                       |
| transparency (channel, palette, one colour) | composited over white                                                 |
| CMYK (also inverted by Adobe), YCbCr, LAB   | RGB by Pillow's conversion; colour profiles are not applied           |
| EXIF orientation                            | applied; EXIF that cannot be read counts as none                      |

Damaged files are refused, never filled up: a picture cut short is a DataError.
"""

from __future__ import annotations

import functools
import io
import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from tledge import native
from tledge.errors import DataError
from tledge.schema import PreprocessSpec

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
# Part of the key of cached features: count it up when the pixels that a file becomes change.
REVISION = 1
MAX_PIXELS = 128_000_000
PAD_GREY = 128

_GREY_MODES = ("L", "1")
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_ALPHA_MODES = ("LA", "La", "RGBA", "RGBa", "PA")
_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_EXIF_ORIENTATION = 274


# ── Decode ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def decode(source: str | os.PathLike[str] | bytes) -> np.ndarray:
    """Decode a picture, given as a path or as the bytes of its file.

    Returns uint8 [H, W, 3] RGB, or uint8 [H, W] where the file holds plain grey; the array may be read-only. The table
    above lists the conversions. Raises DataError, its message the bare reason, when the file cannot be read, is no
    picture, is damaged or cut short, or has more than MAX_PIXELS pixels (known from its header, before decoding).
    """
    contents = source if isinstance(source, bytes) else _read(source)
    with _quiet():
        try:
            return _decode(contents)
        except DataError:
            raise
        except MemoryError as error:
            raise DataError("not enough memory to decode it") from error
        except Exception as error:
            # On damaged input Pillow raises nearly anything: OSError, SyntaxError, ValueError, struct.error, KeyError.
            raise DataError(f"damaged or cut short ({_one_line(error)})") from error


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())


def _decode(contents: bytes) -> np.ndarray:
    with _open(contents) as image:
        image.load()
        return np.asarray(_turn_upright(_to_grey_or_rgb(image), _orientation(image)))


def _open(contents: bytes) -> Image:
    pillow = _pillow()
    if not contents:
        raise DataError("empty file (0 bytes)")
    try:
        image = pillow.open(io.BytesIO(contents), formats=FORMATS)
    except pillow.UnidentifiedImageError as error:
        raise DataError(f"damaged, or not one of {', '.join(FORMATS)}") from error
    except pillow.DecompressionBombError as error:
        raise DataError(f"too large: more than {MAX_PIXELS:,} pixels") from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"too large: {width} × {height} is more than {MAX_PIXELS:,} pixels")
    return image


@functools.cache
def _pillow() -> ModuleType:
    # Pillow knows the other four at once; for want of these two it would load all of its forty.
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401

    return Image


# ── Warnings ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_quiet_lock = threading.Lock()
_quiet_count = 0
_quiet_filters = warnings.catch_warnings()


@contextmanager
def _quiet() -> Iterator[None]:
    # Pillow warns of what is refused, or decided, here. `warnings.catch_warnings` alone is not safe across threads:
    # the filters are shared, so the first thread to enter saves them and the last one to leave restores them.
    global _quiet_count, _quiet_filters
    with _quiet_lock:
        if _quiet_count == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet_count += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_count -= 1
            if _quiet_count == 0:
                _quiet_filters.__exit__(None, None, None)


# ── Convert ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _to_grey_or_rgb(image: Image) -> Image:
    if image.mode in _DEEP_MODES:
        return _scale_to_8_bits(image)
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        return _over_white(image.convert("RGBA"))
    if image.mode in _GREY_MODES:
        return image.convert("L")
    return image.convert("RGB")


def _scale_to_8_bits(image: Image) -> Image:
    values, full = np.asarray(image), _full_scale(image)
    if _tiff_tag(image, _TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        raise DataError("grey of more than 8 bits with 0 as white; save it with 0 as black")
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= full):  # so put, not-a-number is refused too
        raise DataError(f"its values lie within {low:g}..{high:g}, beyond 0..{full:g}; save it with 8 or 16 bits")
    grey = (values * np.float32(255 / full) + np.float32(0.5)).astype(np.uint8)
    if "transparency" in image.info:  # PNG: one value stands for no paint
        grey[values == image.info["transparency"]] = 255
    return _pillow().fromarray(grey)


def _full_scale(image: Image) -> float:
    if image.mode == "F":
        return 1.0
    return 4095.0 if _tiff_tag(image, _TIFF_BITS_PER_SAMPLE) == (12,) else 65535.0


def _tiff_tag(image: Image, tag: int) -> object:
    return getattr(image, "tag_v2", {}).get(tag)


def _over_white(image: Image) -> Image:
    canvas = _pillow().new("RGB", image.size, "white")
    canvas.paste(image, mask=image.getchannel("A"))
    return canvas


def _orientation(image: Image) -> int:
    # Asked for after load(): by then Pillow has turned a TIFF itself, and says so by dropping the tag.
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:
        return 1


def _turn_upright(image: Image, orientation: int) -> Image:
    flip = _pillow().Transpose
    turn = {
        2: flip.FLIP_LEFT_RIGHT,
        3: flip.ROTATE_180,
        4: flip.FLIP_TOP_BOTTOM,
        5: flip.TRANSPOSE,
        6: flip.ROTATE_270,
        7: flip.TRANSVERSE,
        8: flip.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


# ── Fit ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def fit_into(image: np.ndarray, spec: PreprocessSpec, out: np.ndarray) -> None:
    """Resize `image`, uint8 [H, W, 3] or [H, W], into `out`, uint8 [spec.height, spec.width, 3].

    `stretch` ignores the aspect ratio; `crop` takes the largest centred box of the target's aspect ratio; `pad` keeps
    the whole picture, centred on grey (PAD_GREY). A picture that has the target's size already passes unchanged.
    """
    if image.shape[:2] == (spec.height, spec.width):
        out[...] = image if image.ndim == 3 else image[..., None]
    else:
        _FITS[spec.fit](image, spec.interpolation, out)


def _stretch(image: np.ndarray, interpolation: str, out: np.ndarray) -> None:
    native.resize(image, out, interpolation=interpolation)


def _crop(image: np.ndarray, interpolation: str, out: np.ndarray) -> None:
    (height, width), (out_height, out_width) = image.shape[:2], out.shape[:2]
    zoom = max(out_height / height, out_width / width)
    box_height, box_width = min(height, out_height / zoom), min(width, out_width / zoom)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    native.resize(image, out, (left, top, width - left, height - top), interpolation)


def _pad(image: np.ndarray, interpolation: str, out: np.ndarray) -> None:
    (height, width), (out_height, out_width) = image.shape[:2], out.shape[:2]
    zoom = min(out_height / height, out_width / width)
    inner_height = min(out_height, max(1, round(height * zoom)))
    inner_width = min(out_width, max(1, round(width * zoom)))
    top, left = (out_height - inner_height) // 2, (out_width - inner_width) // 2
    out[...] = PAD_GREY
    native.resize(image, out[top : top + inner_height, left : left + inner_width], interpolation=interpolation)


_FITS = {"stretch": _stretch, "crop": _crop, "pad": _pad}


# ── Both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def load_into(source: str | os.PathLike[str] | bytes, spec: PreprocessSpec, out: np.ndarray) -> None:
    """Decode a picture and fit it into `out`, uint8 [spec.height, spec.width, 3]; raises what `decode` raises."""
    fit_into(decode(source), spec, out)


def preprocess(images: Iterable[str | os.PathLike[str] | np.ndarray], spec: PreprocessSpec) -> np.ndarray:
    """Return uint8 [N, spec.height, spec.width, 3] of N pictures, each a path or uint8 [H, W, 3] RGB or [H, W] grey.

    An array in place of the list must be [N, H, W, 3]. Raises DataError when a file cannot be decoded, and TypeError
    for anything that is neither a path nor such an array.
    """
    single = isinstance(images, str | bytes | os.PathLike) or (isinstance(images, np.ndarray) and images.ndim != 4)
    if single:
        raise TypeError(f"Images must be a list of paths or arrays, or uint8 [N, H, W, 3]; found {_describe(images)}.")
    images = list(images)
    out = np.empty((len(images), spec.height, spec.width, 3), np.uint8)
    for image, place in zip(images, out, strict=True):
        if isinstance(image, str | os.PathLike):
            _load_named(image, spec, place)
        else:
            fit_into(_checked(image), spec, place)
    return out


def _load_named(path: str | os.PathLike[str], spec: PreprocessSpec, out: np.ndarray) -> None:
    try:
        load_into(path, spec, out)
    except DataError as error:
        raise DataError(f"Picture {os.fspath(path)}: {error.message}.", "Replace or remove it.") from error


def _checked(image: object) -> np.ndarray:
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or not (image.ndim == 2 or image.shape[2:] == (3,))
        or image.size == 0
    ):
        raise TypeError(f"An image must be a path, or uint8 [H, W, 3] RGB or [H, W] grey; found {_describe(image)}.")
    return np.ascontiguousarray(image)


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__

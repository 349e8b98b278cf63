"""Decode a picture file to uint8 pixels; training and serving both go through here.

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

JPEG in colour or grey is decoded by libjpeg-turbo (simplejpeg). Where it finds a flaw, and where simplejpeg is missing,
Pillow decides: from a sound file it makes the same bytes, only slower. Orientation is always Pillow's word.
"""

from __future__ import annotations

import functools
import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from tledge.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF")
MAX_PIXELS = 128_000_000
Size = tuple[int, int]  # height, width
_GREY_MODES = ("L", "1")
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_ALPHA_MODES = ("LA", "La", "RGBA", "RGBa", "PA")
_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_EXIF_ORIENTATION = 274
_TURNED = (5, 6, 7, 8)  # orientations that swap height and width
_JPEG_FORMATS = ("JPEG", "MPO")  # MPO, several JPEGs in one file, is what some cameras write
_JPEG_START, _APP1, _START_OF_SCAN = b"\xff\xd8\xff", b"\xe1", b"\xda"
_JPEG_COLOURS = {"YCbCr": "RGB", "RGB": "RGB", "Gray": "GRAY"}  # in the file: what is asked for


def decode(source: str | os.PathLike[str] | bytes, wanted: Size | None = None) -> np.ndarray:
    """Decode a picture, given as a path or as the bytes of its file.

    Returns uint8 [H, W, 3] RGB, or uint8 [H, W] where the file holds plain grey; the array may be read-only. The
    table above lists the conversions. A picture that is only to be resized to `wanted` (height, width) may come
    smaller than it is: a JPEG is then decoded straight to 1/2, 1/4 or 1/8 of its size, rounded up, the smallest that
    still is as high and as wide. (libjpeg-turbo has other fractions, but no vector code for them: they take longer
    than the whole.) Resized, it then differs from the whole picture by 2.5 grey levels on average at 1/2 and by 3.1
    at 1/4, over photographs of flowers; bilinear differs from bicubic by 2.0. Heads fitted and read either way were
    equally accurate. Raises DataError, its message the bare reason, when the file cannot be read, is no picture, is
    damaged or cut short, or has more than MAX_PIXELS pixels (known from its header, before decoding).
    """
    contents = source if isinstance(source, bytes) else _read(source)
    if _is_plain_jpeg(contents):
        pixels = _by_libjpeg_turbo(contents, wanted)
        if pixels is not None:
            return pixels
    with _quiet():
        try:
            return _decode(contents, wanted)
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


def _decode(contents: bytes, wanted: Size | None) -> np.ndarray:
    with _open(contents) as image:
        if image.format in _JPEG_FORMATS:
            return _decode_jpeg(contents, image, wanted)
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


# ── JPEG ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _is_plain_jpeg(contents: bytes) -> bool:
    """Return whether it is a JPEG that certainly has no orientation: no EXIF or XMP segment before its first scan."""
    at = 2
    if not contents.startswith(_JPEG_START):
        return False
    while contents[at : at + 1] == b"\xff" and contents[at + 1 : at + 2] != _APP1:
        if contents[at + 1 : at + 2] == _START_OF_SCAN:
            return True
        at += 2 + int.from_bytes(contents[at + 2 : at + 4])
    return False


def _decode_jpeg(contents: bytes, image: Image, wanted: Size | None) -> np.ndarray:
    orientation = _orientation(image)
    if wanted and orientation in _TURNED:
        wanted = wanted[::-1]
    pixels = _by_libjpeg_turbo(contents, wanted)
    if pixels is None:
        width, height = image.size
        divisor = _divisor(height, width, wanted)
        if divisor > 1:
            image.draft(None, (width // divisor, height // divisor))
        image.load()
        upright = _turn_upright(_to_grey_or_rgb(image), orientation)
    else:
        upright = _turn_upright(_pillow().fromarray(pixels), orientation)
    return np.asarray(upright)


def _divisor(height: int, width: int, wanted: Size | None) -> int:
    if wanted is None:
        return 1
    return next((d for d in (8, 4, 2) if height >= d * wanted[0] and width >= d * wanted[1]), 1)


def _by_libjpeg_turbo(contents: bytes, wanted: Size | None) -> np.ndarray | None:
    """Return the pixels, as they stand in the file, of a sound JPEG in colour or grey; None for any other."""
    turbo = _simplejpeg()
    if turbo is None:
        return None
    try:
        height, width, colours, _ = turbo.decode_jpeg_header(contents)
        if colours not in _JPEG_COLOURS or height * width > MAX_PIXELS:
            return None
        divisor = _divisor(height, width, wanted)
        least = {"min_height": -(-height // divisor), "min_width": -(-width // divisor)}
        pixels = turbo.decode_jpeg(contents, _JPEG_COLOURS[colours], **least)
    except (ValueError, KeyError):  # a flaw, maybe one that Pillow lets pass; KeyError for colours without a name
        return None
    return pixels if pixels.shape[2] == 3 else pixels[..., 0]


@functools.cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


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

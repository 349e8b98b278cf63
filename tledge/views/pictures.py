"""Views of pictures, made by Pillow.

It is a dependency already, is well kept, lets other threads run, and has the very operations that RandAugment was
published with. A `rand` view of 224 × 224 pixels takes some 2 ms; Keras' RandAugment layer took 108 ms for one picture,
and TensorFlow half a gigabyte. Source: Cubuk et al. 2019, RandAugment (arXiv 1909.13719).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

_GREY = (128, 128, 128)  # what lies outside of the picture
_SHIFT, _ZOOM, _LIGHT = 0.06, 0.1, 0.2  # of a `light` view, each to both sides
_OPERATIONS = 2  # of a `rand` view, and how strong they are at most; the paper's N and M (9 of 30 at strength 0.3)
_STRENGTH = 0.4
_ROTATION_DEGREES, _SHEAR, _TRANSLATION, _ENHANCEMENT = 30.0, 0.3, 0.45, 0.9
_POSTERIZE_BITS, _BRIGHTEST = 4, 256


@dataclass(frozen=True, slots=True)
class Policy:
    """How one kind of view is made: `make(picture, index, chance)`.

    `distinct` is how many different views there are, or None where chance makes every one another.
    """

    make: Callable[[Image.Image, int, random.Random], Image.Image]
    distinct: int | None = None


def apply(name: str, index: int, chance: random.Random, image: np.ndarray) -> np.ndarray:
    """Return view `index` of policy `name` of `image`, uint8 [h, w, 3] both. Raises TypeError for other arrays."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TypeError(f"A picture must be uint8 [h, w, 3], found {image.dtype} {list(image.shape)}.")
    if index == 0:
        return image
    return np.asarray(POLICIES[name].make(Image.fromarray(image), index, chance))


# ── Symmetries ───────────────────────────────────────────────────────────────────────────────────────────────────────

_SYMMETRIES = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_180)


def _mirror(picture: Image.Image, index: int, chance: random.Random) -> Image.Image:
    return ImageOps.mirror(picture)


def _symmetry(picture: Image.Image, index: int, chance: random.Random) -> Image.Image:
    return picture.transpose(_SYMMETRIES[(index - 1) % len(_SYMMETRIES)])


# ── Chance: `random` alone is promised to stay the same in later versions of Python ──────────────────────────────────


def _between(chance: random.Random, low: float, high: float) -> float:
    return low + (high - low) * chance.random()


def _maybe_mirrored(picture: Image.Image, chance: random.Random) -> Image.Image:
    return ImageOps.mirror(picture) if chance.random() < 0.5 else picture


def _affine(
    picture: Image.Image, matrix: tuple[float, float, float, float], shift: tuple[float, float] = (0.0, 0.0)
) -> Image.Image:
    """Return the picture whose point p shows what was at centre + matrix (p − centre) + shift."""
    xx, xy, yx, yy = matrix
    x, y = picture.width / 2, picture.height / 2
    coefficients = (xx, xy, x - xx * x - xy * y + shift[0], yx, yy, y - yx * x - yy * y + shift[1])
    affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return picture.transform(picture.size, affine, coefficients, bilinear, fillcolor=_GREY)


def _light(picture: Image.Image, index: int, chance: random.Random) -> Image.Image:
    picture = _maybe_mirrored(picture, chance)
    zoom = _between(chance, 1 - _ZOOM, 1 + _ZOOM)
    shift = [side * _between(chance, -_SHIFT, _SHIFT) for side in picture.size]
    picture = _affine(picture, (zoom, 0.0, 0.0, zoom), (shift[0], shift[1]))
    picture = ImageEnhance.Brightness(picture).enhance(_between(chance, 1 - _LIGHT, 1 + _LIGHT))
    return ImageEnhance.Contrast(picture).enhance(_between(chance, 1 - _LIGHT, 1 + _LIGHT))


# ── RandAugment: `amount` is 0 to 1, times a sign where there are two directions ─────────────────────────────────────

_RANDOM: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    lambda picture, amount: picture,
    lambda picture, amount: ImageOps.autocontrast(picture),
    lambda picture, amount: ImageOps.equalize(picture),
    lambda picture, amount: ImageOps.posterize(picture, 8 - round(abs(amount) * _POSTERIZE_BITS)),
    lambda picture, amount: ImageOps.solarize(picture, round(_BRIGHTEST * (1 - abs(amount)))),
    lambda picture, amount: ImageEnhance.Color(picture).enhance(1 + amount * _ENHANCEMENT),
    lambda picture, amount: ImageEnhance.Contrast(picture).enhance(1 + amount * _ENHANCEMENT),
    lambda picture, amount: ImageEnhance.Brightness(picture).enhance(1 + amount * _ENHANCEMENT),
    lambda picture, amount: ImageEnhance.Sharpness(picture).enhance(1 + amount * _ENHANCEMENT),
    lambda picture, amount: picture.rotate(amount * _ROTATION_DEGREES, Image.Resampling.BILINEAR, fillcolor=_GREY),
    lambda picture, amount: _affine(picture, (1.0, amount * _SHEAR, 0.0, 1.0)),
    lambda picture, amount: _affine(picture, (1.0, 0.0, amount * _SHEAR, 1.0)),
    lambda picture, amount: _affine(picture, (1.0, 0.0, 0.0, 1.0), (amount * _TRANSLATION * picture.width, 0.0)),
    lambda picture, amount: _affine(picture, (1.0, 0.0, 0.0, 1.0), (0.0, amount * _TRANSLATION * picture.height)),
)


def _rand(picture: Image.Image, index: int, chance: random.Random) -> Image.Image:
    picture = _maybe_mirrored(picture, chance)
    for _ in range(_OPERATIONS):
        operation = _RANDOM[int(chance.random() * len(_RANDOM))]
        picture = operation(picture, _between(chance, -_STRENGTH, _STRENGTH))
    return picture


POLICIES = {
    "flip": Policy(_mirror, distinct=1),
    "flips": Policy(_symmetry, distinct=len(_SYMMETRIES)),
    "light": Policy(_light),
    "rand": Policy(_rand),
}

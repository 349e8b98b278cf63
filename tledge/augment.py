"""Augmented views of a training picture: which ones there are, and how each is made.

A view is a word, `policy/seed/index`, that stands in `Sample.view` and in the key of what is cached for it; what it
does to a picture follows from that word and the picture's digest alone. Views are numbered from 1: index 0 is the
picture itself, which is always trained on beside its views and has no word ("").

Pillow does the work. It is a dependency already, is well kept, lets other threads run, and has the very operations that
RandAugment was published with. A `rand` view of 224 × 224 pixels takes some 2 ms; Keras' RandAugment layer took 108 ms
for one picture, and TensorFlow half a gigabyte. Source: Cubuk et al. 2019, RandAugment (arXiv 1909.13719).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from tledge.errors import TledgeError, did_you_mean

# Part of the key under which features of views are kept: raise it when a view would show other pixels.
REVISION = 1
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


def names() -> tuple[str, ...]:
    """Return the names that `views` knows."""
    return tuple(_POLICIES)


def check_name(name: str, count: int | None = None) -> None:
    """Raise TledgeError unless there is a policy called `name`, of which `count` views can differ."""
    if name not in _POLICIES:
        raise TledgeError(f"There is no augmentation called {name!r}.", did_you_mean(name, _POLICIES))
    if count is not None and count < 1:
        raise TledgeError(f"The number of views must be 1 or more, but is {count}.", "Leave the augmentation out.")
    most = _POLICIES[name].distinct
    if count is not None and most is not None and count > most:
        raise TledgeError(
            f"'{name}' has {most} view{'s' * (most > 1)} beside the picture itself, but {count} are wanted.",
            f"Ask for {most} at most, or for light or rand views.",
        )


def check_kind(name: str, kind: str) -> None:
    """Raise TledgeError unless the policy called `name` is for samples of `kind`."""
    if kind != "image":
        raise TledgeError(f"Augmentation {name!r} is for pictures; the model takes another kind.", "Leave it away.")


def views(name: str, count: int, seed: int) -> tuple[str, ...]:
    """Return the words of `count` views beside the picture itself, in the order of their index from 1.

    Where chance plays no part, the seed in the word is 0, so that all seeds share what is cached. Raises TledgeError.
    """
    check_name(name, count)
    seed = 0 if _POLICIES[name].distinct else seed
    return tuple(f"{name}/{seed}/{index}" for index in range(1, count + 1))


def apply(view: str, digest: str, image: np.ndarray) -> np.ndarray:
    """Return the `view` of `image` uint8 [h, w, 3] whose content has `digest`, as uint8 [h, w, 3]; may share memory.

    Equal arguments give equal pixels. Any number of threads may call this. Raises TypeError for other arrays, and
    TledgeError for a word that `views` does not give.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise TypeError(f"A picture must be uint8 [h, w, 3], found {image.dtype} {list(image.shape)}.")
    name, index = _parsed(view)
    if index == 0:
        return image
    digits = hashlib.sha256(f"{view} {digest}".encode()).digest()
    picture = _POLICIES[name].make(Image.fromarray(image), index, random.Random(int.from_bytes(digits)))
    return np.asarray(picture)


def _parsed(view: str) -> tuple[str, int]:
    name, _, rest = view.partition("/")
    _, _, index = rest.partition("/")
    check_name(name)
    if not index.isdecimal():
        raise TledgeError(f"A view is called policy/seed/index, found {view!r}.", "Use the words that views() gives.")
    return name, int(index)


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


_POLICIES = {
    "flip": Policy(_mirror, distinct=1),
    "flips": Policy(_symmetry, distinct=len(_SYMMETRIES)),
    "light": Policy(_light),
    "rand": Policy(_rand),
}

"""How large the free dimensions of a graph's inputs are taken to be, by their names and their places.

Exporters leave names behind (`batch`, `height`, `past_sequence_length + 1`); where there are none, the place tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

# None stands where a batch goes.
Shape = tuple[int | None, ...]

# Pixels as bytes come from a camera, whose full frame they are; floats went through somebody's resizing.
CAMERA, RESIZED = (1080, 1920), (224, 224)
_CHANNELS = (1, 3, 4)
_LENGTH = _OTHER = 128
_COLOURS = 3
_BATCH = re.compile(r"batch", re.IGNORECASE)
_BATCH_AT_FRONT = re.compile(r"n|b|bs", re.IGNORECASE)
_PAST = re.compile(r"past|cache", re.IGNORECASE)
_LONG = re.compile(r"seq|len|time|token|step|frame", re.IGNORECASE)
_SIDES = re.compile(r"height|h|rows?", re.IGNORECASE), re.compile(r"width|w|col(umn)?s?", re.IGNORECASE)
_COLOUR = re.compile(r"channels?|c", re.IGNORECASE)


class Sizes:
    """The free dimensions of `inputs` (name, type and shape each, as onnxruntime tells them).

    Dimensions of one name have one size; `known` holds those that are settled already. What had to be assumed is in
    `assumed`, in words; `camera` tells whether a camera's full frame is among it.
    """

    def __init__(self, inputs: Sequence[Any], known: dict[str, int] | None = None) -> None:
        self.assumed: list[str] = []
        self.camera = False
        self._known = dict(known or {})
        names = [dim for each in inputs for dim in each.shape if isinstance(dim, str)]
        self._batch_is_named = any(_BATCH.search(name) for name in names)

    def shape(self, given: Any) -> Shape:
        """Return the shape of one input, None where a batch goes."""
        return tuple(self._size(given, place, dim) for place, dim in enumerate(given.shape))

    def is_batch(self, dim: int | str | None, place: int) -> bool:
        """Return whether a dimension counts samples: it says so, or is the first and says nothing else."""
        if not isinstance(dim, str):
            return dim is None and place == 0
        if _BATCH.search(dim):
            return True
        front = place == 0 and not self._batch_is_named
        return front and (_BATCH_AT_FRONT.fullmatch(dim) is not None or not _says_what_it_is(dim))

    def _size(self, given: Any, place: int, dim: int | str | None) -> int | None:
        if isinstance(dim, int):
            return dim
        if self.is_batch(dim, place):
            return None
        name = dim or f"{given.name}[{place}]"
        if name not in self._known:
            self._known[name] = self._sum(given, place, name)
            self.assumed.append(f"{name} = {self._known[name]}")
        return self._known[name]

    def _sum(self, given: Any, place: int, name: str) -> int:
        """Return the size of `name`, which may be a sum, as in a mask over what is past and what is new."""
        parts = [part.strip() for part in name.split("+")]
        return sum(
            int(part) if part.isdecimal() else self._known.get(part, self._guess(given, place, part)) for part in parts
        )

    def _guess(self, given: Any, place: int, name: str) -> int:
        if _PAST.search(name):
            return 0  # the first step of a decoder, with nothing kept from an earlier one
        if _LONG.search(name):
            return _LENGTH
        side = next((which for which, word in enumerate(_SIDES) if word.fullmatch(name)), _side(given.shape, place))
        if side is not None:
            camera = given.type == "tensor(uint8)"
            self.camera |= camera
            return (CAMERA if camera else RESIZED)[side]
        channel = _COLOUR.fullmatch(name) or (len(given.shape) == 4 and place == 1)
        return _COLOURS if channel else _OTHER


def lone_picture(shape: Shape) -> bool:
    """Return whether `shape` is that of one picture, so that its first dimension is a height or holds colours."""
    return len(shape) == 3 and (shape[2] in _CHANNELS or shape[0] in _CHANNELS[1:])


def _says_what_it_is(name: str) -> bool:
    return bool(_PAST.search(name) or _LONG.search(name) or any(word.fullmatch(name) for word in (*_SIDES, _COLOUR)))


def _side(shape: Sequence[int | str | None], place: int) -> int | None:
    """Return 0 for the height and 1 for the width of a picture that lies in a tensor of four dimensions."""
    if len(shape) != 4:
        return None
    if shape[3] in _CHANNELS:
        return place - 1 if place in (1, 2) else None
    picture = shape[1] in _CHANNELS or not isinstance(shape[1], int)
    return place - 2 if picture and place in (2, 3) else None

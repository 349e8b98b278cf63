"""Give a Keras network what it takes: pictures come as RGB, and may have to become grey, BGR, rows or another size.

All of it happens in the network, so that the file's input is the same for every backbone. Where neither options nor the
file say what its pixels were, something has to be assumed, and is said.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np

from tledge.backbones.from_keras.flatten import flatten
from tledge.backbones.from_keras.pixel_range import UNIT, UNSCALED, PixelRange, find_range
from tledge.backbones.preprocess_hints import spec_of
from tledge.errors import BackboneError
from tledge.schema import BackboneOptions, PreprocessSpec, VectorSpec

DEFAULT_SIZE = 224
_SCALING = frozenset({"Rescaling", "Normalization"})
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's "L"
_MIXINGS = "luma", "channel_order"  # names of layers in front that are no part of what is learnt


def taking_pictures(
    keras: ModuleType, network: Any, options: BackboneOptions, assumed: list[str], scales: bool | None = None
) -> tuple[Any, PreprocessSpec]:
    """Return the flat Keras model `network` for normalised RGB [N, height, width, 3], and how pictures are normalised.

    `scales` tells whether it begins by scaling pixels, where that cannot be seen from its layers. What is taken for
    granted is added to `assumed`. Raises BackboneError for an input that is no picture, or a size it does not take.
    """
    own = tuple(network.inputs[0].shape[1:])
    shape = _picture_shape(own, options.input_size, assumed)
    inner = flatten(keras, network, shape).network if shape != own else network
    pixels = _pixel_range(keras, inner, _scales_itself(inner) if scales is None else scales, options, assumed)
    height, width, _ = _sides(shape)
    spec = spec_of(options, height, width, pixels.mean, pixels.std)
    return _taking_rgb(keras, inner, shape, options), spec


def vector_spec(length: Any, options: BackboneOptions) -> VectorSpec:
    """Return how vectors of `length` numbers are taken. Raises BackboneError for a mean or std for each channel."""
    for values in (options.mean, options.std):
        if values is not None and len(values) != 1:
            raise BackboneError("A network of vectors takes one mean and one std.", "Give one number each.")
    (mean,), (std,) = options.mean or (0.0,), options.std or (1.0,)
    return VectorSpec(length, mean, std)


def is_picture(length: Any, size: int | None) -> bool:
    """Tell whether a vector is a square picture of `size` pixels a side, in rows."""
    return size is not None and length in (size * size, 3 * size * size)


def _picture_shape(own: tuple[int | None, ...], size: int | None, assumed: list[str]) -> tuple[int, ...]:
    """Return the shape that the network is to take: its own, at `size` pixels a side where that can be chosen."""
    if len(own) == 1:
        return own  # type: ignore[return-value]
    if len(own) == 2:
        assumed.append("its input of two axes is a grey picture")
    height, width, channels = (*own, 1) if len(own) == 2 else (*own, 0)[:3]
    channels = 3 if channels is None else channels
    if len(own) > 3 or channels not in (1, 3):
        told = "×".join(map(str, own))
        raise BackboneError(f"The network takes inputs of {told}.", "Only RGB or grey pictures and vectors can be fed.")
    if size is None and None in (height, width):
        assumed.append(f"pictures of {DEFAULT_SIZE}×{DEFAULT_SIZE} pixels, as the file leaves the size open")
    height, width = (size, size) if size else (height or DEFAULT_SIZE, width or DEFAULT_SIZE)
    return (height, width, channels) if len(own) == 3 else (height, width)


def _sides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return height, width and channels of the picture behind an input of `shape`."""
    if len(shape) == 1:
        channels = 1 if math.isqrt(shape[0]) ** 2 == shape[0] else 3
        side = math.isqrt(shape[0] // channels)
        return side, side, channels
    return (*shape, 1) if len(shape) == 2 else shape  # type: ignore[return-value]


def _pixel_range(
    keras: ModuleType, inner: Any, scales: bool, options: BackboneOptions, assumed: list[str]
) -> PixelRange:
    if options.channel_order is None and _sides(tuple(inner.inputs[0].shape[1:]))[2] == 3:
        assumed.append("channels in the order RGB")
    if options.mean is not None or options.std is not None:
        return UNSCALED
    if scales:
        assumed.append("pixels in 0..255, which the file scales itself")
        return UNSCALED
    found = find_range(keras, inner) if len(inner.inputs[0].shape) == 4 else None
    if found is None:
        assumed.append("pixels scaled to 0..1 (nothing says so: give --mean 0 --std 1 if it was trained on 0..255)")
        return UNIT
    assumed.append(f"pixels in {found.told}, to which its first batch normalisation fits")
    return found


def _scales_itself(inner: Any) -> bool:
    """Tell whether scaling stands before the first layer with weights to learn."""
    for layer in inner.layers:
        if type(layer).__name__ in _SCALING:
            return True
        if layer.trainable_weights:
            return False
    return False


def _taking_rgb(keras: ModuleType, inner: Any, shape: tuple[int, ...], options: BackboneOptions) -> Any:
    """Return `inner` behind what makes its input from RGB pictures, which are normalised already."""
    height, width, channels = _sides(shape)
    front = []
    if channels == 1:
        front.append(_mixing(keras, _MIXINGS[0], [[share] for share in _LUMA]))
    elif options.channel_order == "bgr":
        front.append(_mixing(keras, _MIXINGS[1], [[0, 0, 1], [0, 1, 0], [1, 0, 0]]))
    if len(shape) != 3:
        front.append(keras.layers.Reshape(shape, name="rows"))
    if not front:
        return inner
    whole = keras.Sequential([keras.Input((height, width, 3)), *front, inner], name=inner.name)
    network = flatten(keras, whole, (height, width, 3)).network
    for layer in network.layers:
        if layer.name in _MIXINGS:
            layer.trainable = False
    return network


def _mixing(keras: ModuleType, name: str, matrix: list[list[float]]) -> Any:
    """Return a 1×1 convolution that mixes three channels by `matrix` [3, channels]; not to be trained."""
    kernel = np.array(matrix, np.float32)[None, None]
    layer = keras.layers.Conv2D(kernel.shape[-1], 1, use_bias=False, name=name)
    layer.build((None, None, None, 3))
    layer.set_weights([kernel])
    return layer

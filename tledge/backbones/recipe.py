"""What a family says of each of its backbones; the registry collects them, the converter follows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tledge.errors import BackboneError
from tledge.schema import Interpolation, PreprocessSpec

SMALLEST_SIZE, LARGEST_SIZE = 32, 1024


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one backbone, and where its weights are.

    `input_size` is the side in pixels that the weights were trained for; `parameters` counts trainable numbers up to
    the features. `mean` and `std` are in 0..255 pixel units. `weights_id` names the weights so that other weights have
    another name. `require_weights` raises a TledgeError when they cannot be had on this machine. `build(keras, size)`
    returns the network with its weights, as a trainable Keras model: float32 [N, size, size, 3] → [N, dimension].
    """

    name: str
    input_size: int
    dimension: int
    parameters: int
    licence: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation
    weights_id: str
    weights_hint: str
    weights_available: Callable[[], bool]
    require_weights: Callable[[], None]
    build: Callable[[ModuleType, int], Any]


def preprocess_spec(recipe: Recipe, input_size: int | None = None) -> PreprocessSpec:
    """Return how pictures are prepared for `recipe` at `input_size` pixels a side, by default that of its training.

    Raises BackboneError for a size outside SMALLEST_SIZE..LARGEST_SIZE. It need not be a multiple of 32: a layer that
    halves its input rounds up.
    """
    size = recipe.input_size if input_size is None else input_size
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise BackboneError(
            f"The input size must be {SMALLEST_SIZE} to {LARGEST_SIZE} pixels, but is {size}.",
            f"{recipe.name} was trained at {recipe.input_size}.",
        )
    return PreprocessSpec(size, size, interpolation=recipe.interpolation, mean=recipe.mean, std=recipe.std)

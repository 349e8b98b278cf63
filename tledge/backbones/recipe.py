"""What a family says of each of its backbones; keras_families.py collects them, the converter follows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tledge.backbones.from_keras import weights as keras_weights
from tledge.errors import BackboneError, did_you_mean
from tledge.schema import BackboneOptions, Interpolation, Pool, PreprocessSpec

SMALLEST_SIZE, LARGEST_SIZE = 32, 1024
POOLS: tuple[Pool, ...] = ("avg", "max", "flatten")  # of maps; cls is a token, which texts have


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make one backbone, and where its weights are.

    `module` has the function `network(keras, name, size, pool, weights)` that the converter calls; it is one of
    conversion.NETWORKS. `input_size` is the side in pixels that the weights were trained for, `smallest_size` the
    least that the network can take; `dimension`, `parameters` (trainable numbers) and `macs` (multiply-adds for one
    picture of `input_size`) are those up to the averaged features. `mean` and `std` are in 0..255 pixel units.
    `weights_id` names the ImageNet weights so that other weights have another name. `require_weights` raises a
    TledgeError when they cannot be had on this machine.
    """

    name: str
    module: str
    input_size: int
    dimension: int
    parameters: int
    macs: int
    licence: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation
    weights_id: str
    weights_hint: str
    weights_available: Callable[[], bool]
    require_weights: Callable[[], None]
    smallest_size: int = SMALLEST_SIZE


def preprocess_spec(recipe: Recipe, input_size: int | None = None) -> PreprocessSpec:
    """Return how pictures are prepared for `recipe` at `input_size` pixels a side, by default that of its training.

    Raises BackboneError for a size outside the recipe's smallest..LARGEST_SIZE. It need not be a multiple of 32: a
    layer that halves its input rounds up.
    """
    size = recipe.input_size if input_size is None else input_size
    if not recipe.smallest_size <= size <= LARGEST_SIZE:
        raise BackboneError(
            f"The input size must be {recipe.smallest_size} to {LARGEST_SIZE} pixels, but is {size}.",
            f"{recipe.name} was trained at {recipe.input_size}.",
        )
    return PreprocessSpec(size, size, interpolation=recipe.interpolation, mean=recipe.mean, std=recipe.std)


def check_pool(pool: str | None) -> None:
    """Raise BackboneError for a way to pool that maps of features do not have; None is theirs to choose."""
    if pool not in (None, *POOLS):
        raise BackboneError(f"There is no way to pool called {pool!r} here.", did_you_mean(pool, POOLS))


def arguments(recipe: Recipe, options: BackboneOptions) -> dict[str, Any]:
    """Return what `network` of the recipe's module is called with, plain values, every option settled.

    Raises BackboneError for an option that is senseless, that only networks of the user's own have, or that names a
    weights file which is not there.
    """
    for option in ("feature", "mean", "std", "channel_order"):
        if getattr(options, option) is not None:
            words = option.replace("_", " ")
            raise BackboneError(
                f"{recipe.name} has its own {words}.", f"Give a {words} only with a network file of your own."
            )
    if (options.window_s, options.hop_s, options.fit) != (None, None, None):
        raise BackboneError(
            f"{recipe.name} takes pictures; windows and hops are those of sounds, and so is fit.", "Leave them out."
        )
    pool = options.pool or "avg"
    check_pool(pool)
    return {
        "name": recipe.name,
        "size": preprocess_spec(recipe, options.input_size).width,
        "pool": pool,
        "weights": keras_weights.settle(options.weights),
    }

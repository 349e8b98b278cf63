"""The named networks that Keras builds, each from a recipe: two families of pictures, and how any recipe is followed.

A new family is one file with RECIPES, and its name in _FAMILIES.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tledge.backbones import efficientnet_lite
from tledge.backbones.conversion import Converted, convert_apart, key, require_converter
from tledge.backbones.from_keras import applications
from tledge.backbones.from_keras import weights as keras_weights
from tledge.backbones.from_keras.weights import PUBLISHED
from tledge.backbones.kept_backbones import find_or_convert
from tledge.backbones.recipe import Recipe, arguments
from tledge.schema import Backbone, BackboneInfo, BackboneOptions

_FAMILIES = (efficientnet_lite.RECIPES, applications.RECIPES)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in _FAMILIES for recipe in family}
NAMES = tuple(RECIPES)


def describe() -> list[BackboneInfo]:
    """Return what there is to know of each network without reading weights or importing TensorFlow."""
    return [_describe(recipe) for recipe in RECIPES.values()]


def check(name: str, options: BackboneOptions) -> None:
    """Raise BackboneError unless `options` make sense for the network called `name`."""
    arguments(RECIPES[name], options)


def load(name: str, cache_dir: Path, options: BackboneOptions, tell: Callable[[str], None]) -> Backbone:
    """Return the network called `name`, converted once and then kept in `cache_dir`/backbones.

    Raises BackboneError (senseless options, damaged or unreachable weights), MissingExtra, OutputError.
    """
    recipe = RECIPES[name]
    given = arguments(recipe, options)
    identity = keras_weights.identity(given["weights"], recipe.weights_id)
    # Fit and interpolation happen outside the graph, so they are no part of it.
    stem = f"{recipe.name}-{given['size']}-{key(identity, given['size'], given['pool'], recipe.mean, recipe.std)}"
    kept = find_or_convert(cache_dir, stem, lambda: _convert(recipe, given, tell))
    licence = recipe.licence if given["weights"] == PUBLISHED else ""
    return Backbone(recipe.name, kept.path, kept.preprocess, kept.dimension, kept.digest, licence=licence)


def _convert(recipe: Recipe, given: dict[str, Any], tell: Callable[[str], None]) -> Converted:
    published = given["weights"] == PUBLISHED
    if published:
        recipe.require_weights()
    require_converter()
    download = "downloading and " if published and not recipe.weights_available() else ""
    tell(f"{download}converting {recipe.name} to ONNX, once on this machine")
    return convert_apart(recipe.module, given)


def _describe(recipe: Recipe) -> BackboneInfo:
    return BackboneInfo(
        name=recipe.name,
        input_size=recipe.input_size,
        dimension=recipe.dimension,
        parameters=recipe.parameters,
        macs=recipe.macs,
        licence=recipe.licence,
        weights_available=recipe.weights_available(),
        weights_hint=recipe.weights_hint,
    )

"""The table of backbones. A new family is one file with RECIPES, and one line in FAMILIES."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from tledge.backbones import efficientnet_lite, kept_files, keras_applications
from tledge.backbones.conversion import REVISION, convert_apart, require_converter
from tledge.backbones.recipe import Recipe, preprocess_spec
from tledge.errors import BackboneError, did_you_mean
from tledge.schema import Backbone, BackboneInfo, PreprocessSpec

FAMILIES = (
    efficientnet_lite.RECIPES,
    keras_applications.RECIPES,
)
_RECIPES = {recipe.name: recipe for family in FAMILIES for recipe in family}


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_RECIPES)


def describe() -> list[BackboneInfo]:
    """Return what there is to know of each backbone without reading weights or importing TensorFlow."""
    return [_describe(recipe) for recipe in _RECIPES.values()]


def check_name(name: str) -> None:
    """Raise BackboneError unless there is a backbone called `name`."""
    find(name)


def find(name: str) -> Recipe:
    """Return the recipe called `name`. Raises BackboneError with the nearest name and the list when there is none."""
    if name in _RECIPES:
        return _RECIPES[name]
    raise BackboneError(f"There is no backbone called {name!r}.", did_you_mean(name, _RECIPES))


def load(
    name: str, cache_dir: Path, *, input_size: int | None = None, on_stage: Callable[[str], None] | None = None
) -> Backbone:
    """Return the backbone called `name`, converted once and then kept in `cache_dir`/backbones.

    `input_size` is the side of its input in pixels, 32 to 1024, by default the size that its weights were trained at.
    `on_stage` is told in a few words when something takes long. A kept file that was damaged is converted again.
    Raises BackboneError (unknown name, size, damaged or unreachable weights), MissingExtra, OutputError.
    """
    recipe = find(name)
    spec = preprocess_spec(recipe, input_size)
    folder, stem = Path(cache_dir, "backbones"), f"{name}-{spec.width}-{_key(recipe, spec)}"
    kept = kept_files.find(folder, stem)
    if kept is None:
        kept = kept_files.keep(folder, stem, _convert(recipe, spec.width, on_stage or (lambda _: None)))
    return Backbone(name, kept.path, spec, recipe.dimension, kept.digest, licence=recipe.licence)


def _convert(recipe: Recipe, size: int, on_stage: Callable[[str], None]) -> bytes:
    recipe.require_weights()
    require_converter()
    download = "" if recipe.weights_available() else "downloading and "
    on_stage(f"{download}converting {recipe.name} to ONNX, once on this machine")
    return convert_apart(recipe.name, size)


def _key(recipe: Recipe, spec: PreprocessSpec) -> str:
    # Fit and interpolation happen outside the graph, so they are no part of it.
    parts = [recipe.weights_id, REVISION, spec.height, spec.width, spec.mean, spec.std]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _describe(recipe: Recipe) -> BackboneInfo:
    return BackboneInfo(
        name=recipe.name,
        input_size=recipe.input_size,
        dimension=recipe.dimension,
        parameters=recipe.parameters,
        licence=recipe.licence,
        weights_available=recipe.weights_available(),
        weights_hint=recipe.weights_hint,
    )

"""The table of backbones. A new family is one file with RECIPES, and one line in FAMILIES.

A kind of file that users bring is one file with `accepts(path)` and `load(path, cache_dir, options, on_stage)`, and one
line in DOORS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tledge.backbones import efficientnet_lite
from tledge.backbones.conversion import Converted, convert_apart, key, require_converter
from tledge.backbones.from_keras import applications as keras_applications
from tledge.backbones.from_keras import file as keras_file
from tledge.backbones.from_keras import weights as keras_weights
from tledge.backbones.from_keras.weights import PUBLISHED
from tledge.backbones.from_onnx import file as onnx_file
from tledge.backbones.kept_backbones import find_or_convert
from tledge.backbones.recipe import Recipe, arguments
from tledge.errors import BackboneError, did_you_mean
from tledge.schema import Backbone, BackboneInfo, BackboneOptions

FAMILIES = (
    efficientnet_lite.RECIPES,
    keras_applications.RECIPES,
)
DOORS = (keras_file, onnx_file)
FILE_ENDINGS = (".keras", ".h5", ".hdf5", ".onnx")
_RECIPES = {recipe.name: recipe for family in FAMILIES for recipe in family}
_DEFAULTS = BackboneOptions()


def names() -> tuple[str, ...]:
    """Return the names that `load` knows."""
    return tuple(_RECIPES)


def describe() -> list[BackboneInfo]:
    """Return what there is to know of each backbone without reading weights or importing TensorFlow."""
    return [_describe(recipe) for recipe in _RECIPES.values()]


def check_name(name_or_path: str, options: BackboneOptions = _DEFAULTS) -> None:
    """Raise BackboneError unless there is such a backbone, and, of those with a name, `options` make sense for it."""
    if _is_file(name_or_path):
        _door(Path(name_or_path))
    else:
        arguments(find(name_or_path), options)


def find(name: str) -> Recipe:
    """Return the recipe called `name`. Raises BackboneError with the nearest name and the list when there is none."""
    if name in _RECIPES:
        return _RECIPES[name]
    raise BackboneError(f"There is no backbone called {name!r}.", did_you_mean(name, _RECIPES))


def load(
    name_or_path: str,
    cache_dir: Path,
    options: BackboneOptions = _DEFAULTS,
    *,
    on_stage: Callable[[str], None] | None = None,
) -> Backbone:
    """Return the backbone called so, or in the user's own file, converted once and then kept in `cache_dir`/backbones.

    A name is one of `names`; what names a file or folder that exists, or ends like one, is a network of the user's own.
    `on_stage` is told in a few words when something takes long. A kept file that was damaged is converted again.
    Raises BackboneError (unknown name, senseless options, damaged or unreachable weights), MissingExtra, OutputError.
    """
    tell = on_stage or (lambda _: None)
    if _is_file(name_or_path):
        path = Path(name_or_path)
        return _door(path).load(path, Path(cache_dir), options, tell)
    return _load(find(name_or_path), Path(cache_dir), options, tell)


def _is_file(name_or_path: str) -> bool:
    path = Path(name_or_path)
    return name_or_path not in _RECIPES and (path.suffix.lower() in FILE_ENDINGS or path.exists())


def _door(path: Path) -> ModuleType:
    if not path.exists():
        raise BackboneError(f"There is no file {path}.", "Check the path.")
    for door in DOORS:
        if door.accepts(path):
            return door
    raise BackboneError(
        f"{path} is no network that can be read.",
        f"A network is a file that ends in {', '.join(FILE_ENDINGS)}, or a folder that Keras or TensorFlow saved.",
    )


def _load(recipe: Recipe, cache_dir: Path, options: BackboneOptions, on_stage: Callable[[str], None]) -> Backbone:
    given = arguments(recipe, options)
    identity = keras_weights.identity(given["weights"], recipe.weights_id)
    # Fit and interpolation happen outside the graph, so they are no part of it.
    stem = f"{recipe.name}-{given['size']}-{key(identity, given['size'], given['pool'], recipe.mean, recipe.std)}"
    kept = find_or_convert(cache_dir, stem, lambda: _convert(recipe, given, on_stage))
    licence = recipe.licence if given["weights"] == PUBLISHED else ""
    return Backbone(recipe.name, kept.path, kept.preprocess, kept.dimension, kept.digest, licence=licence)


def _convert(recipe: Recipe, given: dict[str, Any], on_stage: Callable[[str], None]) -> Converted:
    published = given["weights"] == PUBLISHED
    if published:
        recipe.require_weights()
    require_converter()
    download = "downloading and " if published and not recipe.weights_available() else ""
    on_stage(f"{download}converting {recipe.name} to ONNX, once on this machine")
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

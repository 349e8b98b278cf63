"""Which network is fine-tuned: how the process that runs Keras is told to build it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tledge.backbones import conversion, keras_families, registry
from tledge.backbones.from_keras import file as keras_file
from tledge.backbones.from_keras import weights as keras_weights
from tledge.backbones.recipe import Recipe, arguments
from tledge.errors import BackboneError
from tledge.schema import BackboneOptions

_ROOM = "finetune"


@dataclass(frozen=True, slots=True)
class Source:
    """A network that Keras builds: `network(keras, **arguments)` of `module`, one of conversion.NETWORKS.

    `key` tells apart all networks that differ in a weight or a layer; `stem` begins the names of files made from it.
    """

    name: str
    module: str
    arguments: dict[str, Any]
    key: str
    licence: str = ""

    @property
    def stem(self) -> str:
        """The beginning of the names of what is kept of this network."""
        return f"{safe(self.name)}-tune-{self.key}"


def source(backbone: str, options: BackboneOptions) -> Source:
    """Return how Keras builds the network `backbone`, a name or a Keras file.

    Raises BackboneError for networks that Keras does not build, for unknown names, senseless options and weights that
    are not here.
    """
    if backbone in keras_families.RECIPES:
        return _of_recipe(keras_families.RECIPES[backbone], options)
    path = Path(backbone)
    if keras_file.accepts(path):
        given = keras_file.arguments(path, options)
        return Source(path.stem, keras_file.__name__, given, conversion.key(_ROOM, given["digest"], given["options"]))
    if not path.exists() and not backbone.lower().endswith(registry.FILE_ENDINGS):
        registry.home(backbone)  # knows what it might be meant to be called
    raise BackboneError(
        f"Only networks that Keras builds can be fine-tuned, and {backbone} is none.",
        f"Bring it as a .keras or .h5 file, or fine-tune one of these: {', '.join(keras_families.NAMES)}.",
    )


def _of_recipe(recipe: Recipe, options: BackboneOptions) -> Source:
    given = arguments(recipe, options)
    published = given["weights"] == keras_weights.PUBLISHED
    if published:
        recipe.require_weights()
    identity = keras_weights.identity(given["weights"], recipe.weights_id)
    key = conversion.key(_ROOM, identity, given, recipe.mean, recipe.std)
    return Source(recipe.name, recipe.module, given, key, recipe.licence if published else "")


def safe(name: str) -> str:
    """Return `name` with all that is not fit for a file's name made an underscore."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)

"""Cut a flat Keras network where its classifier begins.

From the output backwards: Softmax, Dropout, Flatten and global pooling are passed; what then makes as many numbers as
there are classes, a Dense layer or a 1×1 convolution without a rectifier, is the classifier, and its input are the
features. A network that ends otherwise has no classifier, and its output are the features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tledge.backbones.from_keras.flatten import FlatNetwork
from tledge.errors import BackboneError, did_you_mean
from tledge.schema import BackboneOptions, Pool

_IDENTITIES = frozenset({"Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout", "Identity"})
_SHAPES = frozenset({"Flatten", "Reshape", "Squeeze", "GlobalAveragePooling2D", "GlobalMaxPooling2D"})
_POOLS = frozenset(f"Global{kind}Pooling{axes}D" for kind in ("Average", "Max") for axes in (1, 2, 3)) | {"Flatten"}
_PROBABILITIES = frozenset({"softmax", "sigmoid"})
_RECTIFIERS = frozenset({"relu", "relu6"})


@dataclass(frozen=True, slots=True)
class Cut:
    """A network that ends in features [N, dimension], the layer that they come from, and the classifier left out."""

    network: Any
    layer: str
    classifier: str | None


def cut(keras: ModuleType, flat: FlatNetwork, options: BackboneOptions) -> Cut:
    """Return `flat` up to `options.feature`, else up to its classifier, pooled to two axes as `options.pool` says.

    Feature maps are averaged by default. Raises BackboneError for a layer that is not there or cannot be pooled.
    """
    network, classifier = flat.network, None
    if options.feature is not None:
        features = _named(flat, options.feature)
    else:
        (features, *others) = network.outputs
        if others:
            raise BackboneError(
                f"The network has {len(others) + 1} outputs.",
                f"Choose with --feature-layer. {did_you_mean('', flat.named)}",
            )
        classifier = _classifier(network)
        features = features if classifier is None else classifier.input
    producers = _producers(network)
    features = _without_dropout(features, producers)
    features = _before_pooling(features, producers) if options.pool and options.feature is None else features
    if any(features is given for given in network.inputs):
        raise BackboneError("The network is a classifier alone, without features before it.", "Choose --backbone none.")
    layer = producers[id(features)].name
    pooled = _pooled(keras, features, options.pool, layer)
    name = None if classifier is None else classifier.name
    return Cut(keras.Model(network.inputs[0], pooled, name=network.name), layer, name)


def _named(flat: FlatNetwork, name: str) -> Any:
    if name not in flat.named:
        raise BackboneError(f"The network has no layer called {name!r}.", did_you_mean(name, flat.named))
    tensor = flat.named[name]
    if isinstance(tensor, list | tuple | dict):
        raise BackboneError(f"The layer {name} returns several things.", "Choose a layer that returns one.")
    return tensor


def _producers(network: Any) -> dict[int, Any]:
    """Return the layer or operation that made each tensor, by the tensor's id."""
    return {id(one.output): one for one in network.operations}


def _classifier(network: Any) -> Any:
    """Return the layer that turns features into one number a class, None where there is none."""
    seen: set[str] = set()
    for layer in _backwards(network):
        kind = type(layer).__name__
        seen |= _activations(layer)
        plain = not seen & _RECTIFIERS or seen & _PROBABILITIES
        if kind == "Dense":
            return layer if plain and seen <= _PROBABILITIES | _RECTIFIERS | _SHAPES | {"linear"} else None
        if kind == "Conv2D":
            ends = seen & (_SHAPES | _PROBABILITIES)
            return layer if plain and ends and _is_pointwise(layer) else None
        if kind in _SHAPES:
            seen.add(kind)
        elif kind not in _IDENTITIES and not _activations(layer):
            return None
    return None


def _backwards(network: Any) -> Iterator[Any]:
    """Yield layers from the output of `network` on, for as long as each has one input."""
    producers, tensor = _producers(network), network.outputs[0]
    while id(tensor) in producers:
        layer = producers[id(tensor)]
        yield layer
        tensor = layer.input
        if isinstance(tensor, list | tuple):
            return


def _activations(layer: Any) -> set[str]:
    kind = type(layer).__name__
    if kind in ("Softmax", "Sigmoid", "ReLU", "Relu", "Relu6"):
        return {kind.lower()}
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return {name} if name and kind in ("Activation", "Dense", "Conv2D") else set()


def _is_pointwise(convolution: Any) -> bool:
    sides = tuple(convolution.input.shape[1:3])
    return tuple(convolution.kernel_size) in ((1, 1), sides) and convolution.groups == 1


def _without_dropout(tensor: Any, producers: dict[int, Any]) -> Any:
    while id(tensor) in producers and type(producers[id(tensor)]).__name__ in _IDENTITIES:
        tensor = producers[id(tensor)].input
    return tensor


def _before_pooling(tensor: Any, producers: dict[int, Any]) -> Any:
    layer = producers.get(id(tensor))
    return layer.input if layer is not None and type(layer).__name__ in _POOLS else tensor


def _pooled(keras: ModuleType, tensor: Any, pool: Pool | None, layer: str) -> Any:
    axes = len(tensor.shape) - 2
    if axes == 0:
        if pool is not None:
            raise BackboneError(f"There is nothing to pool: {layer} gives a vector.", "Leave out --pool.")
        return tensor
    if pool == "flatten":
        return keras.layers.Flatten(name=f"{layer}_pooled")(tensor)
    if axes not in (1, 2, 3):
        raise BackboneError(f"The layer {layer} gives {axes + 2} axes, which cannot be pooled.")
    kind = "GlobalMaxPooling" if pool == "max" else "GlobalAveragePooling"
    return getattr(keras.layers, f"{kind}{axes}D")(name=f"{layer}_pooled")(tensor)

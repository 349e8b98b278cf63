"""Take the scaling that a network begins with out of it: it becomes part of how pixels are normalised.

Rescaling and Normalization are y = a·x + b for each channel, and so is (x − mean) / std with std = 1/a and mean = −b/a.
One subtraction and one multiplication of the graph then do what took up to four of each.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from tledge.backbones.from_keras.layer_weights import assign
from tledge.schema import PreprocessSpec


def take_leading_scale(keras: ModuleType, network: Any, spec: PreprocessSpec) -> tuple[Any, PreprocessSpec]:
    """Return the Keras model `network` without the scaling at its start, and `spec` with it.

    `network` itself is left as it is; it is returned where nothing has to be done.
    """
    scale, offset = 1 / np.array(spec.std), -np.array(spec.mean) / np.array(spec.std)
    taken = _leading(keras, network)
    if not taken:
        return network, spec
    for layer in taken:
        by, plus = _scale_and_offset(layer)
        scale, offset = scale * by, offset * by + plus
    mean, std = (tuple(values.tolist()) for values in (0 - offset / scale, 1 / scale))
    return _without(keras, network, {layer.name for layer in taken}), replace(spec, mean=mean, std=std)


def _leading(keras: ModuleType, network: Any) -> list[Any]:
    tensor, found = network.inputs[0], []
    while True:
        readers = [layer for layer in network.layers if any(each is tensor for each in _inputs(layer))]
        if len(readers) != 1 or type(readers[0]) not in (keras.layers.Rescaling, keras.layers.Normalization):
            return found
        found.append(readers[0])
        tensor = readers[0].output


def _inputs(layer: Any) -> list[Any]:
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _scale_and_offset(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    if hasattr(layer, "offset"):
        return np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)
    mean, variance = (np.asarray(moment, np.float64).reshape(-1) for moment in (layer.mean, layer.variance))
    # Keras keeps the divisor away from zero in the same way.
    scale = 1 / np.maximum(np.sqrt(variance), 1e-7)
    return scale, -mean * scale


def _without(keras: ModuleType, network: Any, names: set[str]) -> Any:
    def call(layer: Any, tensor: Any, *others: Any, **options: Any) -> Any:
        return tensor if layer.name in names else layer(tensor, *others, **options)

    copy = keras.models.clone_model(network, call_function=call)
    originals = {layer.name: layer for layer in network.layers}
    for layer in (layer for layer in copy.layers if layer.weights):
        assign(layer, originals[layer.name].get_weights())
    return copy

"""Turn each dense layer that reads a map into the 1×1 convolution that it is.

Keras applies Dense to the last axis of whatever it gets; of a map [N, h, w, c] that is a convolution of every pixel by
itself. Converted as it stands, each becomes a dozen nodes that compute shapes at run time, and a MatMul between two
transposes. ConvNeXt has two in each block.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tledge.backbones.from_keras.layer_weights import assign


def convolve_dense_maps(keras: ModuleType, network: Any) -> Any:
    """Return an inference copy of the Keras model `network` with convolutions in place of dense layers over maps.

    `network` is left as it is; it is returned where there are none.
    """
    dense = {layer.name for layer in network.layers if type(layer) is keras.layers.Dense and _reads_map(layer)}
    if not dense:
        return network

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name not in dense:
            return type(layer).from_config(config)
        shared = {key: config[key] for key in ("name", "activation", "use_bias", "dtype")}
        return keras.layers.Conv2D(config["units"], 1, **shared)

    convolved = keras.models.clone_model(network, clone_function=copy)
    originals = {layer.name: layer for layer in network.layers}
    for layer in (layer for layer in convolved.layers if layer.weights):
        arrays = originals[layer.name].get_weights()
        if layer.name in dense:
            arrays[0] = arrays[0][None, None]
        assign(layer, arrays)
    return convolved


def _reads_map(layer: Any) -> bool:
    # A layer that is called more than once has no single input.
    return len(layer._inbound_nodes) == 1 and len(layer.input.shape) == 4

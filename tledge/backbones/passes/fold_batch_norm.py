"""Fold each batch normalisation into the convolution before it.

At inference normalisation is a scale and a shift of each channel, s = γ/√(σ² + ε) and β − μ·s, and a convolution is
linear, so the pair equals one convolution with weights W·s and bias β + (b − μ)·s. Quantization later meets plain
convolutions, whose ranges are those of what the network really computes.
Source: Jacob et al. 2018 (arXiv 1712.05877), section 3.2.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tledge.backbones.from_keras.layer_weights import assign


def fold_batch_norm(keras: ModuleType, network: Any) -> Any:
    """Return an inference copy of the Keras model `network` in which convolutions have absorbed their normalisation.

    `network` is left as it is. Normalisation that does not directly follow a convolution, follows one with an
    activation of its own, or shares its convolution with another layer, stays.
    """
    normalised = _normalised_convolutions(keras, network)
    absorbed = {norm.name for norm in normalised.values()}

    def copy(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in normalised:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer: Any, tensor: Any, *others: Any, **options: Any) -> Any:
        return tensor if layer.name in absorbed else layer(tensor, *others, **options)

    folded = keras.models.clone_model(network, clone_function=copy, call_function=call)
    originals = {layer.name: layer for layer in network.layers}
    for layer in (layer for layer in folded.layers if layer.weights):
        original, norm = originals[layer.name], normalised.get(layer.name)
        assign(layer, _fold(original, norm) if norm else original.get_weights())
    return folded


def _normalised_convolutions(keras: ModuleType, network: Any) -> dict[str, Any]:
    """Return, by the name of the convolution, each normalisation that is the only layer to read a convolution."""
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    linear = [
        layer for layer in network.layers if type(layer) in kinds and layer.activation is keras.activations.linear
    ]
    producers = {id(layer.output): layer for layer in linear}
    readers: dict[int, list[Any]] = {id(tensor): [network] for tensor in network.outputs}
    for layer in network.layers:
        for tensor in layer.input if isinstance(layer.input, list) else [layer.input]:
            readers.setdefault(id(tensor), []).append(layer)
    return {
        convolution.name: readers[output][0]
        for output, convolution in producers.items()
        if [type(layer) for layer in readers.get(output, [])] == [keras.layers.BatchNormalization]
    }


def _fold(convolution: Any, norm: Any) -> list[np.ndarray]:
    scale, shift = _scale_and_shift(norm)
    kernel, *bias = (array.astype(np.float64) for array in convolution.get_weights())
    # A Conv2D kernel is [h, w, in, out], a depthwise one [h, w, in, multiplier] with in × multiplier outputs.
    by_channel = scale.reshape(kernel.shape[2:]) if hasattr(convolution, "depth_multiplier") else scale
    shift = shift + scale * bias[0] if bias else shift
    return [(kernel * by_channel).astype(np.float32), shift.astype(np.float32)]


def _scale_and_shift(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = (np.asarray(moment, np.float64) for moment in (norm.moving_mean, norm.moving_variance))
    gamma = np.asarray(norm.gamma, np.float64) if norm.scale else 1.0
    beta = np.asarray(norm.beta, np.float64) if norm.center else 0.0
    scale = gamma / np.sqrt(variance + norm.epsilon)
    return scale, beta - mean * scale

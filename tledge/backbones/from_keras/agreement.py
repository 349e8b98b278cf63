"""Hold a converted file against the Keras network that it comes from.

Both compute in single precision and round differently, and some networks blow rounding up: EfficientNetV2-B0 with
random weights, given noise, is 1.3e-4 off in Keras itself and 6e-5 in onnxruntime. Where the two differ by more than
they may, Keras therefore computes once more in double precision, and onnxruntime is judged by that.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tledge.backbones import sound_input
from tledge.backbones.from_keras.layer_weights import assign
from tledge.errors import BackboneError, MissingExtra
from tledge.schema import InputSpec, PreprocessSpec, SoundSpec

TOLERANCE = 1e-4  # largest difference over largest feature


def check_agreement(keras: ModuleType, data: bytes, network: Any, spec: InputSpec) -> None:
    """Raise BackboneError unless the ONNX file `data` computes what the Keras model `network` does; MissingExtra."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "cpu") from error
    batch = _noise(spec)
    numbers = _numbers(batch, network, spec)
    (found,) = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {spec.kind: batch})
    error = _relative(found, np.asarray(network(numbers.astype(np.float32), training=False)))
    if not error <= TOLERANCE:
        error = _relative(found, np.asarray(in_double(keras, network)(numbers, training=False)))
    if not error <= TOLERANCE:
        raise BackboneError(
            f"The converted {network.name} must compute what Keras computes, but is off by {error:.1e}.",
            "Try other versions of tensorflow and tf2onnx.",
        )


def in_double(keras: ModuleType, network: Any) -> Any:
    """Return a copy of the Keras model `network` that computes in float64."""

    def copy(layer: Any) -> Any:
        return type(layer).from_config(_doubled(layer.get_config()))

    double = keras.models.clone_model(network, clone_function=copy)
    assign(double, network.get_weights())
    return double


def _doubled(config: Any) -> Any:
    """Return the configuration of a layer, and of those within it, with another type of numbers."""
    if isinstance(config, dict):
        return {key: "float64" if key == "dtype" else _doubled(value) for key, value in config.items()}
    return [_doubled(each) for each in config] if isinstance(config, list) else config


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))


def _numbers(batch: np.ndarray, network: Any, spec: InputSpec) -> np.ndarray:
    """Return what `network` is given of `batch`."""
    if isinstance(spec, SoundSpec):
        return sound_input.compute(batch, spec, sound_input.axes(tuple(network.inputs[0].shape[1:]), spec) or "s")
    return (batch - np.array(spec.mean)) / np.array(spec.std)


def _noise(spec: InputSpec) -> np.ndarray:
    """Return two inputs without structure; vectors lie about `mean` as far as `std` says."""
    rng = np.random.default_rng(0)
    if isinstance(spec, PreprocessSpec):
        return rng.integers(0, 256, (2, spec.height, spec.width, 3), dtype=np.uint8)
    if isinstance(spec, SoundSpec):
        return sound_input.made_up(2, spec)
    return (spec.mean + spec.std * rng.standard_normal((2, spec.length))).astype(np.float32)

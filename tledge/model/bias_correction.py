"""Take back, in the biases, the shift that rounding the weights will cause.

A convolution with rounded weights W + ΔW shifts the mean of its output channel o by Σ ΔW[o, i] · E[x_i], summed over
inputs i and taps. E[x] is measured on calibration pictures, and the shift is subtracted from the bias beforehand. The
zero padding at the borders is left out of the account.
Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tledge import engine

_LARGEST = 127


def correct_biases(model: Any, batches: Iterable[dict[str, np.ndarray]]) -> None:
    """Correct the biases of every Conv in `model`, an onnx.ModelProto that will get int8 weights, in place.

    The weights must be about to be rounded symmetrically, one scale per output channel. `batches` feed the model.
    """
    from onnx import numpy_helper

    constants = {each.name: each for each in model.graph.initializer}
    layers = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and len(node.input) == 3 and constants.keys() >= set(node.input[1:])
    ]
    if not layers:
        return
    means = _input_means(model, [layer.input[0] for layer in layers], batches)
    for layer in layers:
        weights, bias = (numpy_helper.to_array(constants[name]) for name in layer.input[1:])
        shift = _shift(_rounding(weights.astype(np.float64)), means[layer.input[0]])
        constants[layer.input[2]].CopyFrom(numpy_helper.from_array((bias - shift).astype(bias.dtype), layer.input[2]))


def _rounding(weights: np.ndarray) -> np.ndarray:
    """Return what rounding adds to `weights` [outputs, inputs per group, taps…]."""
    scale = np.abs(weights).reshape(len(weights), -1).max(axis=1) / _LARGEST
    scale = np.where(scale > 0, scale, 1.0).reshape(-1, *[1] * (weights.ndim - 1))
    return np.round(weights / scale) * scale - weights


def _shift(change: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the shift of each output [outputs] from `change` of the weights and the `mean` of each input [inputs]."""
    per_input = change.reshape(*change.shape[:2], -1).sum(axis=2)
    groups = len(mean) // per_input.shape[1]
    return np.einsum("goi,gi->go", per_input.reshape(groups, -1, per_input.shape[1]), mean.reshape(groups, -1)).ravel()


def _input_means(model: Any, names: list[str], batches: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the mean of each channel of the tensors `names` [N, channels, …] over all `batches`."""
    import onnx
    from onnx import helper

    watched = list(dict.fromkeys(names))
    probe = onnx.ModelProto.FromString(model.SerializeToString())
    for name in watched:
        # The mean over a picture's plane in the graph keeps what leaves it small.
        probe.graph.node.append(helper.make_node("GlobalAveragePool", [name], [f"{name}/mean"]))
        probe.graph.output.append(helper.make_tensor_value_info(f"{name}/mean", onnx.TensorProto.FLOAT, None))
    session = engine.open_session(probe.SerializeToString(), provider="cpu", name="The backbone")
    sums, count = [0.0] * len(watched), 0
    for feed in batches:
        outputs = session.run([f"{name}/mean" for name in watched], feed)
        sums = [total + rows.astype(np.float64).sum(axis=0).ravel() for total, rows in zip(sums, outputs, strict=True)]
        count += len(outputs[0])
    return {name: total / count for name, total in zip(watched, sums, strict=True)}

"""Heads that are affine layers: relu between them, softmax or sigmoid behind the last.

In `Head.arrays` the last layer is `weights` float32 [width, outputs] and `bias` float32 [outputs]; hidden layers before
it, if any, are `weights1` and `bias1`, `weights2` and `bias2`, and so on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from tledge.heads.calibration import sigmoid, softmax
from tledge.heads.graphs import finish
from tledge.schema import Head

if TYPE_CHECKING:
    import onnx

# pair: one sigmoid unit p becomes the probabilities 1 − p and p of two classes
Output = Literal["softmax", "sigmoid", "pair"]
Layer = tuple[np.ndarray, np.ndarray]


def one_layer(weights: np.ndarray, bias: np.ndarray, temperature: float = 1.0) -> dict[str, np.ndarray]:
    """Return the arrays of a head of one layer, its logits divided by `temperature`."""
    return arrays_of([(weights, bias)], temperature)


def arrays_of(layers: list[Layer], temperature: float = 1.0) -> dict[str, np.ndarray]:
    """Return the arrays of a head of `layers`, the last one's logits divided by `temperature`."""
    *hidden, (weights, bias) = layers
    named = {"weights": weights / np.float32(temperature), "bias": bias / np.float32(temperature)}
    for number, (inner, offset) in enumerate(hidden, start=1):
        named |= {f"weights{number}": inner, f"bias{number}": offset}
    return {name: np.ascontiguousarray(array, np.float32) for name, array in named.items()}


def layers_of(head: Head) -> list[Layer]:
    """Return the layers of `head`, first to last."""
    numbers = [*range(1, len(head.arrays) // 2), ""]
    return [(head.arrays[f"weights{number}"], head.arrays[f"bias{number}"]) for number in numbers]


def logits(head: Head, features: np.ndarray) -> np.ndarray:
    """Return what stands before the softmax or sigmoid, float32 [n, outputs], for `features` float32 [n, d]."""
    *hidden, (weights, bias) = layers_of(head)
    for inner, offset in hidden:
        features = np.maximum(features @ inner + offset, 0)
    return features @ weights + bias


def probabilities(head: Head, features: np.ndarray, output: Output) -> np.ndarray:
    """Return float32 [n, classes] for `features` float32 [n, d]."""
    found = logits(head, features)
    if output == "softmax":
        return softmax(found)
    share = sigmoid(found)
    return np.hstack([1 - share, share]) if output == "pair" else share


def graph(head: Head, output: Output) -> onnx.ModelProto:
    """Return the head as a graph of Gemm, Relu and one Softmax or Sigmoid (`graphs.finish` says of what form)."""
    from onnx import helper, numpy_helper

    nodes, constants, current = [], [], "features"
    layers = layers_of(head)
    for number, (weights, bias) in enumerate(layers, start=1):
        constants += [numpy_helper.from_array(weights, f"weights{number}")]
        constants += [numpy_helper.from_array(bias, f"bias{number}")]
        operands = [current, f"weights{number}", f"bias{number}"]
        nodes.append(helper.make_node("Gemm", operands, [f"gemm{number}"], f"gemm{number}"))
        current = f"gemm{number}"
        if number < len(layers):
            nodes.append(helper.make_node("Relu", [current], [f"relu{number}"], f"relu{number}"))
            current = f"relu{number}"
    if output == "pair":
        nodes += [
            helper.make_node("Sigmoid", [current], ["second"], "sigmoid"),
            helper.make_node("Sub", ["one", "second"], ["first"], "sub"),
            helper.make_node("Concat", ["first", "second"], ["probabilities"], "concat", axis=1),
        ]
        constants.append(numpy_helper.from_array(np.float32(1), "one"))
    else:
        kind, settings = ("Softmax", {"axis": -1}) if output == "softmax" else ("Sigmoid", {})
        nodes.append(helper.make_node(kind, [current], ["probabilities"], kind.lower(), **settings))
    outputs = len(layers[-1][1])
    return finish(nodes, constants, len(layers[0][0]), 2 if output == "pair" else outputs)

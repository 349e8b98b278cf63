"""Find where a network turns into its classifier: the input of the last layer with weights is the features.

From the output backwards, what only reshapes, averages or squashes scores is passed over: SqueezeNet ends in 1×1 Conv →
Relu → GlobalAveragePool → Flatten, MobileNet in GlobalAveragePool → MatMul → Add → Softmax. A network that ends without
a classifier gives its features as its output.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from tledge.backbones.from_onnx.graph import attribute, constants, label, producers, shapes, varying
from tledge.errors import BackboneError, did_you_mean
from tledge.schema import Pool

_SAME_NUMBERS = {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Dropout", "Cast"}
_AVERAGES = {"GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool", "ReduceMean", "ReduceMax"}
_WHOLE_MAP = _AVERAGES - {"AveragePool", "MaxPool"}
_PROBABILITIES = {"Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "ArgMax"}
_SHIFTS = {"Add", "Sub", "Mul", "Div"}
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Cut:
    """The tensor that holds the features, and how it was found; `found` is empty where the user named it."""

    tensor: str
    found: str = ""


def find_cut(model: Any, feature: str | None, pool: Pool | None, name: str) -> Cut:
    """Return where to cut the ONNX `model`: at the node or tensor `feature`, else before its classifier.

    When `pool` is given and `feature` is not, the cut goes before a global average of a map, so that there is a map to
    pool. `name` is what to call the file. Raises BackboneError when there is no such node, or no one output to start
    from.
    """
    if feature is not None:
        return Cut(_named(model.graph, feature, name))
    cut = _before_classifier(model, _one_output(model.graph, name), name)
    return Cut(_before_average(model.graph, cut.tensor), cut.found) if pool else cut


def _named(graph: Any, feature: str, name: str) -> str:
    tensors = producers(graph)
    if feature in tensors:
        return feature
    for node in graph.node:
        if node.name == feature:
            return node.output[0]
    choices = [*(node.name for node in graph.node if node.name), *tensors]
    near = difflib.get_close_matches(feature, choices, n=_SHOWN // 2, cutoff=0.5)
    shown = dict.fromkeys([*near, *(node.name or node.output[0] for node in graph.node[-_SHOWN:])])
    raise BackboneError(f"{name} has no node or tensor called {feature!r}.", did_you_mean(feature, shown))


def _one_output(graph: Any, name: str) -> str:
    if len(graph.output) == 1:
        return graph.output[0].name
    outputs = ", ".join(value.name for value in graph.output)
    raise BackboneError(
        f"{name} must have one output to find its classifier from, but has {len(graph.output)}.",
        f"Name the node to take features from with --feature-node. Its outputs are: {outputs}.",
    )


def _before_classifier(model: Any, output: str, name: str) -> Cut:
    """Return the cut before the classifier that leads to the tensor `output`, or at `output` where there is none."""
    makers, varies, passed = producers(model.graph), varying(model.graph), []
    tensor = output
    while tensor in makers:
        node = makers[tensor]
        operands = [each for each in node.input if each in varies]
        if node.op_type in ("Gemm", "MatMul", "Conv") and len(operands) == 1 and operands[0] in node.input[:2]:
            if _classifies(model, node, passed):
                return Cut(_skip(makers, operands[0], name), f"features are the input of its classifier, {label(node)}")
            break
        one_way = node.op_type in _SAME_NUMBERS | _AVERAGES | _PROBABILITIES | {"Relu"}
        if not operands or not (one_way or (node.op_type in _SHIFTS and len(operands) == 1)):
            break
        passed.append(node.op_type)
        tensor = operands[0]
    if not _PROBABILITIES.isdisjoint(passed):
        raise BackboneError(
            f"{name} ends in {passed[0]}, but has no Gemm, MatMul or 1×1 Conv before it to cut at.",
            "Name the node to take features from with --feature-node.",
        )
    return Cut(output, f"features are its output {output!r}, as it ends without a classifier")


def _classifies(model: Any, node: Any, passed: list[str]) -> bool:
    """Tell whether the layer `node`, followed by the operators `passed`, gives scores of classes."""
    if node.op_type == "Conv" and not _is_pointwise(model.graph, node):
        return False
    if not _PROBABILITIES.isdisjoint(passed):
        return True
    if node.op_type != "Conv" and "Relu" in passed:
        return False  # a hidden layer: scores of classes have both signs
    return not _looks_like_features(_width(model, node))


def _is_pointwise(graph: Any, node: Any) -> bool:
    weights = constants(graph).get(node.input[1])
    kernel = list(weights.dims[2:]) if weights is not None else attribute(node, "kernel_shape", [0])
    return set(kernel) == {1} and attribute(node, "group", 1) == 1


def _width(model: Any, node: Any) -> int:
    shape = shapes(model).get(node.output[0], ())
    axis = 1 if node.op_type == "Conv" else -1
    return (shape[axis] or 0) if len(shape) > 1 else 0


def _looks_like_features(width: int) -> bool:
    # Without a softmax behind it a last layer may as well be an embedding or, as in Xception, the last of the network.
    # Those have 128, 512, 2048 channels; classes are 10, 1000, 1001, 21841.
    return width >= 128 and width % 64 == 0


def _skip(makers: dict[str, Any], tensor: str, name: str) -> str:
    while tensor in makers and makers[tensor].op_type in ("Dropout", "Identity"):
        tensor = makers[tensor].input[0]
    if tensor not in makers:
        raise BackboneError(
            f"{name} has nothing before its classifier, which reads the input itself.", "Take another network."
        )
    return tensor


def _before_average(graph: Any, tensor: str) -> str:
    makers, here = producers(graph), tensor
    while here in makers and makers[here].op_type in _SAME_NUMBERS:
        here = makers[here].input[0]
    averaged = here in makers and makers[here].op_type in _WHOLE_MAP
    return makers[here].input[0] if averaged else tensor

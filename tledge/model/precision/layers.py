"""Layers, each with weights of its own, and which nodes of an int8 graph stay in float.

Those are the layers asked for, and what would round for nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from tledge.errors import TledgeError, did_you_mean

LAYERS = ("Conv", "Gemm", "MatMul")
_CLIPPING = ("Clip", "Relu")


def find(model: Any) -> list[Any]:
    """Return the nodes of `model`, an onnx.ModelProto, whose products int8 makes cheaper, in the order of the graph."""
    return [node for node in model.graph.node if node.op_type in LAYERS]


def before_logarithms(model: Any) -> list[str]:
    """Return the names of the layers of `model`, an onnx.ModelProto, on the way to a logarithm.

    What a logarithm reads spans decades, as the powers of a spectrogram do: of 256 even steps, most of it is the first.
    """
    wanted: set[str] = set()
    for node in reversed(model.graph.node):  # sorted, as ONNX has it
        if node.op_type == "Log" or wanted.intersection(node.output):
            wanted.update(node.input)
    return [node.name for node in find(model) if wanted.intersection(node.output)]


def detach(model: Any) -> None:
    """Give each layer of `model`, an onnx.ModelProto, constants that no other node reads, in place.

    Layers that share weights part where one stays in float, and where what they read has other means: biases are
    corrected by those (`bias_correction.py`). What stays equal is one constant again in the joined graph.
    """
    graph = model.graph
    constants = {each.name: each for each in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    for layer in find(model):
        for place, name in enumerate(layer.input):
            if name in constants and readers[name] > 1:
                readers[name] -= 1
                layer.input[place] = f"{layer.output[0]}/{name}"
                graph.initializer.append(constants[name])
                graph.initializer[-1].name = layer.input[place]


def exclude(model: Any, float_layers: Collection[str], op_types: Collection[str]) -> list[str]:
    """Return the names of the nodes of `op_types` that stay in float when the layers `float_layers` do.

    Sums, maxima and clips between layers go with them once no int8 layer reads or makes what they touch, directly or by
    steps of one activation: to round there would cost accuracy and time, and make nothing cheaper. Raises TledgeError
    when there is no such layer.
    """
    known = {node.name: node for node in find(model)}
    for name in float_layers:
        if name not in known:
            raise TledgeError(f"There is no layer called '{name}' to keep in float.", did_you_mean(name, known))
    whole = _unclipped(model)
    rounded = {tensor for name, node in known.items() if name not in float_layers for tensor in _touched(node, whole)}
    between = [node for node in model.graph.node if node.op_type in op_types and node.op_type not in LAYERS]
    constants = {each.name for each in model.graph.initializer}
    steps = [_touched(node, whole) - constants for node in between if len(set(node.input) - constants) == 1]
    for step in (*steps, *reversed(steps)):  # along a chain of them, and back
        if rounded & step:
            rounded |= step
    return [*dict.fromkeys(float_layers), *(node.name for node in between if not rounded & _touched(node, whole))]


def _unclipped(model: Any) -> dict[str, str]:
    """Return by the output of each Clip and Relu what it is made from: in int8 both are one tensor."""
    whole: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type in _CLIPPING:
            whole[node.output[0]] = whole.get(node.input[0], node.input[0])
    return whole


def _touched(node: Any, whole: dict[str, str]) -> set[str]:
    return {whole.get(name, name) for name in (*node.input, *node.output)}

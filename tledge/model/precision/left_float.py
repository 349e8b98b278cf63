"""Keep onnxruntime from rounding the layers that were left in float after all.

On loading a graph it looks for a Conv or Gemm with float weights between a DequantizeLinear of one scale and a
QuantizeLinear, and makes it int8, with one scale for all weights (WeightBiasQuantization, from 1.20 on). It passes over
one whose DequantizeLinear has a scale for each channel. So a float layer reads through one of its own, in which all of
these are equal: the same numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

_ROUNDED = ("Conv", "Gemm", "ConvTranspose")


def protect(model: Any, left: Collection[str]) -> None:
    """Let the nodes named in `left` read what is dequantized per channel, in the quantized `model`, in place.

    What is added stands last; the nodes have to be sorted again. A layer that reads a single channel is not protected:
    for that, both forms are one.
    """
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    constants = {each.name: each for each in graph.initializer}
    for node in [each for each in graph.node if each.name in left and each.op_type in _ROUNDED]:
        shared = makers.get(node.input[0])
        if shared is not None and shared.op_type == "DequantizeLinear":
            node.input[0] = _of_its_own(graph, shared, _channels(node, constants[node.input[1]].dims), constants)
    read = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
    for node in [each for each in graph.node if each.op_type == "DequantizeLinear" and each.output[0] not in read]:
        graph.node.remove(node)


def _of_its_own(graph: Any, shared: Any, channels: int, constants: dict[str, Any]) -> str:
    """Return the output of a DequantizeLinear like `shared`, with a scale for each of `channels`; made when missing."""
    from onnx import helper, numpy_helper

    name = f"{shared.output[0]}/per_channel"
    if any(name in node.output for node in graph.node):
        return name
    inputs = [shared.input[0]]
    for each in shared.input[1:]:
        value = numpy_helper.to_array(constants[each])
        inputs.append(f"{name}/{each}")
        graph.initializer.append(numpy_helper.from_array(np.full(channels, value.item(), value.dtype), inputs[-1]))
    graph.node.append(helper.make_node("DequantizeLinear", inputs, [name], name, axis=1))
    return name


def _channels(layer: Any, weights: Sequence[int]) -> int:
    """Return how many channels `layer` reads."""
    attributes = {each.name: each.i for each in layer.attribute}
    if layer.op_type == "Gemm":
        return weights[1] if attributes.get("transB") else weights[0]
    return weights[1] * attributes.get("group", 1)

"""A product with a positive constant costs nothing in int8: the same steps with another scale.

Where the range of c·x is c times that of x, both have the same 256 steps, and DequantizeLinear with c times the scale
reads those of x as c·x. Nothing is rounded again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tledge.backbones.passes.unread import drop_unread
from tledge.model.precision.thresholds import Range

_RATIO = 1e-5  # between two float32 scales that were each rounded


def carry_ranges(model: Any, ranges: dict[str, Range]) -> None:
    """Give every product with a positive number in the float `model` its factor's range times that number, in place."""
    for product, x, factor in _products(model.graph, _numbers(model.graph)):
        if x in ranges and product.output[0] in ranges:
            low, high = ranges[x]
            ranges[product.output[0]] = factor * low, factor * high


def drop(model: Any) -> None:
    """Take these products out of the quantized `model`, in place, where the steps of both sides are the same."""
    graph = model.graph
    makers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    numbers = _numbers(graph)
    widened = {name: _dequantized(node, numbers) for name, node in makers.items() if node.op_type == "DequantizeLinear"}
    numbers |= {name: value for name, value in widened.items() if value is not None}
    for product, x, factor in _products(graph, numbers):
        rounded = readers.get(product.output[0], [])
        if x not in widened or [node.op_type for node in rounded] != ["QuantizeLinear"]:
            continue
        (before, after) = makers[x], rounded[0]
        scales = [float(numbers[node.input[1]]) for node in (before, after)]
        zeros = [int(numbers[node.input[2]]) for node in (before, after)]
        if zeros[0] == zeros[1] and abs(scales[1] / (factor * scales[0]) - 1) < _RATIO:
            for node in readers.get(after.output[0], []):
                node.input[0] = before.input[0]
    drop_unread(graph)


def _products(graph: Any, numbers: dict[str, np.ndarray]) -> Iterator[tuple[Any, str, float]]:
    """Yield each product with one positive number: the node, what is multiplied, and the number."""
    for node in graph.node:
        if node.op_type != "Mul":
            continue
        for x, constant in (node.input, reversed(node.input)):
            if constant in numbers and x not in numbers and numbers[constant].ravel()[0] > 0:
                yield node, x, float(numbers[constant].ravel()[0])


def _numbers(graph: Any) -> dict[str, np.ndarray]:
    """Return the constants of one element."""
    from onnx import numpy_helper

    arrays = ((each.name, each) for each in graph.initializer if int(np.prod(each.dims)) == 1)
    return {name: numpy_helper.to_array(each) for name, each in arrays}


def _dequantized(node: Any, numbers: dict[str, np.ndarray]) -> np.ndarray | None:
    if any(name not in numbers for name in node.input):
        return None
    value, scale, zero = (numbers[name].astype(np.float64) for name in node.input)
    return (value - zero) * scale

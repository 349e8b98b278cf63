"""Count the multiply-adds of a graph, the usual measure of how much a network computes.

Only products with weights or between tensors count, as is the custom: convolutions and matrix products.
"""

from __future__ import annotations

import math
from typing import Any


def count(model: Any) -> int:
    """Return the multiply-adds of the onnx.ModelProto `model` for one input, whose shape but for N must be fixed.

    Raises ValueError where the shape that a node needs is not known.
    """
    return sum(of_each(model))


def of_each(model: Any) -> list[int]:
    """Return those of each node of the graph, in its order, as `count` does."""
    from onnx.shape_inference import infer_shapes

    graph = infer_shapes(model).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [axis.dim_value or None for axis in value.type.tensor_type.shape.dim]
    return [_of(node, shapes) for node in graph.node]


def _of(node: Any, shapes: dict[str, list[int | None]]) -> int:
    """Return the numbers that `node` puts out for one input, times the products that each is the sum of."""
    if node.op_type == "Conv":
        summed = shapes[node.input[1]][1:]
    elif node.op_type == "MatMul":
        summed = shapes[node.input[0]][-1:]
    elif node.op_type == "Gemm":
        transposed = any(each.name == "transA" and each.i for each in node.attribute)
        summed = shapes[node.input[0]][0 if transposed else 1 :][:1]
    else:
        return 0
    sizes = [*shapes.get(node.output[0], [None, None])[1:], *summed]
    if None in sizes:
        raise ValueError(f"The shape of {node.name} ({node.op_type}) is not known.")
    return math.prod(sizes)

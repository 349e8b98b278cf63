"""Drop reshaping that leads back to where it began, and settle at once what shapes will be.

The squeeze-and-excitation of a channels-last network averages to [N, c] and goes on as [N, 1, 1, c]. In the converted
graph, which is channels first, that is [N, c, 1, 1] → [N, c] → [N, c, 1, 1], two nodes in each block that do nothing.
Keras flattens to a shape that it computes for every batch anew, in four nodes or more, though only N can vary.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tledge.backbones.passes.unread import drop_unread_nodes

_RESHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


def drop_reshapes(model: Any, *, follow_shapes: bool = False) -> None:
    """Take chains of reshaping nodes with equal shapes at both ends out of `model`, an onnx.ModelProto, in place.

    The shape that any other Reshape leads to becomes a constant where it is known but for its first axis. With
    `follow_shapes` that includes what nodes compute from the shapes of other tensors, as PyTorch writes `view`.
    """
    graph = model.graph
    shapes = _shapes(model, follow_shapes)
    constants = {tensor.name for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = _origin(name, makers, shapes)
        if node.op_type == "Reshape" and node.input[1] not in constants:
            _settle(graph, node, shapes.get(node.output[0]))
    drop_unread_nodes(graph)


def _origin(name: str, makers: dict[str, Any], shapes: dict[str, list[int | None]]) -> str:
    """Return the farthest tensor behind `name` that has its shape, with nothing but reshaping between."""
    found, maker = name, makers.get(name)
    while maker is not None and maker.op_type in _RESHAPING:
        behind = maker.input[0]
        if _equal(shapes.get(behind), shapes.get(name)):
            found = behind
        maker = makers.get(behind)
    return found


def _equal(first: list[int | None] | None, second: list[int | None] | None) -> bool:
    """Tell whether two shapes of tensors with equally many numbers are equal: all but the first axis decide."""
    return bool(first) and bool(second) and None not in first[1:] and first[1:] == second[1:]


def _settle(graph: Any, node: Any, shape: list[int | None] | None) -> None:
    from onnx import numpy_helper

    if shape and None not in shape[1:]:
        node.input[1] = f"{node.output[0]}/shape"
        graph.initializer.append(numpy_helper.from_array(np.array([-1, *shape[1:]], np.int64), node.input[1]))


def _shapes(model: Any, follow_shapes: bool) -> dict[str, list[int | None]]:
    from onnx.shape_inference import infer_shapes

    graph = infer_shapes(model, data_prop=follow_shapes).graph
    return {
        value.name: [axis.dim_value or None for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }

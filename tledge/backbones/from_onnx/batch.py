"""Let a network that was exported for a fixed number of samples take any number of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tledge.backbones.from_onnx.graph import Shape, add_constant, attribute, constants, fresh, keep, shapes, varying


def free_batch(model: Any, batch: int, *, fixed: bool) -> None:
    """Make the first axis of `model`, whose input has the settled shape [`batch`, …], as long as it is fed, in place.

    Where a Reshape states the length of its first axis, that is taken from the data instead. With `fixed` false only
    those that state `batch` for data of that length are changed. Whether that was all shows when the graph is run.
    """
    graph = model.graph
    known, lengths, varies = constants(graph), shapes(model), varying(graph)
    for node in graph.node:
        if node.op_type == "Reshape" and node.input[0] in varies and node.input[1] in known:
            before, after = lengths.get(node.input[0], ()), lengths.get(node.output[0], ())
            if fixed or before[:1] == (batch,):
                _free_reshape(graph, node, known[node.input[1]], before, after, batch if not fixed else None)
    for node in [each for each in graph.node if each.op_type == "Concat"]:
        if attribute(node, "axis") != 0:
            _repeat_constants(graph, node, lengths, varies)
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"


def _repeat_constants(graph: Any, node: Any, lengths: dict[str, Shape], varies: set[str]) -> None:
    """Let the Concat `node` put a constant made for one sample, as the class token of a ViT, before every sample."""
    from onnx import helper

    data = next((name for name in node.input if name in varies), None)
    # A constant that is computed may have no inferred length; if that is not one, the graph does not run.
    single = [name for name in node.input if name not in varies and lengths.get(name, ())[:1] in ((1,), (None,))]
    if data is None or not single:
        return
    stem, rank = node.output[0], len(lengths[single[0]])
    ones = add_constant(graph, f"{stem}/ones", np.ones(rank - 1, np.int64))
    count, times = (fresh(graph, f"{stem}/{name}") for name in ("count", "times"))
    added = [
        helper.make_node("Shape", [data], [count], count, start=0, end=1),
        helper.make_node("Concat", [count, ones], [times], times, axis=0),
    ]
    for number, name in enumerate(single):
        repeated = fresh(graph, f"{stem}/repeated{number}")
        added.append(helper.make_node("Expand", [name, times], [repeated], repeated))
        node.input[:] = [repeated if each == name else each for each in node.input]
    place = list(graph.node).index(node)
    for each in reversed(added):
        graph.node.insert(place, each)


def _free_reshape(graph: Any, node: Any, target: Any, before: Shape, after: Shape, only: int | None) -> None:
    """Free the first axis of the Reshape `node` to the shape `target`, if it is a number and, when given, `only`."""
    from onnx import numpy_helper

    lengths = numpy_helper.to_array(target).tolist()
    if not lengths or lengths[0] <= 0 or only not in (None, lengths[0]):
        return
    if before and before[0] == lengths[0]:
        lengths[0] = 0  # as long as that of the data
    else:
        lengths = [-1, *(_settled(length, i, before, after) for i, length in enumerate(lengths[1:], 1))]
    if lengths.count(-1) > 1:
        return
    node.input[1] = add_constant(graph, f"{node.output[0]}/shape", np.array(lengths, np.int64))
    keep(node.attribute, lambda each: each.name != "allowzero")


def _settled(length: int, axis: int, before: Shape, after: Shape) -> int:
    inferred = after[axis] if axis < len(after) else None
    return inferred if length == -1 and inferred else length

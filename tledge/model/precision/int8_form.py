"""Float graph → the same function in operators that onnxruntime can compute in int8.

A node without an int8 kernel between two int8 layers costs more than itself: values are widened before it and rounded
behind it. Division by a constant is a product; HardSigmoid and HardSwish are products, a sum and a clip; the mean over
a plane is an average pool; a Pad before a convolution is part of it; and a scale and a shift for each channel, as batch
normalisation leaves them behind a Concat, are a depthwise convolution of one tap, whose weights are exact in int8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tledge.backbones.passes.paddings import settle_paddings


def rewritten(model: Any) -> Any:
    """Return `model`, an onnx.ModelProto with channels first, in that form and with inferred shapes."""
    import onnx

    model = onnx.shape_inference.infer_shapes(model)
    settle_paddings(model)
    graph = model.graph
    constants = _constants(graph)
    for mean in [node for node in graph.node if _is_plane_mean(node, constants, _shapes(graph))]:
        mean.CopyFrom(_node("GlobalAveragePool", mean, [mean.input[0]], list(mean.output)))
    _replace(graph, (new for node in graph.node for new in _without_division(node, graph, constants)))
    _replace(graph, (new for node in graph.node for new in _without_hard(node, graph)))
    affine = _affine_maps(graph)
    _replace(graph, (new for node in graph.node for new in _convolution(node, graph, affine)))
    return onnx.shape_inference.infer_shapes(model)


def _is_plane_mean(node: Any, constants: dict[str, np.ndarray], shapes: dict[str, Any]) -> bool:
    given = {each.name: each for each in node.attribute}
    if node.op_type != "ReduceMean" or len(shapes.get(node.input[0], ())) != 4:
        return False
    if "keepdims" in given and not given["keepdims"].i:
        return False
    axes = given["axes"].ints if "axes" in given else constants.get("".join(node.input[1:]), ())
    return sorted(int(axis) % 4 for axis in axes) == [2, 3]


def _without_division(node: Any, graph: Any, constants: dict[str, np.ndarray]) -> Iterator[Any]:
    divisor = constants.get(node.input[1]) if node.op_type == "Div" else None
    if divisor is None or divisor.dtype != np.float32 or not divisor.all():
        yield node
    else:
        yield _node("Mul", node, [node.input[0], _constant(graph, node, "reciprocal", 1 / divisor)], list(node.output))


def _without_hard(node: Any, graph: Any) -> Iterator[Any]:
    """Yield HardSigmoid(x) = clip(α·x + β, 0, 1) and HardSwish(x) = x · HardSigmoid(x) with 1/6 and 1/2, in parts."""
    if node.op_type not in ("HardSigmoid", "HardSwish"):
        yield node
        return
    given = {each.name: each.f for each in node.attribute}
    alpha, beta = (given.get("alpha", 0.2), given.get("beta", 0.5)) if node.op_type == "HardSigmoid" else (1 / 6, 0.5)
    x, scaled, shifted = node.input[0], f"{node.output[0]}/scaled", f"{node.output[0]}/shifted"
    gate = node.output[0] if node.op_type == "HardSigmoid" else f"{node.output[0]}/gate"
    low, high = (_constant(graph, node, name, value) for name, value in (("low", 0.0), ("high", 1.0)))
    yield _node("Mul", node, [x, _constant(graph, node, "alpha", alpha)], [scaled])
    yield _node("Add", node, [scaled, _constant(graph, node, "beta", beta)], [shifted])
    yield _node("Clip", node, [shifted, low, high], [gate])
    if node.op_type == "HardSwish":
        yield _node("Mul", node, [x, gate], list(node.output), "product")


def _affine_maps(graph: Any) -> dict[str, tuple[str, Any, Any, np.ndarray, np.ndarray]]:
    """Return, by the names of both, each Mul and Add by a constant of every channel: x, the two, scales, and shifts."""
    constants, ends = _constants(graph), {each.name for each in graph.output}
    shapes = _shapes(graph)
    found = {}
    for scale in (node for node in graph.node if node.op_type == "Mul" and node.output[0] not in ends):
        readers = [node for node in graph.node if scale.output[0] in node.input]
        if len(readers) != 1 or readers[0].op_type != "Add" or len(shapes.get(scale.output[0], ())) != 4:
            continue
        values = [_per_channel(each, constants, shapes[scale.output[0]][1].dim_value) for each in (scale, readers[0])]
        if all(each is not None for each in values):
            x = next(name for name in scale.input if name not in constants)
            found[scale.name] = found[readers[0].name] = (x, scale, readers[0], *values)
    return found


def _convolution(node: Any, graph: Any, affine: dict[str, Any]) -> Iterator[Any]:
    if node.name not in affine:
        yield node
        return
    x, scale, shift, factors, offsets = affine[node.name]
    if node.name == scale.name:
        return
    weight = _constant(graph, shift, "weight", factors.reshape(-1, 1, 1, 1))
    bias = _constant(graph, shift, "bias", offsets)
    yield _node("Conv", shift, [x, weight, bias], list(shift.output), group=len(factors))


def _per_channel(node: Any, constants: dict[str, np.ndarray], channels: int) -> np.ndarray | None:
    """Return the constant operand of `node` float32 [channels], None where it is none with one number for each."""
    values = [constants[name] for name in node.input if name in constants]
    if len(values) != 1 or channels < 1 or values[0].shape[-3:] != (channels, 1, 1) or values[0].size != channels:
        return None
    return values[0].ravel()


def _shapes(graph: Any) -> dict[str, Any]:
    return {each.name: each.type.tensor_type.shape.dim for each in (*graph.value_info, *graph.output)}


def _constants(graph: Any) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {each.name: numpy_helper.to_array(each) for each in graph.initializer}


def _constant(graph: Any, node: Any, role: str, value: Any) -> str:
    from onnx import numpy_helper

    name = f"{node.name}.{role}"
    graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    return name


def _node(op_type: str, of: Any, inputs: list[str], outputs: list[str], role: str = "", **attributes: Any) -> Any:
    from onnx import helper

    name = f"{of.name}.{role or op_type.lower()}" if of.op_type in ("HardSigmoid", "HardSwish") else of.name
    return helper.make_node(op_type, inputs, outputs, name, **attributes)


def _replace(graph: Any, nodes: Iterator[Any]) -> None:
    made = [type(node).FromString(node.SerializeToString()) for node in list(nodes)]
    del graph.node[:]
    graph.node.extend(made)

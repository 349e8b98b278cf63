"""Questions that every step on a foreign ONNX graph asks, and the part of it that leads to one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Shape = tuple[int | None, ...]
# No shape that a node reads has more numbers.
_LARGEST_SHAPE = 64


def constants(graph: Any) -> dict[str, Any]:
    """Return the initializers of `graph` by name."""
    return {each.name: each for each in graph.initializer}


def producers(graph: Any) -> dict[str, Any]:
    """Return the node that makes each tensor of `graph`, by the tensor's name."""
    return {name: node for node in graph.node for name in node.output if name}


def readers(graph: Any, name: str) -> list[Any]:
    """Return the nodes of `graph` that read the tensor `name`."""
    return [node for node in graph.node if name in node.input]


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """Return the value of the attribute `name` of `node`, or `default` where it is not set."""
    from onnx import helper

    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def label(node: Any) -> str:
    """Return what to call `node` in a message: its operator and its name, or that of its output."""
    return f"{node.op_type} {(node.name or next(iter(node.output), ''))!r}"


def varying(graph: Any) -> set[str]:
    """Return the tensors of `graph` that depend on its inputs; all others are the same for every sample."""
    found = {value.name for value in graph.input} - constants(graph).keys()
    for node in graph.node:
        if not found.isdisjoint(node.input) or holds_graph(node):  # an inner graph may read anything
            found.update(node.output)
    return found


def holds_graph(node: Any) -> bool:
    """Tell whether `node` holds graphs of its own, as If, Loop and Scan do."""
    return any(each.HasField("g") or each.graphs for each in node.attribute)


def shapes(model: Any) -> dict[str, Shape]:
    """Return the shape of each tensor of `model` that can be inferred; None stands for a length that is not known."""
    known = {each.name: tuple(each.dims) for each in model.graph.initializer}
    for value in _inferred(model):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            known[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    return known


def element_type(model: Any, tensor: str) -> int:
    """Return the onnx.TensorProto number of what `tensor` of `model` holds; FLOAT where that cannot be inferred."""
    from onnx import TensorProto

    found = (value.type.tensor_type.elem_type for value in _inferred(model) if value.name == tensor)
    return next((kind for kind in found if kind), TensorProto.FLOAT)


def _inferred(model: Any) -> list[Any]:
    """Return names, types and shapes of the tensors of `model`, without handling the numbers of its weights."""
    from onnx import ModelProto, helper, shape_inference

    light, graph = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import), model.graph
    for field in ("node", "output"):
        getattr(light.graph, field).extend(getattr(graph, field))
    light.graph.input.extend(value for value in graph.input if value.name not in constants(graph))
    for each in graph.initializer:
        if math.prod(each.dims) > _LARGEST_SHAPE:
            light.graph.input.append(helper.make_tensor_value_info(each.name, each.data_type, each.dims))
        else:
            light.graph.initializer.append(each)
    found = shape_inference.infer_shapes(light, data_prop=True).graph
    return [*found.value_info, *found.input, *found.output]


def fresh(graph: Any, name: str) -> str:
    """Return `name`, with marks added until nothing in `graph` is called so."""
    taken = constants(graph).keys() | producers(graph).keys() | {value.name for value in graph.input}
    while name in taken:
        name += "'"
    return name


def add_constant(graph: Any, name: str, values: Any) -> str:
    """Add the NumPy array `values` to the initializers of `graph`; returns its name, `name` if that is free."""
    from onnx import numpy_helper

    name = fresh(graph, name)
    graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def rename(graph: Any, old: str, new: str) -> None:
    """Let every node of `graph` that reads the tensor `old` read `new`."""
    for node in graph.node:
        if old in node.input:
            node.input[:] = [new if name == old else name for name in node.input]


def lift_constants(graph: Any) -> None:
    """Turn the Constant nodes of `graph` into initializers, and Identity nodes that only rename one as well."""
    from onnx import numpy_helper

    known, results = constants(graph), {value.name for value in graph.output}
    lifted = set()
    for node in graph.node:
        if _is_dense_constant(node) and node.output[0] not in results:
            tensor = numpy_helper.from_array(_value(node), node.output[0])
        elif node.op_type == "Identity" and node.input[0] in known and node.output[0] not in results:
            tensor = _named(known[node.input[0]], node.output[0])
        else:
            continue
        graph.initializer.append(tensor)
        known[tensor.name] = tensor
        lifted.add(tensor.name)
    keep(graph.node, lambda node: node.output[0] not in lifted)


def _is_dense_constant(node: Any) -> bool:
    kinds = ("value", "value_float", "value_floats", "value_int", "value_ints")
    return node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].name in kinds


def _value(node: Any) -> Any:
    import numpy as np
    from onnx import helper, numpy_helper

    (given,) = node.attribute
    value = helper.get_attribute_value(given)
    if given.name == "value":
        return numpy_helper.to_array(value)
    return np.array(value, np.float32 if "float" in given.name else np.int64)


def _named(tensor: Any, name: str) -> Any:
    copy = type(tensor).FromString(tensor.SerializeToString())
    copy.name = name
    return copy


def keep(repeated: Any, wanted: Callable[[Any], bool]) -> None:
    """Drop from the protobuf field `repeated` all that is not `wanted`; large weights are not copied."""
    for place in reversed(range(len(repeated))):
        if not wanted(repeated[place]):
            del repeated[place]


def keep_what_leads_to(model: Any, tensor: str) -> None:
    """Cut `model` in place: `tensor` becomes its only output, and what it does not need goes.

    Shapes noted in the file and texts go as well.
    """
    from onnx import helper

    output = helper.make_tensor_value_info(tensor, element_type(model, tensor), None)
    graph, needed = model.graph, {tensor}
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
    known = constants(graph)
    keep(graph.node, lambda node: not needed.isdisjoint(node.output))
    keep(graph.initializer, lambda each: each.name in needed)
    keep(graph.input, lambda value: value.name in needed and value.name not in known)
    graph.initializer.sort(key=lambda each: each.name)
    del graph.output[:]
    graph.output.append(output)
    for field in ("value_info", "quantization_annotation", "metadata_props"):
        graph.ClearField(field)
    graph.doc_string = model.doc_string = ""
    for item in (*graph.node, *graph.initializer):
        item.ClearField("doc_string")
        item.ClearField("metadata_props")

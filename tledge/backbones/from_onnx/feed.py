"""The steps from `image` or `vector` to what a network of the user's own takes.

Bytes are put in channel-first order first and normalised then, in the form that conversion of a named backbone leaves
(see transpose_first.py), so that quantization knows it. The order of channels, or the luma of a network for grey
pictures, becomes part of the first convolution's weights where there is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tledge.backbones.from_onnx.graph import add_constant, attribute, constants, readers, rename
from tledge.backbones.from_onnx.input import NetworkInput
from tledge.schema import ChannelOrder, PreprocessSpec, VectorSpec

# Rec. 601, as Pillow's mode L. It sums to one, so luma of normalised pixels is normalised luma.
LUMA = (0.299, 0.587, 0.114)
_TO_FIRST = [0, 3, 1, 2]
_NORMALISATION = ("Cast", "Sub", "Mul")


def take_vectors(model: Any, spec: VectorSpec, tensor: str) -> None:
    """Let `model`, whose input was `tensor`, take `vector` float32 [N, length] and normalise it as `spec` says."""
    from onnx import TensorProto

    _set_input(model.graph, "vector", TensorProto.FLOAT, ["N", spec.length])
    if (spec.mean, spec.std) == (0.0, 1.0):
        _lead(model.graph, "vector", tensor, [])
        return
    _add_constants(model.graph, {"mean": np.float32(spec.mean), "scale": np.float32(1 / spec.std)})
    _lead(model.graph, "vector", tensor, [("Sub", ["mean"], {}), ("Mul", ["scale"], {})])


def take_pictures(model: Any, spec: PreprocessSpec, order: ChannelOrder, form: NetworkInput, tensor: str) -> None:
    """Let `model`, whose input of `form` was `tensor`, take `image` uint8 [N, height, width, 3] RGB, in place.

    The pixels are normalised as `spec` says, unless the network takes bytes, and handed on in `order`.
    """
    from onnx import TensorProto

    graph, last = model.graph, form.last
    _set_input(graph, "image", TensorProto.UINT8, ["N", spec.height, spec.width, 3])
    if last and _reads_only(graph, tensor, "Transpose", perm=_TO_FIRST):
        (transpose,) = readers(graph, tensor)
        tensor, last = transpose.output[0], False
        graph.node.remove(transpose)
    tensor = _arrange_channels(graph, tensor, order, form, last)
    steps: list[tuple[str, list[str], dict[str, Any]]] = []
    if not last:
        steps.append(("Transpose", [], {"perm": _TO_FIRST}))
    if not form.takes_bytes:
        _add_constants(graph, {"mean": _per_channel(spec.mean, last), "scale": 1 / _per_channel(spec.std, last)})
        steps += [("Cast", [], {"to": TensorProto.FLOAT}), ("Sub", ["mean"], {}), ("Mul", ["scale"], {})]
    _lead(graph, "image", tensor, steps)


def normalisation_within(graph: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return mean and std, one per channel, of a `graph` that begins Transpose → Cast → Sub → Mul; else None."""
    from onnx import numpy_helper

    known, name, found = constants(graph), graph.input[0].name, []
    for op_type in ("Transpose", *_NORMALISATION):
        nodes = readers(graph, name)
        if [node.op_type for node in nodes] != [op_type]:
            return None
        found.append(nodes[0])
        name = nodes[0].output[0]
    if not {found[2].input[1], found[3].input[1]} <= known.keys():
        return None
    mean, scale = (numpy_helper.to_array(known[node.input[1]]).ravel() for node in found[2:])
    if mean.size not in (1, 3) or scale.size not in (1, 3):
        return None
    return tuple(float(m) for m in np.resize(mean, 3)), tuple(float(1 / s) for s in np.resize(scale, 3))


def _per_channel(values: tuple[float, ...], last: bool) -> np.ndarray:
    array = np.array(values, np.float32)
    if len(set(values)) == 1:
        return array[0]
    return array if last else array.reshape(-1, 1, 1)


def _arrange_channels(graph: Any, tensor: str, order: ChannelOrder, form: NetworkInput, last: bool) -> str:
    """Return the tensor that is to hold RGB, from which `tensor` gets the channels that the network takes."""
    from onnx import helper

    if form.channels == 3 and order == "rgb":
        return tensor
    if not last and _rewrite_first_convolution(graph, tensor, form.channels):
        return tensor
    if form.channels == 3:
        _add_constants(graph, {"order": np.array([2, 1, 0])})
        node = helper.make_node("Gather", ["rgb", "order"], [tensor], "order", axis=3 if last else 1)
    else:
        _add_constants(graph, {"luma": np.array(LUMA, np.float32).reshape((3, 1) if last else (1, 3, 1, 1))})
        node = helper.make_node("MatMul" if last else "Conv", ["rgb", "luma"], [tensor], "luma")
    graph.node.insert(0, node)
    return "rgb"


def _rewrite_first_convolution(graph: Any, tensor: str, channels: int) -> bool:
    """Let the convolution that alone reads `tensor` take RGB in place of BGR, or of one grey channel."""
    from onnx import numpy_helper

    nodes, known = readers(graph, tensor), constants(graph)
    if [node.op_type for node in nodes] != ["Conv"] or nodes[0].input[1] not in known:
        return False
    (node,) = nodes
    weights = numpy_helper.to_array(known[node.input[1]])
    if attribute(node, "group", 1) != 1 or weights.shape[1] != channels:
        return False
    changed = weights[:, ::-1] if channels == 3 else weights * np.array(LUMA, weights.dtype).reshape(1, 3, 1, 1)
    node.input[1] = add_constant(graph, f"{node.input[1]}/rgb", np.ascontiguousarray(changed))
    return True


def _reads_only(graph: Any, tensor: str, op_type: str, **attributes: Any) -> bool:
    nodes = readers(graph, tensor)
    return [node.op_type for node in nodes] == [op_type] and all(
        attribute(nodes[0], key) == value for key, value in attributes.items()
    )


def _set_input(graph: Any, name: str, kind: int, shape: list[Any]) -> None:
    from onnx import helper

    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(name, kind, shape))


def _add_constants(graph: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        add_constant(graph, name, np.asarray(value))


def _lead(graph: Any, source: str, target: str, steps: list[tuple[str, list[str], dict[str, Any]]]) -> None:
    """Put `steps`, each an operator with its constants and attributes, from `source` to `target` before all nodes."""
    from onnx import helper

    if not steps:
        rename(graph, target, source)
    for place, (op_type, numbers, attributes) in enumerate(steps):
        output = target if place == len(steps) - 1 else f"{source}.{op_type.lower()}"
        node = helper.make_node(op_type, [source, *numbers], [output], f"input.{op_type.lower()}", **attributes)
        graph.node.insert(place, node)
        source = output

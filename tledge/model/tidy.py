"""Take out of a joined graph what computes nothing, and write the shapes of its tensors into it.

Networks are cleaned where they are converted (`backbones/passes`): batch normalisation is folded, transposes and
reshapes that cancel are gone. What is left comes of joining, quantizing and halving: Identity nodes, equal constants
(a third of those of an int8 graph), and shapes that are no longer true. Two well-kept optimisers were tried on graphs
of eleven backbones in three precisions. onnx-ir removes the same and no more, and brings 85 MB of sympy; what
onnxruntime saves at its basic level is made for its own CPU kernels: 54 casts more in an fp16 MobileNetV2,
dequantization twice over in int8, and ten operator domains that the graph does not use.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tledge.backbones.from_onnx.graph import lift_constants
from tledge.backbones.passes.unread import drop_unread

if TYPE_CHECKING:
    import onnx

_PASSING = ("Identity", "Dropout")  # at inference they hand on what they get


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` without idle nodes, unread nodes and constants, and equal constants, and with inferred shapes.

    It gives bit for bit what it gave before. The graph must hold no graphs within; `model` itself is used up.
    """
    from onnx import shape_inference

    graph = model.graph
    lift_constants(graph)
    _drop_passing(graph)
    _merge_constants(graph)
    drop_unread(graph)
    del graph.value_info[:]  # of the parts; those of a quantized part were of the float graph
    return shape_inference.infer_shapes(model, data_prop=True)


def _drop_passing(graph: Any) -> None:
    results = {value.name for value in graph.output}
    names: dict[str, str] = {}
    for node in list(graph.node):
        node.input[:] = [names.get(name, name) for name in node.input]
        if node.op_type in _PASSING and results.isdisjoint(node.output) and not any(node.output[1:]):
            names[node.output[0]] = node.input[0]
            graph.node.remove(node)


def _merge_constants(graph: Any) -> None:
    first: dict[tuple[Any, ...], str] = {}
    names: dict[str, str] = {}
    for each in graph.initializer:
        name, each.name = each.name, ""  # all but its name
        names[name] = first.setdefault(_digest(each), name)
        each.name = name
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _digest(tensor: Any) -> tuple[Any, ...]:
    return tensor.data_type, tuple(tensor.dims), hashlib.sha256(tensor.SerializeToString(deterministic=True)).digest()

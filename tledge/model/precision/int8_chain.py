"""Which nodes of an int8 graph are computed in float all the same.

onnxruntime runs a node in int8 where it finds a kernel for DequantizeLinear → node → QuantizeLinear. Elsewhere values
are widened to float, computed and rounded again: right, but slow. Only its own optimised graph tells, so that is read.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tledge import engine
from tledge.schema import FloatNode

# The rest moves with what surrounds it: a normalisation or an average at either end belongs to no chain.
_HEAVY = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")
_NO_VALUES = ("Shape", "Size", "Constant")


def float_nodes(model: bytes | Path, asked: Collection[str] = ()) -> tuple[FloatNode, ...]:
    """Return the nodes of the int8 graph `model` that onnxruntime's CPU provider computes in float.

    They are the layers (convolutions and products of matrices), wherever they stand, and every other node between two
    int8 layers. `asked` are names of nodes that were left in float deliberately. Raises ModelError when the graph does
    not load.
    """
    import onnx

    graph = onnx.load_from_string(engine.optimised(model)).graph
    floats = _float_tensors(graph)
    behind, ahead = _reached(graph.node), _reached(graph.node[::-1], backwards=True)
    return tuple(
        FloatNode(node.name or node.output[0], node.op_type, node.name in asked)
        for node in graph.node
        if node.op_type not in (*_ROUNDING, *_NO_VALUES) and floats.intersection(node.input)
        if node.op_type in _HEAVY or (behind.intersection(node.input) and ahead.intersection(node.output))
    )


def _float_tensors(graph: Any) -> set[str]:
    """Return the float activations: what DequantizeLinear or Cast gives, and what is computed from that."""
    found: set[str] = set()
    constants = {each.name for each in graph.initializer}
    for node in graph.node:
        widened = (node.op_type == "DequantizeLinear" and node.input[0] not in constants) or _casts_to_float(node)
        computed = node.op_type not in ("QuantizeLinear", *_NO_VALUES) and found.intersection(node.input)
        if (widened or computed) and not _is_int8(node):
            found.update(node.output)
    return found


def _casts_to_float(node: Any) -> bool:
    from onnx import TensorProto

    return node.op_type == "Cast" and any(each.name == "to" and each.i == TensorProto.FLOAT for each in node.attribute)


def _is_int8(node: Any) -> bool:
    return node.op_type.startswith("QLinear") or node.op_type in ("QGemm", "ConvInteger", "MatMulInteger")


def _reached(nodes: Any, *, backwards: bool = False) -> set[str]:
    """Return the tensors that come after an int8 layer, or before one, with `nodes` in the order of the walk."""
    found: set[str] = set()
    for node in nodes:
        start, end = (node.output, node.input) if backwards else (node.input, node.output)
        if _is_int8(node) or found.intersection(start):
            found.update(end)
    return found

"""Judge a TensorFlow graph by its operators: plain arithmetic passes, all else is refused.

Operators can read and write files, open connections, call Python and start other graphs. Functions are looked into, and
those that the wanted output does not reach (saving, restoring, training) are left out.
"""

from __future__ import annotations

from typing import Any

from tledge.errors import BackboneError

TRUST = "Save the network as a .keras file, or convert it to ONNX."
_CALLS = frozenset({"StatefulPartitionedCall", "PartitionedCall"})
_ARITHMETIC = """
Placeholder Const Identity IdentityN NoOp VarHandleOp ReadVariableOp StopGradient PreventGradient Cast
Add AddV2 AddN Sub Mul Div RealDiv DivNoNan FloorDiv FloorMod Maximum Minimum Pow Square SquaredDifference Sqrt
Rsqrt Exp Log Log1p Neg Abs Sign Floor Ceil Round Reciprocal Inv Erf Erfc Sin Cos ClipByValue
MatMul BatchMatMulV2 BatchMatMulV3 Einsum Conv2D DepthwiseConv2dNative Conv3D Conv2DBackpropInput BiasAdd
FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Relu Relu6 LeakyRelu Elu Selu Sigmoid Tanh Softplus Softsign
Softmax LogSoftmax MaxPool MaxPoolV2 AvgPool MaxPool3D AvgPool3D Mean Sum Max Min Prod
Reshape Squeeze ExpandDims Transpose Pad PadV2 MirrorPad ConcatV2 Pack Unpack Split SplitV Slice StridedSlice
Gather GatherV2 Tile BroadcastTo Shape ShapeN Rank Size Fill Range ZerosLike OnesLike Select SelectV2
Equal NotEqual Less LessEqual Greater GreaterEqual LogicalAnd LogicalOr LogicalNot
ResizeBilinear ResizeNearestNeighbor SpaceToBatchND BatchToSpaceND DepthToSpace SpaceToDepth
"""
_ALLOWED = _CALLS | frozenset(_ARITHMETIC.split())


def judged(meta: Any, returned: str) -> Any:
    """Return the part of a MetaGraphDef's graph that `returned` needs, with the functions that it calls and no others.

    Raises BackboneError, naming the node, for an operator outside the table.
    """
    from tensorflow.core.framework import graph_pb2

    nodes = {node.name: node for node in meta.graph_def.node}
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    graph = graph_pb2.GraphDef(versions=meta.graph_def.versions)
    graph.node.extend(_needed(nodes, node_name(returned)))
    pending, called = [graph.node], set()
    while pending:
        for node in pending.pop():
            node.device = ""
            if node.op not in _ALLOWED:
                raise BackboneError(f"{node.name} is a {node.op}, an operator that no network needs.", TRUST)
            for name in functions_of(node) - called:
                if name not in functions:
                    raise BackboneError(f"{node.name} calls {name!r}, which is not in the file.", TRUST)
                called.add(name)
                graph.library.function.append(functions[name])
                pending.append(graph.library.function[-1].node_def)
    return graph


def _needed(nodes: dict[str, Any], last: str) -> list[Any]:
    found, pending = {}, [last]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        if name not in nodes:
            raise BackboneError(f"The graph reads {name!r}, which is not there.", TRUST)
        found[name] = nodes[name]
        pending += [node_name(each) for each in nodes[name].input]
    return [node for node in nodes.values() if node.name in found]


def functions_of(node: Any) -> set[str]:
    """Return the names of the functions that `node` calls or is given."""
    lists = [value.list.func for value in node.attr.values()]
    named = [value.func.name for value in node.attr.values() if value.HasField("func")]
    return {*named, *(each.name for each_list in lists for each in each_list)}


def node_name(tensor: str) -> str:
    """Return the name of the node that makes `tensor`."""
    return tensor.removeprefix("^").split(":")[0]

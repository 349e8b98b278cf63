"""From the tensor where a network was cut to `features` float32 [N, dimension]: maps and tokens are pooled."""

from __future__ import annotations

from typing import Any

import numpy as np

from tledge.backbones.from_onnx.graph import attribute, producers, varying
from tledge.errors import BackboneError
from tledge.schema import Pool

LARGEST_DIMENSION = 2**20
_CHANNEL_FIRST = {"Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "MaxPool", "AveragePool"}
_CHANNEL_LAST = {"MatMul", "LayerNormalization"}
_SUM_UP = {"avg": "GlobalAveragePool", "max": "GlobalMaxPool"}


def channels_last(graph: Any, tensor: str, rank: int) -> bool:
    """Tell whether `tensor` of `graph` has its channels in the last of its `rank` axes.

    After a convolution they are second until a Transpose moves them; tokens [N, tokens, channels] have them last.
    """
    makers, varies = producers(graph), varying(graph)
    while tensor in makers:
        node = makers[tensor]
        if node.op_type in _CHANNEL_FIRST | _CHANNEL_LAST:
            return node.op_type in _CHANNEL_LAST
        if node.op_type == "Transpose":
            order = attribute(node, "perm", [])
            return len(order) > 2 and order[-1] == 1
        tensor = next((name for name in node.input if name in varies), "")
    return rank == 3


def check_shape(shape: tuple[int, ...], count: int, pool: Pool, tensor: str, name: str) -> int:
    """Return how many features [`count`, …] = `shape` of `tensor` gives when it is pooled by `pool` (sizes beyond 2-D).

    Raises BackboneError when it has no row for each sample, or too many features; `name` is what to call the file.
    """
    if len(shape) < 2 or shape[0] != count or 0 in shape:
        raise BackboneError(
            f"{tensor!r} of {name} must have a row of numbers for each of {count} samples, but is {list(shape)}.",
            "Name another node with --feature-node.",
        )
    dimension = int(np.prod(shape[1:], dtype=np.int64))
    if pool == "flatten" and dimension > LARGEST_DIMENSION:
        raise BackboneError(
            f"{tensor!r} of {name} has {dimension} numbers, more than {LARGEST_DIMENSION}.", "Take --pool avg."
        )
    return dimension


def pooled(values: np.ndarray, pool: Pool, last: bool) -> np.ndarray:
    """Return `values` [N, …] as [N, dimension], in NumPy what `give_features` does in the graph."""
    if values.ndim == 2 or pool == "flatten":
        return values.reshape(len(values), -1)
    values = np.moveaxis(values, -1, 1) if last else values
    axes = tuple(range(2, values.ndim))
    return values.mean(axes) if pool == "avg" else values.max(axes)


def give_features(graph: Any, tensor: str, rank: int, pool: Pool, last: bool, dimension: int) -> None:
    """Let `graph` give `features` float32 [N, `dimension`] of its tensor [N, …] of `rank`, in place."""
    from onnx import TensorProto, helper

    if rank == 2:
        producers(graph)[tensor].output[:] = [
            "features" if name == tensor else name for name in producers(graph)[tensor].output
        ]
    else:
        if last and pool != "flatten":
            order = [0, rank - 1, *range(1, rank - 1)]
            graph.node.append(helper.make_node("Transpose", [tensor], ["channels"], "channels", perm=order))
            tensor = "channels"
        if pool != "flatten":
            graph.node.append(helper.make_node(_SUM_UP[pool], [tensor], ["pool"], "pool"))
            tensor = "pool"
        graph.node.append(helper.make_node("Flatten", [tensor], ["features"], "flatten", axis=1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", dimension]))

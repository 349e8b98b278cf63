"""Turn a half-precision network into one of float32, in which CPUs compute and quantization starts."""

from __future__ import annotations

from typing import Any

import numpy as np


def widen(model: Any) -> bool:
    """Make every float16 number, cast and input of `model` float32 in place; tell whether there was any."""
    from onnx import TensorProto, numpy_helper

    graph, found = model.graph, False
    for value in graph.input:
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type, found = TensorProto.FLOAT, True
    attributes = [(node, each) for node in graph.node for each in node.attribute]
    for tensor in (*graph.initializer, *(each.t for _, each in attributes if each.HasField("t"))):
        if tensor.data_type == TensorProto.FLOAT16:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
            found = True
    for node, each in attributes:
        if (node.op_type, each.name, each.i) == ("Cast", "to", TensorProto.FLOAT16):
            each.i, found = TensorProto.FLOAT, True
    return found

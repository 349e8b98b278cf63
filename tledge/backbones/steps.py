"""Nodes and constants of an ONNX graph in the making."""

from __future__ import annotations

from typing import Any

import numpy as np

OPSET, IR_VERSION = 17, 8  # read by onnxruntime 1.12 and later


class Steps:
    """A list of nodes, each named after the one tensor that it gives, and of the constants that they read."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: Any) -> str:
        """Add the array `values` as `name`; floats as float32, whole numbers as int64. Returns `name`."""
        from onnx import numpy_helper

        array = np.asarray(values)
        kind = np.int64 if array.dtype.kind == "i" else np.float32
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array, kind).reshape(array.shape), name))
        return name

    def add(self, op_type: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add the node `name`, an `op_type` that reads `inputs`. Returns `name`, which its output is called too."""
        from onnx import helper

        self.nodes.append(helper.make_node(op_type, inputs, [name], name, **attributes))
        return name

    def model(self, name: str, given: tuple[str, list[Any]], made: tuple[str, list[Any]]) -> Any:
        """Return the checked onnx.ModelProto from `given` to `made`, each a float32 tensor's name and shape."""
        import onnx
        from onnx import TensorProto, helper

        ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, shape) for each, shape in (given, made)]
        graph = helper.make_graph(self.nodes, name, ends[:1], ends[1:], self.constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="tledge")
        onnx.checker.check_model(model, full_check=True)
        return model

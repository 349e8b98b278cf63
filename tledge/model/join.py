"""Backbone + Head → one ONNX graph: `image` uint8 in, `probabilities` float32 out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tledge.schema import Backbone, LinearHead

if TYPE_CHECKING:
    import onnx


def join(backbone: Backbone, head: LinearHead) -> onnx.ModelProto:
    """Return the model: the backbone's graph with `head` as Gemm and Softmax behind its `features`.

    `image` uint8 [N, height, width, 3] RGB → `probabilities` float32 [N, classes].
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(backbone.path)
    graph = model.graph
    graph.name = "tledge"
    (features,) = graph.output
    batch = features.type.tensor_type.shape.dim[0].dim_param or "N"
    graph.initializer.append(numpy_helper.from_array(head.weights, "head/weights"))
    graph.initializer.append(numpy_helper.from_array(head.bias, "head/bias"))
    operands = [features.name, "head/weights", "head/bias"]
    graph.node.append(helper.make_node("Gemm", operands, ["head/logits"], "head/gemm"))
    graph.node.append(helper.make_node("Softmax", ["head/logits"], ["probabilities"], "head/softmax", axis=-1))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, len(head.bias)]))
    del model.metadata_props[:]
    model.producer_name = "tledge"
    onnx.checker.check_model(model, full_check=True)
    return model

"""The form that every head's graph has: `features` float32 [N, d] → `probabilities` float32 [N, classes]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 17, 8  # as the backbones'
ML_OPSET = 3


def finish(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    dimension: int,
    classes: int,
    *,
    ml: bool = False,
) -> onnx.ModelProto:
    """Return the checked model of `nodes` and `constants`; with `ml` it may use the operators of ai.onnx.ml."""
    import onnx
    from onnx import TensorProto, helper

    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", dimension])
    probabilities = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", classes])
    graph = helper.make_graph(nodes, "head", [features], [probabilities], constants)
    opsets = [helper.make_opsetid("", OPSET)] + ([helper.make_opsetid("ai.onnx.ml", ML_OPSET)] if ml else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tledge")
    onnx.checker.check_model(model, full_check=True)
    return model

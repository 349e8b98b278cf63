"""Backbone + Head → one ONNX graph: the backbone's input in, `probabilities` float32 out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tledge.backbones.from_onnx.opset import version
from tledge.modalities import KEPT_METADATA
from tledge.model.targets import raise_opset
from tledge.schema import Backbone

if TYPE_CHECKING:
    import onnx

_HEAD = "head/"


def join(backbone: Backbone, head: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model: the backbone's graph with the graph of `head` behind its `features`.

    `head` takes `features` float32 [N, dimension] and gives `probabilities` float32 [N, classes]; all it names within
    stands under "head/" in the model. The newer of two operator sets holds for both: the other part is rewritten for
    it. Raises ModelError when that cannot be.
    """
    import onnx
    from onnx import compose

    model = onnx.load(backbone.path)
    opset = max(version(model), version(head))
    model, head = raise_opset(model, opset), raise_opset(head, opset)
    (features,), (inner,) = model.graph.output, head.graph.input
    tail = compose.add_prefix(head, _HEAD)
    for node in tail.graph.node:
        node.input[:] = [features.name if name == _HEAD + inner.name else name for name in node.input]
        node.output[:] = ["probabilities" if name == _HEAD + "probabilities" else name for name in node.output]
    _agree_on_operators(model, tail)
    model.graph.name = "tledge"
    model.graph.node.extend(tail.graph.node)
    model.graph.initializer.extend(tail.graph.initializer)
    batch = features.type.tensor_type.shape.dim[0].dim_param or "N"
    classes = tail.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    del model.graph.output[:]
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, [batch, classes])
    )
    kept = [each for each in model.metadata_props if each.key in KEPT_METADATA]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.producer_name = "tledge"
    onnx.checker.check_model(model, full_check=True)
    return model


def _agree_on_operators(model: onnx.ModelProto, tail: onnx.ModelProto) -> None:
    versions = {each.domain: each.version for each in model.opset_import}
    for each in tail.opset_import:
        versions[each.domain] = max(each.version, versions.get(each.domain, 0))
    del model.opset_import[:]
    for domain, number in versions.items():
        model.opset_import.add(domain=domain, version=number)

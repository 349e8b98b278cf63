"""ONNX graphs in the making: nodes and constants added one by one, then a checked model of the versions we write."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

OPSET, IR_VERSION = 17, 8  # read by onnxruntime 1.12 and later, hence by JetPack's older builds
ML_OPSET = 3  # of ai.onnx.ml
# A tensor at a graph's end: its name, its NumPy dtype, and its shape, where a name stands for any length.
End = tuple[str, type, Sequence[int | str]]


class GraphWriter:
    """A graph that is being written: its nodes in order, and its constants by name."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self._constants: dict[str, Any] = {}

    @property
    def constants(self) -> list[Any]:
        """The constants so far, as onnx.TensorProto."""
        return list(self._constants.values())

    def constant(self, name: str, values: Any, kind: type = np.float32) -> str:
        """Add `values` as a constant of `kind`, unless there is one called `name`. Returns `name`."""
        from onnx import numpy_helper

        if name not in self._constants:
            array = np.array(values, kind, order="C", copy=None)
            self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def node(self, op_type: str, inputs: Sequence[str], name: str, outputs: Sequence[str] = (), **given: Any) -> str:
        """Add the node `name`, whose output, unless `outputs` are named, is called so too. Returns the first output."""
        from onnx import helper

        outputs = list(outputs) or [name]
        self.nodes.append(helper.make_node(op_type, list(inputs), outputs, name, **given))
        return outputs[0]

    def model(
        self, name: str, inputs: Sequence[End], outputs: Sequence[End], metadata: Mapping[str, str] | None = None
    ) -> Any:
        """Return the checked onnx.ModelProto from `inputs` to `outputs`, with `metadata` in it."""
        from onnx import helper

        model = assemble(name, self.nodes, self.constants, inputs, outputs)
        if metadata:
            helper.set_model_props(model, dict(metadata))
        return model


def assemble(
    name: str,
    nodes: Iterable[Any],
    constants: Iterable[Any],
    inputs: Sequence[End],
    outputs: Sequence[End],
    *,
    ml: bool = False,
) -> Any:
    """Return the checked onnx.ModelProto of `nodes` and `constants`; with `ml` it may use operators of ai.onnx.ml."""
    import onnx
    from onnx import helper

    graph = helper.make_graph(list(nodes), name, ends(inputs), ends(outputs), list(constants))
    opsets = [helper.make_opsetid("", OPSET)] + ([helper.make_opsetid("ai.onnx.ml", ML_OPSET)] if ml else [])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tledge")
    onnx.checker.check_model(model, full_check=True)
    return model


def ends(found: Sequence[End]) -> list[Any]:
    """Return the tensors `found` as onnx.ValueInfoProto."""
    from onnx import helper

    return [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), list(shape))
        for name, kind, shape in found
    ]

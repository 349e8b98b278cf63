"""A backbone's graph in half precision: weights and products in float16, for GPUs and for files of half the size.

What half precision spoils stays in float32: pixels until they are normalised (whole numbers up to 255 less a mean), and
averages over many positions. Features come out in float32.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from tledge.schema import Backbone

REVISION = 2  # part of the key of features: count it up when the same backbone would become another graph
LARGEST = 65504.0  # the largest finite float16
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_AVERAGES = ("GlobalAveragePool", "ReduceMean", "ReduceSum", "Softmax", "LayerNormalization", "InstanceNormalization")


def applies(backbone: Backbone) -> bool:
    """Return whether `backbone` gains from half precision: one of floats, that looks at pictures."""
    return backbone.precision == "fp32" and backbone.preprocess.kind == "image"


def load(path: Path) -> Any:
    """Return the onnx.ModelProto in the file `path` with a name for every node; needs onnx."""
    import onnx

    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node{number}"
    return model


def in_half(path: Path, keep: Collection[str] = ()) -> bytes:
    """Return the ONNX graph in the file `path` with weights and products in float16, serialized; needs onnx.

    The nodes named in `keep`, as `load` names them, stay in float32 too.
    """
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers import float16

    model = load(path)
    converted = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *_AVERAGES],
        node_block_list=[*spared(model), *keep],
    )
    _drop_equal_casts(converted.graph)
    _drop_round_trips(converted.graph)
    ONNXModel(converted).topological_sort()  # the casts stand at the end
    return converted.SerializeToString(deterministic=True)


def spared(model: Any) -> list[str]:
    """Return the names of the nodes of `model` that work on pixels or samples: from the input to the first products."""
    from onnx import TensorProto

    first, found = model.graph.input[0], []
    # Ids of tokens are looked up.
    pixels = set() if first.type.tensor_type.elem_type == TensorProto.INT64 else {first.name}
    for node in model.graph.node:  # in the order in which they are computed
        if node.op_type not in _PRODUCTS and pixels.intersection(node.input):
            found.append(node.name)
            pixels.update(node.output)
    return found + [node.name for node in model.graph.node if node.op_type in _AVERAGES]


def _drop_equal_casts(graph: Any) -> None:
    """Keep one of the casts of a tensor: the converter makes one for each of its readers, under one name."""
    for entries, name_of in ((graph.node, lambda node: node.output[0]), (graph.value_info, lambda value: value.name)):
        known: set[str] = set()
        for entry in list(entries):
            if name_of(entry) in known:
                entries.remove(entry)
            known.add(name_of(entry))


def _drop_round_trips(graph: Any) -> None:
    """Let what one float32 node hands another stay so: the converter has it cast to float16 and back in between."""
    from onnx import TensorProto

    def is_cast(node: Any, to: int) -> bool:
        return node.op_type == "Cast" and node.attribute[0].i == to

    values = (*graph.input, *graph.value_info)
    floats = {each.name for each in values if each.type.tensor_type.elem_type == TensorProto.FLOAT}
    casts = [node for node in graph.node if is_cast(node, TensorProto.FLOAT16) and node.input[0] in floats]
    narrowed = {node.output[0]: node.input[0] for node in casts}
    for node in graph.node:
        if is_cast(node, TensorProto.FLOAT) and node.input[0] in narrowed:
            source = narrowed[node.input[0]]
            del node.attribute[:]
            node.op_type, node.input[0] = "Identity", source
    used = {name for node in graph.node for name in node.input}
    for node in casts:
        if node.output[0] not in used:
            graph.node.remove(node)

"""A backbone's graph in half precision, for GPUs: weights and products in float16.

What half precision spoils stays in float32: pixels until they are normalised (whole numbers up to 255 less a mean), and
averages over many positions. Features come out in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tledge.schema import Backbone

REVISION = 1  # part of the key of features: count it up when the same backbone would become another graph
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_AVERAGES = ("GlobalAveragePool", "ReduceMean", "ReduceSum", "Softmax", "LayerNormalization", "InstanceNormalization")


def applies(backbone: Backbone) -> bool:
    """Return whether `backbone` gains from half precision: one of floats, that looks at pictures."""
    return backbone.precision == "fp32" and backbone.preprocess.kind == "image"


def in_half(path: Path) -> bytes:
    """Return the ONNX graph in the file `path` with weights and products in float16, serialized; needs onnx."""
    import onnx
    from onnxruntime.transformers import float16

    model = onnx.load(path)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node{number}"
    converted = float16.convert_float_to_float16(
        model,
        keep_io_types=True,
        op_block_list=[*float16.DEFAULT_OP_BLOCK_LIST, *_AVERAGES],
        node_block_list=_before_products(model.graph),
    )
    return converted.SerializeToString()


def _before_products(graph: Any) -> list[str]:
    """Return the names of the nodes that work on pixels: all that depend on the input, up to the first products."""
    pixels = {graph.input[0].name}
    found = []
    for node in graph.node:  # in the order in which they are computed
        if node.op_type not in _PRODUCTS and pixels.intersection(node.input):
            found.append(node.name)
            pixels.update(node.output)
    return found

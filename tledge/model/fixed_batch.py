"""A graph for batches of one size: some compilers, and CUDA graphs, want every shape to be a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def fix_batch(model: onnx.ModelProto, batch: int) -> None:
    """Let the input and the outputs of `model` be of `batch` samples, in place; shapes within follow by inference."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].Clear()
        value.type.tensor_type.shape.dim[0].dim_value = batch

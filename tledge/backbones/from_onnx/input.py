"""What a network of the user's own takes: pictures or vectors, their layout, and what it leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tledge.backbones.from_onnx.graph import attribute, constants, readers
from tledge.errors import BackboneError


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """What a network takes: pictures of `channels` 1 or 3, or vectors where `channels` is 0; None where it is open.

    `last` tells that channels stand in the last axis. `takes_bytes`: uint8 pixels, which it normalises itself.
    """

    name: str
    batch: int | None
    channels: int
    last: bool
    height: int | None
    width: int | None
    takes_bytes: bool

    def shape(self, batch: int, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of its input for `batch` pictures; of vectors, `width` is the length."""
        if not self.channels:
            return (batch, width)
        if self.last:
            return (batch, height, width, self.channels)
        return (batch, self.channels, height, width)


def read_input(model: Any, name: str) -> NetworkInput:
    """Return what `model`, cut and with constants lifted, takes. Raises BackboneError when it is no picture or vector.

    `name` is what to call the file.
    """
    from onnx import TensorProto

    if len(model.graph.input) != 1:
        found = ", ".join(value.name for value in model.graph.input) or "none"
        raise BackboneError(
            f"{name} must take pictures or vectors as its one input, but its inputs are: {found}.",
            "Export the part that takes the picture, or cut it off from the rest with --feature-node.",
        )
    (value,) = model.graph.input
    known = value.type.tensor_type
    takes_bytes = known.elem_type == TensorProto.UINT8
    if not takes_bytes and known.elem_type not in (TensorProto.FLOAT, TensorProto.FLOAT16):
        kinds = {number: text.lower() for text, number in TensorProto.DataType.items()}
        kind = kinds.get(known.elem_type, "unknown") if known.elem_type else "no tensor"
        raise BackboneError(
            f"The input {value.name!r} of {name} must be float32, float16 or uint8, but is {kind}.",
            "Export it with a float32 input.",
        )
    dims = [dim.dim_value if dim.dim_value > 0 else None for dim in known.shape.dim]
    if len(dims) == 4:
        return _picture(model.graph, value.name, dims, takes_bytes, name)
    if len(dims) == 2 and not takes_bytes:
        return NetworkInput(value.name, dims[0], 0, True, 1, dims[1] or _length(model.graph, value.name, name), False)
    raise BackboneError(
        f"The input {value.name!r} of {name} must be pictures [N, C, H, W] or [N, H, W, C], or vectors [N, length], "
        f"but is {[dim or '?' for dim in dims]}.",
        "Export it with such an input.",
    )


def _picture(graph: Any, name: str, dims: list[int | None], takes_bytes: bool, file: str) -> NetworkInput:
    last = _channels_last(graph, name, dims)
    channels = dims[3] if last else dims[1]
    channels = channels or _channels_of_first(graph, name) or 3
    if channels not in (1, 3):
        raise BackboneError(
            f"The input {name!r} of {file} must have 1 or 3 channels, but has {channels}: {[d or '?' for d in dims]}.",
            "Only networks for grey or colour pictures can be used.",
        )
    if takes_bytes and channels == 1:
        raise BackboneError(f"{file} takes grey pictures as bytes, which is not supported.", "Let it take float32.")
    height, width = dims[1:3] if last else dims[2:4]
    return NetworkInput(name, dims[0], channels, last, height, width, takes_bytes)


def _channels_last(graph: Any, name: str, dims: list[int | None]) -> bool:
    first, last = dims[1] in (1, 3), dims[3] in (1, 3)
    if first != last:
        return last
    # Both could be, or neither is known: a convolution reads channels first, and whatever wants them so transposes.
    node = (readers(graph, name) or [None])[0]
    while node is not None and node.op_type not in ("Conv", "Transpose"):
        node = (readers(graph, node.output[0]) or [None])[0]
    return node is not None and node.op_type == "Transpose"


def _channels_of_first(graph: Any, name: str) -> int | None:
    known = constants(graph)
    widths = [known[node.input[1]].dims[1] for node in readers(graph, name)
              if node.op_type == "Conv" and node.input[1] in known]  # fmt: skip
    return widths[0] if widths else None


def _length(graph: Any, name: str, file: str) -> int:
    known = constants(graph)
    for node in readers(graph, name):
        if node.op_type in ("Gemm", "MatMul") and node.input[0] == name and node.input[1] in known:
            return known[node.input[1]].dims[1 if attribute(node, "transB", 0) else 0]
    raise BackboneError(f"{file} does not say how long the vectors are that it takes.", "Export it with that length.")

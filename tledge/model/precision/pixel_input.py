"""The uint8 pixels are the first layer's quantized input, where normalisation is one affine map of the pixel.

(pixel − mean) / std is what DequantizeLinear computes with scale 1 / std and zero point mean. When mean is a whole
number in 0..255 and all channels agree, no rounding is lost by using the pixels as they are: no cast, no
subtraction, no quantization.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tledge.backbones.passes.unread import drop_unread
from tledge.schema import InputSpec, PreprocessSpec

_NORMALISATION = ("Cast", "Sub", "Mul")


def overrides(model: Any, spec: InputSpec, left: Collection[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Return onnxruntime's quantization override for the normalised pixels of `model`; none where it does not apply.

    Nor does it where the first layer is among the nodes `left` in float, which reads normalised pixels.
    """
    nodes = _normalisation(model, "Conv") if isinstance(spec, PreprocessSpec) else None
    if nodes is None or nodes[-1].name in left or len(set(spec.mean)) > 1 or len(set(spec.std)) > 1:
        return {}
    if not spec.mean[0].is_integer() or not 0 <= spec.mean[0] <= 255:
        return {}
    scale, zero_point = np.float32(1 / spec.std[0]), np.uint8(spec.mean[0])
    return {nodes[-1].input[0]: [{"scale": np.array(scale), "zero_point": np.array(zero_point)}]}


def normalisation(model: Any) -> list[str]:
    """Return the names of the nodes that normalise the input of `model`, which is what they stay float for."""
    name, found = model.graph.input[0].name, []
    while len(readers := [node for node in model.graph.node if name in node.input]) == 1:
        if readers[0].op_type not in ("Transpose", *_NORMALISATION):
            break
        found.append(readers[0].name)
        name = readers[0].output[0]
    return found


def widen(model: Any, spec: InputSpec) -> None:
    """Repeat the constants of a normalisation per channel along the width of the pictures, in place.

    In an int8 graph onnxruntime puts channels last. Three numbers against a whole picture are then three at a time,
    which took 0.6 of the 3.5 ms of a SqueezeNet; a whole row of them is one long run.
    """
    from onnx import numpy_helper

    if not isinstance(spec, PreprocessSpec):
        return
    names = set(normalisation(model))
    read = {name for node in model.graph.node if node.name in names for name in node.input}
    for constant in [each for each in model.graph.initializer if each.name in read]:
        values = numpy_helper.to_array(constant)
        if values.shape[-3:] == (values.size, 1, 1) and values.size > 1:
            row = np.repeat(values, spec.width, axis=-1)
            constant.CopyFrom(numpy_helper.from_array(row, constant.name))


def use_pixels(model: Any) -> None:
    """Feed the bytes of the quantized `model` straight to the DequantizeLinear of its normalised pixels, in place."""
    nodes = _normalisation(model, "QuantizeLinear")
    pixels, quantized = nodes[0].input[0], nodes[-1].output[0]
    for node in model.graph.node:
        if node.input[0] == quantized:
            node.input[0] = pixels
    drop_unread(model.graph)


def _normalisation(model: Any, reader: str) -> list[Any] | None:
    """Return the Cast, Sub and Mul that normalise the transposed input, and the one node that reads it, a `reader`."""
    name, found = model.graph.input[0].name, []
    for op_type in ("Transpose", *_NORMALISATION, reader):
        readers = [node for node in model.graph.node if name in node.input]
        if len(readers) != 1 or readers[0].op_type != op_type:
            return None
        found.append(readers[0])
        name = readers[0].output[0]
    return found[1:]

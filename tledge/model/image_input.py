"""Pictures of any size into the graph: what `modalities/image.py` does to a decoded picture, in plain ONNX operators.

Resize with antialiasing (operator set 18) was taken into onnxruntime from the very code that our kernels follow,
Pillow's: fixed-point weights of 22 bits, columns before rows, bytes in between. It is told to leave out what lies
beyond the edges (exclude_outside), as Pillow does. What differs is told by the export: weights from single-precision
positions, one grey level here and there; a picture that shrinks much more in height than in width, where ours does rows
first; and a crop, which begins and ends at whole pixels here.

It resizes channels first, and all four sizes are told: onnxruntime's kernel for CUDA long knew no other order, and
where a linear Resize names its axes, onnxruntime 1.17 to 1.31 fail to move a Transpose through it.
Source: ONNX operators, Resize-18; microsoft/onnxruntime pull requests 13890 (CPU), 19595 and 25265 (CUDA).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tledge.backbones.from_onnx.graph import rename
from tledge.model.targets import raise_opset
from tledge.reference import PAD_GREY
from tledge.schema import PreprocessSpec

if TYPE_CHECKING:
    import onnx

OPSET = 18
_PREFIX = "resize/"
_CUBIC = {"mode": "cubic", "cubic_coeff_a": -0.5}
_AXES, _CHANNELS_FIRST = np.array([1, 2]), [0, 3, 1, 2]
_MODES: dict[str, dict[str, Any]] = {"bilinear": {"mode": "linear"}, "bicubic": _CUBIC}


def fitting(spec: PreprocessSpec) -> onnx.ModelProto:
    """Return the graph `image` uint8 [N, H, W, 3] → `pixels` uint8 [N, 3, height, width], fitted as `spec` says."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    size = [spec.height, spec.width]
    nodes, constants = _FITS[spec.fit](_MODES[spec.interpolation])
    constants = {"target": np.array(size), "channels": np.array([3]), **constants}
    if spec.fit == "pad":
        constants["shape"] = np.array([-1, 3, *size])
    graph = helper.make_graph(
        nodes,
        "resize",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 3, *size])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def take_any_size(model: onnx.ModelProto, spec: PreprocessSpec) -> onnx.ModelProto:
    """Return `model`, whose input is `image` at the size of `spec`, with an `image` of any size; `model` is used up."""
    from onnx import compose

    model = raise_opset(model, OPSET)
    front = compose.add_prefix(fitting(spec), _PREFIX)
    (given,), (made,) = front.graph.input, front.graph.output
    front.graph.node.extend(_joint(model.graph, made.name))
    for node in front.graph.node:
        node.input[:] = ["image" if name == given.name else name for name in node.input]
    given.name = "image"
    model.graph.input[0].CopyFrom(given)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*front.graph.node, *rest])
    model.graph.initializer.extend(front.graph.initializer)
    return model


def _joint(graph: Any, pixels: str) -> list[Any]:
    """Let `graph` read the channel-first `pixels` in place of its `image`; return what it takes in between."""
    readers = [node for node in graph.node if "image" in node.input]
    if [node.op_type for node in readers] == ["Transpose"] and list(readers[0].attribute[0].ints) == _CHANNELS_FIRST:
        turned = readers[0].output[0]
        graph.node.remove(readers[0])
        rename(graph, turned, pixels)
        return []
    rename(graph, "image", f"{pixels} last")
    return [_node("Transpose", [pixels], f"{pixels} last", perm=[0, 2, 3, 1])]


# ── The three ways to fit ────────────────────────────────────────────────────────────────────────────────────────────
# Sizes are [height, width]; they are computed in double precision, as Python does in reference.py, so that both round
# alike.

_Part = tuple[list[Any], dict[str, np.ndarray]]


def _stretch(mode: dict[str, Any]) -> _Part:
    return _resize("image", "target", "pixels", mode), {}


def _crop(mode: dict[str, Any]) -> _Part:
    from onnx import TensorProto

    nodes = [
        *_zoom("ReduceMax"),
        _node("Div", ["wide target", "zoom"], "whole box"),
        _node("Min", ["size", "whole box"], "box"),
        _node("Sub", ["size", "box"], "rest"),
        _node("Mul", ["rest", "half"], "edge"),
        _node("Floor", ["edge"], "low edge"),
        _node("Sub", ["size", "low edge"], "high edge"),
        _node("Cast", ["low edge"], "starts", to=TensorProto.INT64),
        _node("Cast", ["high edge"], "ends", to=TensorProto.INT64),
        _node("Slice", ["image", "starts", "ends", "axes"], "cropped"),
        *_resize("cropped", "target", "pixels", mode),
    ]
    return nodes, {"half": np.array(0.5), "axes": _AXES}


def _pad(mode: dict[str, Any]) -> _Part:
    from onnx import TensorProto

    nodes = [
        *_zoom("ReduceMin"),
        _node("Mul", ["size", "zoom"], "fitted"),
        _node("Round", ["fitted"], "rounded"),
        _node("Max", ["rounded", "one"], "at least one"),
        _node("Min", ["at least one", "wide target"], "inner"),
        _node("Cast", ["inner"], "inner size", to=TensorProto.INT64),
        *_resize("image", "inner size", "inner pixels", mode),
        _node("Sub", ["target", "inner size"], "margins"),
        _node("Div", ["margins", "two"], "before"),
        _node("Sub", ["margins", "before"], "after"),
        _node("Concat", ["before", "after"], "pads", axis=0),
        _node("Pad", ["inner pixels", "pads", "grey", "last axes"], "padded"),
        _node("Reshape", ["padded", "shape"], "pixels"),  # says what its sizes are, which were computed
    ]
    constants = {"one": np.array(1.0), "two": np.array(2), "grey": np.array(PAD_GREY, np.uint8), "last axes": _AXES + 1}
    return nodes, constants


_FITS = {"stretch": _stretch, "crop": _crop, "pad": _pad}


def _zoom(choice: str) -> list[Any]:
    """Return what computes `size` and `wide target`, both float64 [2], and `zoom`, the `choice` of their quotients."""
    from onnx import TensorProto

    return [
        _node("Shape", ["image"], "lengths", start=1, end=3),
        _node("Cast", ["lengths"], "size", to=TensorProto.DOUBLE),
        _node("Cast", ["target"], "wide target", to=TensorProto.DOUBLE),
        _node("Div", ["wide target", "size"], "zooms"),
        _node(choice, ["zooms"], "zoom", keepdims=0),
    ]


def _resize(given: str, size: str, made: str, mode: dict[str, Any]) -> list[Any]:
    return [
        _node("Transpose", [given], "channels first", perm=_CHANNELS_FIRST),
        _node("Shape", [given], "count", start=0, end=1),
        _node("Concat", ["count", "channels", size], "sizes", axis=0),
        _node("Resize", ["channels first", "", "", "sizes"], made, antialias=1, exclude_outside=1, **mode),
    ]


def _node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(op_type, inputs, [output], output, **attributes)

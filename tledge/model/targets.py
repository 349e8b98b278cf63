"""What a model file is made for: which operator sets those read who will run it there.

A file is written in operator set 17 and IR version 8 wherever its operators have that form, whatever the target: every
reader below knows both, and nothing newer made a graph smaller or faster. Where one operator is newer (Gelu in a
network of the user's own, or Resize with antialiasing, which came with 18), the lowest set that has it is taken, and a
target whose readers do not know that set is refused.

Which set an onnxruntime knows: its docs/Versioning.md and the table of ONNX releases (onnx.helper.VERSION_TABLE).
1.12 is of ONNX 1.12 (set 17, IR 8), 1.14 of 1.13 (18, 8), 1.15 of 1.14 (19, 9), 1.18 to 1.20 of 1.16 (21, 10).
Which set TensorRT's parser knows: onnx-tensorrt, docs/operators.md of its releases: 17 in 8.5 (JetPack 5), 19 in 9.2,
24 in 10.15; what it does not take, onnxruntime runs on CUDA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tledge.backbones.from_onnx.opset import version
from tledge.errors import ModelError
from tledge.graph_writer import IR_VERSION, OPSET

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Target:
    """Where a model file will run. `readers` are the oldest that must read it, and `highest_opset` what they know.

    `opset` and `ir_version` are what is written unless an operator needs a newer set. `on_gpu` says that half precision
    pays there, `symmetric_int8` that int8 must go without zero points; `int8_note` is what to tell who asks for int8.
    """

    name: str
    readers: str
    highest_opset: int | None
    opset: int = OPSET
    ir_version: int = IR_VERSION
    on_gpu: bool = False
    symmetric_int8: bool = False
    int8_note: str = ""


_IN_FLOAT = (
    "onnxruntime's CUDA provider has no int8 convolutions and computes them in float: '--precision fp16' is faster "
    "there, and '--target tensorrt' runs in int8."
)
_FOR_TENSORRT = "int8 for TensorRT is symmetric. Processors compute such a file in float: it is slower there than fp32."


TARGETS = {
    each.name: each
    for each in (
        Target("any", "whoever reads it", None),  # not known, so nothing is refused
        Target("cpu", "onnxruntime 1.20", 21),  # the oldest that tledge[cpu] takes
        Target("cuda", "onnxruntime 1.20", 21, on_gpu=True, int8_note=_IN_FLOAT),
        # Of TensorRT 10.0 only the set of 9.2 is certain. 1.15 is the oldest with wheels that see an Orin's GPU.
        Target("tensorrt", "TensorRT 10", 19, on_gpu=True, symmetric_int8=True, int8_note=_FOR_TENSORRT),
        Target(
            "jetson", "onnxruntime 1.15 of JetPack 5.1", 19, on_gpu=True, symmetric_int8=True, int8_note=_FOR_TENSORRT
        ),
    )
}


def raise_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return `model` at operator set `opset`, or as it is where its own is as new.

    Raises ModelError when one of its operators has no such form.
    """
    import onnx
    from onnx import version_converter

    if version(model) >= opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError, version_converter.ConvertError, onnx.checker.ValidationError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"The graph has operator set {version(model)} and cannot be brought to {opset}: {reason}.",
            "Use another head or backbone.",
        ) from error


def check(model: onnx.ModelProto, target: Target) -> None:
    """Raise ModelError when the readers of `target` do not know the operator set of `model`."""
    found = version(model)
    if target.highest_opset is not None and found > target.highest_opset:
        raise ModelError(
            f"A file for the target {target.name} may need operator set {target.highest_opset} ({target.readers}), "
            f"this one needs {found}.",
            "Use '--target any' if what runs it is newer, or another backbone.",
        )

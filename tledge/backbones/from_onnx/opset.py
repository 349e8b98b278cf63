"""Bring a network to operator set 17, which onnxruntime reads from 1.12 on; a newer one stays where it must."""

from __future__ import annotations

from typing import Any

from tledge.backbones.from_onnx.graph import attribute, constants, keep
from tledge.errors import BackboneError
from tledge.graph_writer import IR_VERSION, OPSET


def settle_opset(model: Any, name: str) -> Any:
    """Return `model`, an onnx.ModelProto, at operator set 17; newer if one of its operators has no older form.

    Raises BackboneError when an older one cannot be brought up; `name` is what to call the file.
    """
    model.ir_version = IR_VERSION  # an older one would want weights among the inputs
    found = version(model)
    if found == OPSET:
        return model
    if found > OPSET:
        _drop_what_says_nothing(model.graph)
    converted = _convert(model)
    if isinstance(converted, Exception):
        if found > OPSET:
            return model
        raise BackboneError(
            f"{name} has operator set {found} and cannot be brought to {OPSET}: {_reason(converted)}.",
            f"Export it again with opset_version={OPSET}.",
        ) from converted
    return converted


def version(model: Any) -> int:
    """Return the version of the standard operators that `model` asks for."""
    return next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 1)


def settle_versions(model: Any) -> None:
    """State in `model` only the domains that its nodes use, and the oldest IR version that can hold it, in place."""
    used = {node.domain for node in model.graph.node} | {""}
    imports = {each.domain: each.version for each in model.opset_import if each.domain in used - {""}}
    imports[""] = version(model)
    del model.opset_import[:]
    for domain, number in sorted(imports.items()):
        model.opset_import.add(domain=domain, version=number)
    model.ir_version = IR_VERSION


def _drop_what_says_nothing(graph: Any) -> None:
    """Remove from the nodes of `graph` newer attributes that older operators do without, where they change nothing."""
    known = constants(graph)
    for node in graph.node:
        axes = known.get(node.input[1]) if len(node.input) > 1 else None
        silent = {"saturate"} if node.op_type == "Cast" else set()  # it is about eight-bit floats
        if node.op_type.startswith("Reduce") and (axes is not None or not attribute(node, "noop_with_empty_axes", 0)):
            silent = {"noop_with_empty_axes"}
        keep(node.attribute, lambda each, silent=silent: each.name not in silent)


def _convert(model: Any) -> Any:
    import onnx
    from onnx import version_converter

    try:
        converted = version_converter.convert_version(model, OPSET)
        onnx.checker.check_model(converted, full_check=True)
    except (
        RuntimeError,
        ValueError,
        version_converter.ConvertError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as error:
        return error
    return converted


def _reason(error: Exception) -> str:
    last = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return last.split("failed: ")[-1].rstrip(".")

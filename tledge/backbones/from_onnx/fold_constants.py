"""Compute once what is the same for every sample: weights that a file transposes, widens or puts together at run time.

A quantizer looks for weights among the constants, and would take those for activations. The engine that is going to
run the rest computes them, so no bit changes.
"""

from __future__ import annotations

from typing import Any

from tledge import engine
from tledge.backbones.from_onnx.graph import constants, keep, varying

_RANDOM = ("RandomNormal", "RandomUniform")
_MAY_GROW_BYTES = 1 << 20  # what is small as a rule and large as its result stays a rule


def fold_constants(model: Any, name: str) -> None:
    """Turn what nodes of `model` compute from constants alone into constants, in place; `name` is what to call it.

    Quantized weights stay as they are. So does all of it where the results would be much larger than what they come
    from. Raises ModelError when it cannot be computed.
    """
    from onnx import numpy_helper

    graph = model.graph
    fixed = _fixed(graph)
    made = {output for node in fixed for output in node.output}
    wanted = sorted(made & {each for node in graph.node if node not in fixed for each in node.input})
    if not wanted:
        return
    part = _part(model, fixed, wanted)
    session = engine.open_session(part.SerializeToString(), provider="cpu", name=name)
    results = session.run(wanted, {})
    if sum(each.nbytes for each in results) > part.ByteSize() + _MAY_GROW_BYTES:
        return
    graph.initializer.extend(numpy_helper.from_array(each, key) for key, each in zip(wanted, results, strict=True))
    keep(graph.node, lambda node: made.isdisjoint(node.output))


def _fixed(graph: Any) -> list[Any]:
    varies, fixed = varying(graph), []
    for node in graph.node:
        if node.op_type in ("DequantizeLinear", *_RANDOM) or not varies.isdisjoint((*node.input, *node.output)):
            varies.update(node.output)
        else:
            fixed.append(node)
    return fixed


def _part(model: Any, nodes: list[Any], wanted: list[str]) -> Any:
    """Return `nodes` of `model` with the constants that they read as a model of their own, which gives `wanted`."""
    from onnx import ModelProto, ValueInfoProto

    part = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    read, known = {each for node in nodes for each in node.input}, constants(model.graph)
    part.graph.name = "constants"
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(known[each] for each in sorted(read & known.keys()))
    part.graph.output.extend(ValueInfoProto(name=each) for each in wanted)
    return part

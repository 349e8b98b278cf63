"""Float graph × calibration pictures → what its activations take on, and the ranges that follow.

One pass, a few pictures at a time: the activations leave the graph as outputs, are counted, and are gone before the
next. Memory is that of one batch, however many there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from tledge import engine, machine
from tledge.errors import ModelError, TledgeError, did_you_mean
from tledge.model.precision.thresholds import METHODS, Observation, Range

_CLIPPING = ("Clip", "Relu")
# Between two runs the engine's threads would keep the cores busy with waiting, and those that count would stand still.
_TUNE = {"session.intra_op.allow_spinning": "0"}


class Calibration(NamedTuple):
    """What was seen: by tensor an observation, and the mean of each channel, float64 [channels], of some."""

    observations: dict[str, Observation]
    means: dict[str, np.ndarray]


def calibrate(
    model: Any, op_types: Collection[str], averaged: Iterable[str], batches: Iterable[dict[str, np.ndarray]]
) -> Calibration:
    """Observe every float activation that a node of `op_types` reads or gives, while `model` runs over `batches`.

    `model` is an onnx.ModelProto with inferred shapes. `averaged` are tensors [N, channels, …] whose means are wanted
    too. What a Clip or Relu alone reads is not observed: it vanishes into what comes out (see `choose_ranges`).
    Raises ModelError when an activation is not finite.
    """
    clipped = _clipped(model, op_types)
    names = [name for name in _activations(model, op_types) if name not in clipped]
    means = list(dict.fromkeys(averaged))
    if not names and not means:  # onnxruntime would take no names for all outputs
        return Calibration({}, {})
    session = engine.open_session(_probe(model, names, means), provider="cpu", name="The backbone", tune=_TUNE)
    observations, sums, count = {name: Observation() for name in names}, [0.0] * len(means), 0
    outputs = names + [f"{name}/mean" for name in means]
    with ThreadPoolExecutor(machine.cores(), thread_name_prefix="observe") as pool:
        for feed in batches:
            values = session.run(outputs, feed)
            list(pool.map(_add, names, observations.values(), values))
            rows = values[len(names) :]
            sums = [total + each.astype(np.float64).sum(axis=0).ravel() for total, each in zip(sums, rows, strict=True)]
            count += len(next(iter(feed.values())))
            del values, rows  # or they would stay until those of the next batch are there
    return Calibration(observations, {name: total / count for name, total in zip(means, sums, strict=True)})


def channel_reaches(
    model: Any, names: Sequence[str], batches: Iterable[dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Return the largest absolute value of each channel of the activations `names` [N, channels, …] over `batches`.

    Float64 [channels] by name.
    """
    outputs = [f"{name}/reach" for name in names]
    session = engine.open_session(
        _reducing(model, names, outputs, "Abs", "GlobalMaxPool"), provider="cpu", name="The backbone"
    )
    found: list[np.ndarray] = []
    for feed in batches:
        rows = [each.max(axis=0).ravel().astype(np.float64) for each in session.run(outputs, feed)]
        found = [np.maximum(*pair) for pair in zip(found, rows, strict=True)] if found else rows
    return dict(zip(names, found, strict=True))


def choose_ranges(model: Any, op_types: Collection[str], seen: dict[str, Observation], method: str) -> dict[str, Range]:
    """Return the range of every tensor in `seen`, and of what is only clipped: that of what comes out.

    What a Concat alone reads gets the range of the whole: it would be rounded to that anyway, and where all parts share
    one range the kernel only copies. `method` is minmax, entropy, percentile or mse. Raises TledgeError on another.
    """
    if method not in METHODS:
        raise TledgeError(f"There is no calibration method called '{method}'.", did_you_mean(method, METHODS))
    found = {name: METHODS[method](each) for name, each in seen.items()}
    vanishing = _parts(model, op_types) | _clipped(model, op_types)
    order = {name: place for place, node in enumerate(model.graph.node) for name in node.output}
    for inner in sorted(vanishing, key=order.__getitem__, reverse=True):  # of two in a row, the last one first
        found[inner] = found[vanishing[inner]]
    return found


def _activations(model: Any, op_types: Collection[str]) -> list[str]:
    """Return the float tensors that nodes of `op_types` read or give, constants left out, in the order of the graph."""
    import onnx

    graph = model.graph
    infos = (*graph.input, *graph.value_info, *graph.output)
    floats = {each.name for each in infos if each.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    floats -= {each.name for each in graph.initializer}
    touched = (name for node in graph.node if node.op_type in op_types for name in (*node.input, *node.output))
    return [name for name in dict.fromkeys(touched) if name in floats]


def _clipped(model: Any, op_types: Collection[str]) -> dict[str, str]:
    """Return, in the order of the graph, what a Clip or Relu alone reads, and what that gives."""
    known, alone = set(_activations(model, op_types)), _read_once(model)
    return {
        node.input[0]: node.output[0]
        for node in model.graph.node
        if node.op_type in _CLIPPING and node.op_type in op_types and known >= {node.input[0], node.output[0]}
        if node.input[0] in alone
    }


def _parts(model: Any, op_types: Collection[str]) -> dict[str, str]:
    """Return what a Concat alone reads, and what that gives."""
    if "Concat" not in op_types:
        return {}
    known, alone = set(_activations(model, op_types)), _read_once(model)
    return {
        name: node.output[0]
        for node in model.graph.node
        if node.op_type == "Concat" and node.output[0] in known
        for name in node.input
        if name in known & alone
    }


def _read_once(model: Any) -> set[str]:
    """Return the tensors that one node alone reads, and nobody outside."""
    readers = Counter(name for node in model.graph.node for name in node.input)
    return {name for name, count in readers.items() if count == 1} - {each.name for each in model.graph.output}


def _probe(model: Any, names: list[str], means: list[str]) -> bytes:
    """Return `model` with the tensors `names` and the means of `means` among its outputs."""
    import onnx

    # The mean over a picture's plane in the graph keeps what leaves it small.
    probe = onnx.ModelProto.FromString(_reducing(model, means, [f"{name}/mean" for name in means], "GlobalAveragePool"))
    known = {each.name for each in probe.graph.output}
    _reveal(probe, [name for name in names if name not in known])
    return probe.SerializeToString()


def _reducing(model: Any, names: Sequence[str], outputs: Sequence[str], *operators: str) -> bytes:
    """Return `model` with more `outputs`: the tensors `names` after one of the `operators` after the other."""
    import onnx
    from onnx import helper

    probe = onnx.ModelProto.FromString(model.SerializeToString())
    for name, output in zip(names, outputs, strict=True):
        steps = [name, *(f"{output}/{operator}" for operator in operators[:-1]), output]
        for operator, given, made in zip(operators, steps, steps[1:], strict=False):
            probe.graph.node.append(helper.make_node(operator, [given], [made]))
    _reveal(probe, outputs)
    return probe.SerializeToString()


def _reveal(model: Any, names: Iterable[str]) -> None:
    from onnx import TensorProto, helper

    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))


def _add(name: str, seen: Observation, x: np.ndarray) -> None:
    try:
        seen.add(x)
    except ValueError as error:
        raise ModelError(f"Activation {name} cannot be calibrated: {error}", "Use another backbone.") from error

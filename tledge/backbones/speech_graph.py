"""openWakeWord's two graphs, mel spectrogram and speech embedding, as one: samples in, features out.

Run one after the other they compute 76 frames for every embedding, 8 further each, and the spectrogram of one clip at a
time. The embedding's convolutions are not padded in time and it halves time three times, so that over the frames of a
whole clip it gives all embeddings at once, the same numbers: three windows cost what 92 frames cost, not 228.
What differs from the two graphs is only where factors stand: samples in -1..1 come as 16-bit numbers would, by weights
of the first convolution; decibels / 10 + 2 is a logarithm of 100 times the power, whose base is in the weights that
follow; max(leaky(x), -0.4) is leaky(max(x, -2)), so that int8 gets the maximum for nothing. Time stands in the last
axis. The loudest number of each clip, not of the batch, bounds its quietest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tledge.backbones import spectrogram
from tledge.graph_writer import GraphWriter
from tledge.schema import Pool

RATE, FRAME, FRAME_HOP = 16_000, 512, 160
WINDOW_FRAMES, WINDOW_HOP_FRAMES = 76, 8
WIDTH = 96
SHORTEST = FRAME + (WINDOW_FRAMES - 1) * FRAME_HOP
_FULL_SCALE = 32768.0
# Power is at least 1e-10, and no more than 80 dB below the loudest; both before the factor of 100.
_LEAST_POWER, _DECADES, _SHIFT = 1e-10, 8.0, 100.0
_LEAST, _SLOPE = -0.4, 0.2
_PERMUTE = {"pads": (1, 0, 3, 2), "strides": (1, 0), "kernel_shape": (1, 0)}


@dataclass(frozen=True, slots=True)
class Embedding:
    """One step of the embedding: `op_type` Conv, MaxPool or, for its activation, LeakyRelu, with time last."""

    op_type: str
    weights: tuple[np.ndarray, ...]
    attributes: dict[str, list[int]]


def windows(samples: int) -> int:
    """Return how many embeddings `samples` at 16 kHz give; none when they are fewer than SHORTEST."""
    found = (samples - FRAME) // FRAME_HOP + 1
    return max(0, (found - WINDOW_FRAMES) // WINDOW_HOP_FRAMES + 1)


def dimension(samples: int, pool: Pool) -> int:
    """Return how many features `samples` at 16 kHz give."""
    return WIDTH * (windows(samples) if pool == "flatten" else 1)


def join(mel: Any, embedding: Any, samples: int, pool: Pool, name: str) -> Any:
    """Return the onnx.ModelProto `audio` float32 [N, `samples`] → `features` float32 [N, dimension].

    `mel` and `embedding` are openWakeWord's, as onnx.ModelProto. Flattened features are those of one window after the
    other.
    """
    graph = GraphWriter()
    tensor = _add_logarithms(graph, _constants(mel))
    for number, step in enumerate(_embedding(embedding), 1):
        tensor = _add(graph, tensor, step, f"{step.op_type.lower()}{number}")
    if pool == "flatten":
        tensor = graph.node("Transpose", [tensor], "windows", perm=[0, 3, 2, 1])
    else:
        tensor = graph.node("GlobalAveragePool" if pool == "avg" else "GlobalMaxPool", [tensor], "pool")
    graph.node("Flatten", [tensor], "features")
    given = [("audio", np.float32, ["N", samples])]
    return graph.model(name, given, [("features", np.float32, ["N", dimension(samples, pool)])])


def _add_logarithms(graph: GraphWriter, constants: dict[str, np.ndarray]) -> str:
    """Add `audio` → [N, 1, bands, frames], ln of 100 times the power."""
    bands = constants["1.melW"].T
    used = np.flatnonzero(bands.any(axis=0))
    parts = [constants[f"0.stft.conv_{part}.weight"][used, 0] for part in ("real", "imag")]
    found = spectrogram.Kernels(np.concatenate(parts) * _FULL_SCALE, bands[:, used] * _SHIFT, FRAME_HOP)
    squares = spectrogram.add_squares(graph, "audio", found)
    power = spectrogram.add_mix(graph, squares, np.tile(found.weights, 2), "bands")
    prefix = spectrogram.PREFIX
    floor = graph.constant(f"{prefix}floor", _LEAST_POWER * _SHIFT)
    logs = graph.node("Log", [graph.node("Clip", [power, floor], f"{prefix}floored")], f"{prefix}log")
    peak = graph.node("ReduceMax", [logs], f"{prefix}peak", axes=[1, 2, 3])
    reach = graph.constant(f"{prefix}reach", _DECADES * np.log(10))
    lowest = graph.node("Sub", [peak, reach], f"{prefix}lowest")
    bounded = graph.node("Max", [logs, lowest], f"{prefix}bounded")
    return graph.node("Transpose", [bounded], f"{prefix}map", perm=[0, 2, 1, 3])


def _constants(model: Any) -> dict[str, np.ndarray]:
    from onnx import numpy_helper

    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def _embedding(model: Any) -> list[Embedding]:
    """Return the steps of the embedding, time last; the first takes natural logarithms, not decimal ones."""
    from onnx import helper

    constants, found = _constants(model), []
    for node in model.graph.node:
        if node.op_type in ("Conv", "MaxPool", "LeakyRelu"):
            weights = tuple(constants[name] for name in node.input[1:])
            given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            turned = {key: [given[key][i] for i in order] for key, order in _PERMUTE.items() if key in given}
            found.append(Embedding(node.op_type, weights, turned))
    first = found[0].weights
    found[0] = Embedding("Conv", (first[0] / np.float32(np.log(10)), first[1]), found[0].attributes)
    return found


def _add(graph: GraphWriter, tensor: str, step: Embedding, name: str) -> str:
    if step.op_type == "LeakyRelu":
        least = graph.constant(f"{name}.min", _LEAST / _SLOPE)
        tensor = graph.node("Clip", [tensor, least], f"{name}.clip")
        return graph.node("LeakyRelu", [tensor], name, alpha=_SLOPE)
    inputs, roles = [tensor], ("weight", "bias")
    for role, values in zip(roles, step.weights, strict=False):
        inputs.append(graph.constant(f"{name}.{role}", values.swapaxes(2, 3) if role == "weight" else values))
    return graph.node(step.op_type, inputs, name, **step.attributes)

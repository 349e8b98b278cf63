"""Networks of a user's own that hear: what their input is, and those that take one sound at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tledge.backbones.from_onnx.graph import producers, rename
from tledge.backbones.sound_input import Lengths, axes, shape
from tledge.errors import BackboneError
from tledge.schema import SoundSpec


@dataclass(frozen=True, slots=True)
class SoundInput:
    """What a network takes: sounds as `own` lengths behind the batch, None where one is open.

    `alone`: a single sound [samples], without a batch, as YAMNet does. `batch` is what it is fixed to, if to any.
    """

    name: str
    batch: int | None
    own: Lengths
    alone: bool
    takes_bytes: bool = False

    def order(self, spec: SoundSpec) -> str:
        """Return the axes that it takes a sound of `spec` in; these have been settled to fit."""
        return axes(self.own, spec) or "s"

    def shape(self, spec: SoundSpec) -> tuple[int, ...]:
        """Return the shape of its input for a sound of `spec`, in a batch of what it is fixed to, or one."""
        one = shape(spec, self.order(spec))
        return one if self.alone else (self.batch or 1, *one)


def read_sound_input(model: Any, name: str) -> SoundInput:
    """Return what `model`, cut and with constants lifted, takes. Raises BackboneError where that can be no sound.

    `name` is what to call the file.
    """
    from onnx import TensorProto

    found = ", ".join(value.name for value in model.graph.input) or "none"
    kinds = {value.type.tensor_type.elem_type for value in model.graph.input}
    lengths = [dim.dim_value if dim.dim_value > 0 else None for value in model.graph.input[:1]
               for dim in value.type.tensor_type.shape.dim]  # fmt: skip
    if len(model.graph.input) != 1 or not kinds <= {TensorProto.FLOAT, TensorProto.FLOAT16} or not 0 < len(lengths) < 5:
        raise BackboneError(
            f"{name} must take sounds as its one input, float32 [N, samples], [samples] or a spectrogram "
            f"[N, frames, bands], but takes: {found}, {[length or '?' for length in lengths]}.",
            "Export the part that takes the sound, or cut it off from the rest with --feature-node.",
        )
    if len(lengths) == 1:
        return SoundInput(found, None, (lengths[0],), alone=True)
    return SoundInput(found, lengths[0], tuple(lengths[1:]), alone=False)


def one_by_one(model: Any, given: str, made: str, shape: tuple[int, ...]) -> None:
    """Let `model`, which makes of one sound `given` [samples] a tensor `made` of `shape`, take a batch, in place.

    What it does becomes the body of a Scan along the batch: plain ONNX, one sound after the other.
    """
    from onnx import GraphProto, TensorProto, helper

    graph, one = model.graph, f"{given}/one"
    rename(graph, given, one)
    result = f"{made}/one"
    producer = producers(graph)[made]
    producer.output[:] = [result if name == made else name for name in producer.output]
    rename(graph, made, result)
    body = GraphProto(name="one", node=graph.node, initializer=graph.initializer)
    body.input.append(helper.make_tensor_value_info(one, TensorProto.FLOAT, None))
    body.output.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, list(shape)))
    for field in ("node", "initializer", "value_info"):
        graph.ClearField(field)
    graph.node.append(helper.make_node("Scan", [given], [made], "one_by_one", body=body, num_scan_inputs=1))

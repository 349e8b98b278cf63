"""What a network of the user's own hears: samples or a spectrogram, in which order of axes, and the steps to it.

`axes` are written as letters: s samples, f frames, b bands, 1 an axis of length one: "s", "1s", "fb", "1bf", "fb1".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tledge.backbones import spectrogram
from tledge.backbones.sound_hints import SoundHints
from tledge.errors import BackboneError
from tledge.graph_writer import GraphWriter
from tledge.schema import BackboneOptions, SoundSpec, SpectrogramSpec

_RATE, _WINDOW_S, LONGEST_S = 16_000, 1.0, 60.0
# Of a spectrogram that nobody described: those of YAMNet and of much that came after it.
_FRAME_S, _HOP_S, _BANDS = 0.025, 0.010, 64
_SAMPLES, _FRAMES = ("s", "1s", "s1"), ("fb", "bf", "1fb", "fb1", "1bf", "bf1")
Lengths = tuple[int | None, ...]


def settle(own: Lengths, hints: SoundHints, options: BackboneOptions, name: str) -> tuple[SoundSpec, list[str]]:
    """Return how sounds are prepared for a network whose input is `own` behind the batch, and what nobody said.

    None stands for a length that is open. Raises BackboneError where hints, options and network do not go together.
    """
    _refuse_pictures(options, name)
    assumed: list[str] = []
    rate = hints.rate or _assume(assumed, _RATE, f"a rate of {_RATE} Hz")
    heard = _spectrogram(own, hints, rate, assumed)
    samples = _length(own, hints, options, rate, heard, assumed)
    hop_s = options.hop_s or 0.0
    mean = _first(options.mean, hints.mean, 0.0)
    std = _first(options.std, hints.std, 1.0)
    if heard is None and {options.mean, options.std, hints.mean, hints.std} == {None}:
        assumed.append("samples in -1..1")
    spec = SoundSpec(rate, samples, round(hop_s * rate), spectrogram=heard, mean=mean, std=std)
    _check(spec, own, options, name)
    return spec, assumed


def axes(own: Lengths, spec: SoundSpec) -> str | None:
    """Return the order of axes in which an input of `own` lengths takes what `spec` says; None where it does not fit.

    Where several do, frames come before bands.
    """
    for found in _SAMPLES if spec.spectrogram is None else _FRAMES:
        wanted = shape(spec, found)
        if len(wanted) == len(own) and all(a in (None, b) for a, b in zip(own, wanted, strict=True)):
            return found
    return None


def shape(spec: SoundSpec, order: str) -> tuple[int, ...]:
    """Return the lengths of the axes called `order` for one sound of `spec`."""
    lengths = {"1": 1, "s": spec.samples}
    if spec.spectrogram:
        lengths |= {"f": spectrogram.frames(spec.spectrogram, spec.samples), "b": spectrogram.bands(spec.spectrogram)}
    return tuple(lengths[axis] for axis in order)


def made_up(count: int, spec: SoundSpec) -> np.ndarray:
    """Return float32 [`count`, samples] of noise that swells from next to nothing, the same each time."""
    swelling = np.geomspace(1e-5, 0.5, spec.samples)
    return (np.random.default_rng(0).uniform(-1, 1, (count, spec.samples)) * swelling).astype(np.float32)


def compute(audio: np.ndarray, spec: SoundSpec, order: str) -> np.ndarray:
    """Return float32 [N, …] in the axes `order` of `audio` [N, samples], in NumPy what `lead` adds to a graph."""
    values = audio.astype(np.float64)
    if spec.spectrogram:
        values = spectrogram.compute(values, spec.spectrogram, spec.rate)
        values = values.swapaxes(1, 2) if order.index("b") < order.index("f") else values
    return ((values - spec.mean) / spec.std).astype(np.float32).reshape(len(audio), *shape(spec, order))


def lead(model: Any, spec: SoundSpec, order: str, tensor: str) -> None:
    """Let `model`, whose input was `tensor` [N, …] in the axes `order`, take `audio` float32 [N, samples], in place."""
    from onnx import TensorProto, helper

    graph = GraphWriter()
    found = _add_order(graph, spec, order)
    if (spec.mean, spec.std) != (0.0, 1.0):
        found = graph.node("Sub", [found, graph.constant("input.mean", spec.mean)], "input.sub")
        found = graph.node("Mul", [found, graph.constant("input.scale", 1 / spec.std)], "input.mul")
    for node in model.graph.node:
        node.input[:] = [found if name == tensor else name for name in node.input]
    for place, node in enumerate(graph.nodes):
        model.graph.node.insert(place, node)
    model.graph.initializer.extend(graph.constants)
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N", spec.samples]))


def _add_order(graph: GraphWriter, spec: SoundSpec, order: str) -> str:
    if spec.spectrogram is None:
        if order == "s":
            return "audio"
        return graph.node(
            "Unsqueeze", ["audio", graph.constant("input.axes", [order.index("1") + 1], np.int64)], "input.line"
        )
    found = spectrogram.add_spectrogram(graph, "audio", spec.spectrogram, spec.rate)  # [N, bands, 1, frames]
    whole = order if "1" in order else order + "1"
    perm = [0, *("b1f".index(axis) + 1 for axis in whole)]
    found = graph.node("Transpose", [found], f"{spectrogram.PREFIX}order", perm=perm)
    if whole == order:
        return found
    return graph.node("Squeeze", [found, graph.constant("input.axes", [3], np.int64)], f"{spectrogram.PREFIX}map")


def _assume(assumed: list[str], value: Any, said: str) -> Any:
    assumed.append(said)
    return value


def _first(asked: tuple[float, ...] | None, said: float | None, otherwise: float) -> float:
    return float(asked[0] if asked else otherwise if said is None else said)


def _refuse_pictures(options: BackboneOptions, name: str) -> None:
    if options.input_size is not None or options.channel_order is not None:
        raise BackboneError(
            f"{name} takes sounds, for which an input size or channel order means nothing.", "Leave both out."
        )
    if len(options.mean or (0,)) + len(options.std or (1,)) > 2:
        raise BackboneError(f"{name} takes sounds, so mean and std must be one number each.", "Give one of each.")


def _spectrogram(own: Lengths, hints: SoundHints, rate: int, assumed: list[str]) -> SpectrogramSpec | None:
    """Return the spectrogram that was described, or that an input of two long axes must be; None for samples."""
    long = [length for length in own if length != 1]
    if hints.spectrogram is None and len(long) < 2:
        return None
    given = dict(hints.spectrogram or {})
    if "window" not in given:
        given["window"] = _assume(assumed, round(_FRAME_S * rate), f"frames of {_FRAME_S * 1000:g} ms")
    if "hop" not in given:
        given["hop"] = _assume(assumed, round(_HOP_S * rate), f"frames every {_HOP_S * 1000:g} ms")
    given.setdefault("fft", 2 ** math.ceil(math.log2(given["window"])))
    if "bands" not in given:
        bands = long[-1] if long and long[-1] else _BANDS
        given["bands"] = _assume(assumed, bands, f"{bands} mel bands")
    unsaid = {"low_hz", "high_hz", "power", "log"} - given.keys()
    found = SpectrogramSpec(**given)
    if unsaid:
        kind = "log " if found.log else ""
        scale = f" from {found.low_hz:g} to {found.high_hz:g} Hz" if found.bands else ""
        assumed.append(f"{kind}magnitudes to the power {found.power}{scale}")
    return found


def _length(
    own: Lengths,
    hints: SoundHints,
    options: BackboneOptions,
    rate: int,
    heard: SpectrogramSpec | None,
    assumed: list[str],
) -> int:
    if options.window_s is not None:
        return _whole(options.window_s * rate)
    if hints.samples or hints.window_s:
        return hints.samples or _whole((hints.window_s or 0) * rate)
    if heard is None:
        stated = next((length for length in own if length and length > 1), None)
    else:
        frames = _frames_of(own, spectrogram.bands(heard))
        stated = frames and heard.window + (frames - 1) * heard.hop
    return stated or _assume(assumed, _whole(_WINDOW_S * rate), f"sounds of {_WINDOW_S:g} s")


def _frames_of(own: Lengths, bands: int) -> int | None:
    long = [length for length in own if length != 1]
    if len(long) != 2 or not {bands, None} & set(long):
        return None
    return long[0] if long[1] in (bands, None) else long[1]


def _whole(samples: float) -> int:
    return round(samples) if math.isfinite(samples) else 0


def _check(spec: SoundSpec, own: Lengths, options: BackboneOptions, name: str) -> None:
    if not 1 <= spec.samples <= LONGEST_S * spec.rate:
        raise BackboneError(
            f"Sounds for {name} must be up to {LONGEST_S:g} seconds long, but are {spec.samples / spec.rate:g}.",
            "Give another window.",
        )
    if options.hop_s is not None and not 1 <= spec.hop <= spec.samples:
        raise BackboneError(f"The hop must be above 0 and at most the window, but is {options.hop_s:g} s.")
    heard = spec.spectrogram
    if heard and heard.fft < heard.window:
        raise BackboneError(f"The spectrogram for {name} must have an fft of at least its window, {heard.window}.")
    if heard and heard.bands and not heard.low_hz < heard.high_hz <= spec.rate / 2:
        found = f"{heard.low_hz:g} to {heard.high_hz:g}"
        raise BackboneError(
            f"The bands for {name} must lie between 0 and {spec.rate / 2:g} Hz, but are {found}.",
            "Give low_hz and high_hz, or the right rate.",
        )
    if heard and spectrogram.frames(heard, spec.samples) < 1:
        raise BackboneError(f"Sounds for {name} must hold one frame of {heard.window} samples at least.")
    if axes(own, spec) is None:
        found = (
            f"{spec.samples} samples"
            if heard is None
            else " × ".join(map(str, shape(spec, "fb"))) + " frames and bands"
        )
        raise BackboneError(
            f"{name} takes inputs of {' × '.join(str(length or '?') for length in own)}, which are not {found}.",
            'Say its rate, samples and spectrogram in a JSON file beside it, under "sound".',
        )

"""Spectrograms inside the graph: samples → frames of mel bands, in operators that every onnxruntime has.

The discrete Fourier transform of each frame is a convolution with sines and cosines, already windowed; the sum of the
squares of both and the mel bands are 1×1 convolutions. Frequencies that no band reads are not computed. Nodes are named
PREFIX + …, so that precision can spare them: their numbers span more decades than int8 or float16 have.
Sources: the mel scale of O'Shaughnessy 1987, 1127·ln(1 + f / 700), and triangles that are linear in it, without
normalisation and without the bin of frequency 0, as tf.signal.linear_to_mel_weight_matrix has them (YAMNet's).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tledge.graph_writer import GraphWriter
from tledge.schema import SpectrogramSpec

PREFIX = "spectrogram."


def frames(spec: SpectrogramSpec, samples: int) -> int:
    """Return how many whole frames `samples` hold; none are filled up."""
    return max(0, (samples - spec.window) // spec.hop + 1)


def bands(spec: SpectrogramSpec) -> int:
    """Return how many numbers a frame has."""
    return spec.bands or spec.fft // 2 + 1


@dataclass(frozen=True, slots=True)
class Kernels:
    """What a spectrogram is computed with.

    `waves` float32 [2·bins, length]: windowed cosines, then sines; `weights` float32 [bands, bins].
    """

    waves: np.ndarray
    weights: np.ndarray
    hop: int


def kernels(spec: SpectrogramSpec, rate: int) -> Kernels:
    """Return the kernels of `spec` at `rate` Hz; without mel bands, every bin of the transform is a band."""
    weights = mel_weights(spec, rate) if spec.bands else np.eye(spec.fft // 2 + 1)
    used = np.flatnonzero(weights.any(axis=0))
    angles = 2 * np.pi * np.outer(used, np.arange(spec.window)) / spec.fft
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.window) / spec.window)
    waves = np.concatenate([np.cos(angles), -np.sin(angles)]) * hann
    return Kernels(waves.astype(np.float32), weights[:, used].astype(np.float32), spec.hop)


def mel_weights(spec: SpectrogramSpec, rate: int) -> np.ndarray:
    """Return float64 [bands, fft / 2 + 1]: how much of each frequency goes into each band."""
    low, high = _mel(np.array([spec.low_hz, spec.high_hz]))
    edges = np.linspace(low, high, spec.bands + 2)
    place = _mel(np.arange(spec.fft // 2 + 1) * rate / spec.fft)
    rising = (place - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - place) / np.diff(edges)[1:, None]
    weights = np.maximum(0, np.minimum(rising, falling))
    weights[:, 0] = 0
    return weights


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 1127 * np.log1p(hertz / 700)


def add_squares(graph: GraphWriter, audio: str, found: Kernels) -> str:
    """Add `audio` [N, samples] → [N, 2·bins, 1, frames], squares of real parts, then those of imaginary parts."""
    axes = graph.constant(f"{PREFIX}axes", [1, 2], np.int64)
    waves = graph.constant(f"{PREFIX}waves", found.waves[:, None, None, :])
    line = graph.node("Unsqueeze", [audio, axes], f"{PREFIX}line")
    parts = graph.node("Conv", [line, waves], f"{PREFIX}parts", strides=[1, found.hop])
    return graph.node("Mul", [parts, parts], f"{PREFIX}squares")


def add_mix(graph: GraphWriter, tensor: str, weights: np.ndarray, name: str) -> str:
    """Add weighted sums of the channels of `tensor` [N, channels, 1, frames] by `weights` [results, channels]."""
    constant = graph.constant(f"{PREFIX}{name}.weight", weights[:, :, None, None])
    return graph.node("Conv", [tensor, constant], f"{PREFIX}{name}")


def add_spectrogram(graph: GraphWriter, audio: str, spec: SpectrogramSpec, rate: int) -> str:
    """Add `audio` [N, samples] at `rate` Hz → [N, bands, 1, frames] as `spec` says."""
    found = kernels(spec, rate)
    tensor = add_squares(graph, audio, found)
    if spec.power == 2:
        tensor = add_mix(graph, tensor, np.tile(found.weights, 2), "bands")
    else:
        tensor = add_mix(graph, tensor, np.tile(np.eye(found.weights.shape[1]), 2), "power")
        tensor = graph.node("Sqrt", [tensor], f"{PREFIX}magnitude")
        if spec.bands:
            tensor = add_mix(graph, tensor, found.weights, "bands")
    if spec.log:
        floor = graph.constant(f"{PREFIX}floor", spec.floor)
        tensor = graph.node("Log", [graph.node("Add", [tensor, floor], f"{PREFIX}floored")], f"{PREFIX}log")
    return tensor


def compute(audio: np.ndarray, spec: SpectrogramSpec, rate: int) -> np.ndarray:
    """Return [N, frames, bands] of `audio` [N, samples] at `rate` Hz: in NumPy what `add_spectrogram` computes."""
    cut = np.lib.stride_tricks.sliding_window_view(audio, spec.window, axis=1)[:, :: spec.hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.window) / spec.window)
    values = np.abs(np.fft.rfft(cut * hann, spec.fft)) ** spec.power
    values = values @ mel_weights(spec, rate).T if spec.bands else values
    return np.log(values + spec.floor) if spec.log else values

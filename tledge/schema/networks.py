"""Backbones and what they take: preprocessing, options, features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tledge.schema.samples import Kind, Problem, Sample

Fit = Literal["stretch", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Pool = Literal["avg", "max", "flatten", "cls"]
Precision = Literal["fp32", "fp16", "int8"]
ChannelOrder = Literal["rgb", "bgr"]
Target = Literal["any", "cpu", "cuda", "tensorrt", "jetson"]
GraphInput = Literal["tensor", "image"]


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How a picture becomes the model's input. `mean` and `std` are in units of 0..255 pixels, one per RGB channel.

    Resizing happens outside the graph (uint8 in, uint8 out); `(pixel - mean) / std` happens inside it. `kind` is also
    the name of the graph's input, uint8 [N, height, width, 3] RGB.
    """

    height: int
    width: int
    fit: Fit = "stretch"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    kind: Literal["image"] = "image"


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """A model that takes vectors of `length` numbers: its graph's input is `vector`, float32 [N, length].

    `(number - mean) / std` happens inside the graph. `columns` are the names of the numbers where they came from a
    table; tables are then read by these.
    """

    length: int
    mean: float = 0.0
    std: float = 1.0
    kind: Literal["vector"] = "vector"
    columns: tuple[str, ...] = ()


SoundFit = Literal["centre", "start"]


@dataclass(frozen=True, slots=True)
class SpectrogramSpec:
    """What a network of a user's own takes instead of samples; it is computed inside the graph.

    Frames of `window` samples every `hop`, Hann-windowed, zero-padded to `fft` samples; their magnitudes to the
    `power` 1 or 2, summed into `bands` mel bands (0: none, the spectrum as it is) between `low_hz` and `high_hz`; then
    log(value + `floor`) when `log`.
    """

    window: int
    hop: int
    fft: int
    bands: int = 64
    low_hz: float = 125.0
    high_hz: float = 7500.0
    power: int = 1
    log: bool = True
    floor: float = 1e-3


@dataclass(frozen=True, slots=True)
class SoundSpec:
    """A model that takes sounds: its graph's input is `audio`, float32 [N, samples] in -1..1, one channel, `rate` Hz.

    A shorter clip stands in the middle of silence, or at its start, as `fit` says; of a longer one the middle or the
    start is taken. With `hop`, in samples and not 0, a longer clip is cut into windows so far apart, and the
    probabilities of all are averaged. `(number - mean) / std`, of samples or of the spectrogram where there is one,
    happens inside the graph.
    """

    rate: int
    samples: int
    hop: int = 0
    fit: SoundFit = "centre"
    spectrogram: SpectrogramSpec | None = None
    mean: float = 0.0
    std: float = 1.0
    kind: Literal["audio"] = "audio"


@dataclass(frozen=True, slots=True)
class TextSpec:
    """A model that takes texts as tokens: `input_ids` and `attention_mask`, int64 [N, T] with T ≤ `max_tokens`.

    `tokenizer` is the SHA-256, in hex, of the JSON of the `tokenizers` package that makes texts into tokens; it stands
    in the graph's file under the metadata key `tledge.tokenizer`. Longer texts are cut; shorter ones are filled with
    `pad_id`, which the mask leaves out.
    """

    max_tokens: int
    tokenizer: str
    pad_id: int = 0
    kind: Literal["text"] = "text"


InputSpec = PreprocessSpec | VectorSpec | SoundSpec | TextSpec


@dataclass(frozen=True, slots=True)
class BackboneOptions:
    """What a user may ask of a backbone; None leaves it to the backbone.

    `input_size` is the side of its input in pixels; `weights` is imagenet, none (random) or a Keras weights file;
    `feature` names the layer (Keras) or node (ONNX) whose output is taken. `mean` and `std`, in 0..255 pixel units, and
    `channel_order` say what a network of the user's own was trained on: one number for all channels, or three in the
    order that the network takes them. `window_s` is how many seconds of a sound it takes at a time, `hop_s` how far
    apart the windows of a longer sound are, `fit` where a shorter one stands.
    """

    input_size: int | None = None
    pool: Pool | None = None
    weights: str | None = None
    feature: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channel_order: ChannelOrder | None = None
    window_s: float | None = None
    hop_s: float | None = None
    fit: SoundFit | None = None


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen network as one ONNX file: its input as `preprocess` says → `features` float32 [N, dimension].

    `digest` is the SHA-256 of the file at `path`, in hex. `assumed` says in a few words what was not given and taken
    for granted.
    """

    name: str
    path: Path
    preprocess: InputSpec
    dimension: int
    digest: str
    precision: Precision = "fp32"
    licence: str = ""
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """What `tledge backbones` tells of one backbone, for samples of `kind`.

    `input_size` is the side of a picture in pixels that it was trained at, the samples of a sound that it takes at a
    time, or the most tokens of a text. `parameters` counts trainable numbers up to the features, `macs` its
    multiply-adds for one sample of that size; `weights_hint` says how the weights come to this machine.
    """

    name: str
    input_size: int
    dimension: int
    parameters: int
    licence: str
    weights_available: bool
    weights_hint: str
    macs: int | None = None
    kind: Kind = "image"


@dataclass(frozen=True, slots=True)
class Features:
    """What a backbone made of samples: `matrix` float32 [n, dimension], row i belongs to `samples[i]`.

    Samples that could not be decoded are in `skipped`, and have no row.
    """

    samples: tuple[Sample, ...]
    matrix: np.ndarray
    hits: int
    misses: int
    skipped: tuple[Problem, ...] = ()

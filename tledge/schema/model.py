"""What stands in a model file beside its graph."""

from __future__ import annotations

from dataclasses import dataclass

from tledge.schema.networks import GraphInput, InputSpec, Precision, Target


@dataclass(frozen=True, slots=True)
class GoldenSample:
    """An input of the model, and the `probabilities` it gave where it was exported.

    A picture stands in `png`, at the model's input size unless the graph takes any; a vector as little-endian float32
    in `vector`; a sound as little-endian int16 in `sound`, full scale being 32767; a text's tokens as little-endian
    int32 in `tokens`; each in base64.
    """

    png: str
    probabilities: tuple[float, ...]
    vector: str = ""
    sound: str = ""
    tokens: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model file says of itself, kept as JSON in its ONNX metadata under `tledge.manifest`.

    `thresholds` as in Head. `target` is where it was made to run. With `input` "tensor" the graph takes what
    `preprocess` gives; with "image", pictures of any size, uint8 [N, H, W, 3], and fits them as `preprocess` says. Of a
    `multilabel` model the probabilities of a sample need not sum to one.
    """

    schema_version: int
    tledge_version: str
    created: str
    backbone: str
    backbone_digest: str
    licence: str
    precision: Precision
    classes: tuple[str, ...]
    preprocess: InputSpec
    accuracy: float
    test_samples: int
    data_fingerprint: str
    golden: tuple[GoldenSample, ...] = ()
    head: str = "linear"
    multilabel: bool = False
    thresholds: tuple[float, ...] = ()
    target: Target = "any"
    input: GraphInput = "tensor"

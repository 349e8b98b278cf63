"""What `tledge export` returns, and what it says of a model beside the run's float model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tledge.schema.documents import CacheCounts, GoldenCheck
from tledge.schema.heads import Metrics
from tledge.schema.networks import GraphInput, Target
from tledge.schema.samples import Kind


@dataclass(frozen=True, slots=True)
class AccuracyChange:
    """Accuracy on the test pictures, of the run's float model (`before`) and of the exported one (`after`)."""

    before: float
    after: float


@dataclass(frozen=True, slots=True)
class ErrorChange:
    """Wrongly decided test samples, of the float model (`before`) and of the exported one (`after`).

    `ratio` is after / before: 1 when neither erred, None when only the exported one did, which no bound on it allows.
    """

    before: int
    after: int
    ratio: float | None


@dataclass(frozen=True, slots=True)
class ClassChange:
    """Recall of one class on the test samples; `drop` is before less after in points, below zero where it rose."""

    name: str
    recall_before: float
    recall_after: float
    drop: float


@dataclass(frozen=True, slots=True)
class Parity:
    """How the exported model compares with the run's float model on the test pictures.

    `agreement` is the share with the same most probable class, `max_abs_diff` the largest change of a probability.
    """

    samples: int
    agreement: float
    max_abs_diff: float
    mean_abs_diff: float
    passed: bool


@dataclass(frozen=True, slots=True)
class InputParity:
    """How a model that takes pictures of any size compares with itself behind tledge's own decoding and resizing.

    Whole pictures through the graph stand beside the same files decoded and resized as in training: `agreement` is the
    share of equal decisions, `max_abs_diff` the largest change of a probability. `pixel_max_abs_diff` and
    `pixel_mean_abs_diff`, in grey levels, are those of the resize alone, from the same decoded pixels.
    """

    samples: int
    agreement: float
    max_abs_diff: float
    mean_abs_diff: float
    pixel_max_abs_diff: float
    pixel_mean_abs_diff: float
    passed: bool


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """How far int8 features are from float ones: Σ (int8 - float)² / Σ float² over pictures that gave no ranges.

    `equalised`: with the channels of activations scaled to use more of their range.
    """

    method: str
    error: float
    equalised: bool = False


@dataclass(frozen=True, slots=True)
class FloatNode:
    """A node of an int8 graph that onnxruntime computes in float; `asked`: it was to be left so."""

    name: str
    operator: str
    asked: bool = False


@dataclass(frozen=True, slots=True)
class LayerSensitivity:
    """What int8 costs in one layer, a node of the graph by its name, and what float costs there.

    `error` is that of the features, as in CalibrationError, when it alone is int8; `macs` its multiply-adds for one
    sample.
    """

    name: str
    operator: str
    error: float
    macs: int


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a backbone became int8: the method that chose the ranges, a scale `per_channel` or one for all weights.

    `reduce_range`: weights of seven bits. `symmetric`: activations without zero points, as TensorRT needs them.
    `equalised` as in CalibrationError. `errors` are those of all that was compared, the least first.

    `calibration` is dynamic where ranges are found as the graph runs, a scale for every token.

    `float_nodes` are what onnxruntime's CPU provider computes in float all the same: layers, and what breaks the chain
    between two of int8. An average behind the last layer stays float on purpose and is not among them. Of a symmetric
    graph, which no CPU computes in int8, none are told.
    """

    calibration: str
    per_channel: bool
    reduce_range: bool
    errors: tuple[CalibrationError, ...] = ()
    equalised: bool = False
    float_nodes: tuple[FloatNode, ...] = ()
    symmetric: bool = False


@dataclass(frozen=True, slots=True)
class HeadChoice:
    """Which head stands behind an int8 backbone: the float model's `original`, or that one `refitted` to int8 features.

    The accuracies are those on int8 features of `samples` samples that neither was fitted to: the validation samples,
    or folds of the training samples. They are None where too few could be held out.
    """

    kept: Literal["original", "refitted"]
    judged_on: Literal["validation", "folds"]
    samples: int
    accuracy_original: float | None
    accuracy_refitted: float | None


@dataclass(frozen=True, slots=True)
class CandidateFigures:
    """One row of the table of what could have been exported: what it costs, and what it gains.

    `float_layers` counts the layers of an int8 model that were left in float. `p50_ms` is the median latency of one
    sample on this machine's provider, None where it was not measured. `drop` and `worst_class_drop` are points, below
    zero where it got better; `error_ratio` as in ErrorChange. `reason` says why a candidate was not `chosen`.
    """

    precision: str
    float_layers: int
    bytes: int
    p50_ms: float | None
    accuracy: float
    drop: float
    errors: int
    error_ratio: float | None
    worst_class: str
    worst_class_drop: float
    agreement: float
    chosen: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An exported model against the run's float model; what `tledge export` prints beside the error when a check fails.

    `classes` has those with test samples, the largest drop of recall first. `p50_ms` is the median latency of one
    sample here, where a bound on it was asked for. `input_parity` is there for a graph that takes pictures of any size.
    `candidates` are all that were tried, where there was a choice.
    """

    schema_version: int
    precision: str
    accuracy: AccuracyChange
    errors: ErrorChange
    classes: tuple[ClassChange, ...]
    parity: Parity
    bytes: int = 0
    p50_ms: float | None = None
    candidates: tuple[CandidateFigures, ...] = ()
    input_parity: InputParity | None = None


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The document of `tledge export`. `seconds` holds quantize, extract, fit, total.

    `accuracy`, `errors`, `classes`, `parity`, `p50_ms` and `input_parity` as in Comparison. `candidates` are all that
    were tried, the model itself among them.

    `float_nodes` are nodes of an fp16 graph that stay in float32 because of how large their values get.
    `float_layers` are layers of an int8 graph that went back to float to keep a budget, the worst in int8 first.
    `quantization` is there for int8; so is `head_choice`, unless the head was trained together with the backbone.

    `precision` is fp32, fp16, int8, or keras for a Keras model file, which has no golden samples and no seal: its
    `digest` is the SHA-256 of the whole file.
    `target`, `input` and `batch` as in Packaging.
    `out` is what was asked for: the `model` itself, or the folder that a `layout` other than file made around it.
    """

    schema_version: int
    model: str
    bytes: int
    digest: str
    precision: str
    accuracy: AccuracyChange
    errors: ErrorChange
    classes: tuple[ClassChange, ...]
    parity: Parity
    metrics: Metrics
    golden: GoldenCheck | None
    cache: CacheCounts
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()
    layout: str = "file"
    out: str = ""
    float_nodes: tuple[str, ...] = ()
    float_layers: tuple[str, ...] = ()
    head_choice: HeadChoice | None = None
    quantization: Quantization | None = None
    p50_ms: float | None = None
    candidates: tuple[CandidateFigures, ...] = ()
    created: str = ""
    target: Target = "any"
    input: GraphInput = "tensor"
    batch: int | None = None
    input_parity: InputParity | None = None
    kind: Kind = "image"

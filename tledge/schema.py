"""Every value that crosses an arrow of the sentence

    Dataset → Backbone → Features → Head → Model → Prediction / Measurement

as a frozen dataclass without behaviour. What a command returns is one of the documents at the end of this file;
`--json` prints the same document, field by field.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Fit = Literal["stretch", "crop", "pad"]
Interpolation = Literal["bilinear", "bicubic"]
Precision = Literal["fp32", "int8"]
Split = Literal["train", "val", "test"]


# ── Dataset ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled file. `label` indexes `Dataset.classes`; `digest` is the SHA-256 of the file's bytes, in hex."""

    path: str
    label: int
    digest: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that was left out, or that deserves a look, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled samples in three splits, the class names in the order of their labels, and what was left out.

    `skipped` are files that cannot be used; `conflicts` are pictures that stand under two labels. `fingerprint` is a
    digest over class names and (digest, label, split) of every sample, independent of paths and of their order.
    """

    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    test: tuple[Sample, ...]
    skipped: tuple[Problem, ...] = ()
    conflicts: tuple[Problem, ...] = ()
    fingerprint: str = ""


# ── Backbone ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How a picture becomes the model's input. `mean` and `std` are in units of 0..255 pixels, one per RGB channel.

    Resizing happens outside the graph (uint8 in, uint8 out); `(pixel - mean) / std` happens inside it.
    """

    height: int
    width: int
    fit: Fit = "stretch"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Backbone:
    """A frozen network as one ONNX file: `image` uint8 [N, height, width, 3] RGB → `features` float32 [N, dimension].

    `digest` is the SHA-256 of the file at `path`, in hex.
    """

    name: str
    path: Path
    preprocess: PreprocessSpec
    dimension: int
    digest: str
    precision: Precision = "fp32"
    licence: str = ""


@dataclass(frozen=True, slots=True)
class BackboneInfo:
    """What `tledge backbones` tells of one backbone. `input_size` is the side in pixels that it was trained at.

    `parameters` counts trainable numbers up to the features; `weights_hint` says how the weights come to this machine.
    """

    name: str
    input_size: int
    dimension: int
    parameters: int
    licence: str
    weights_available: bool
    weights_hint: str


# ── Features ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── Head ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class LinearHead:
    """probabilities = softmax(features @ weights + bias).

    `weights` is float32 [dimension, classes], `bias` float32 [classes]. `l2` is the strength that cross-validation
    chose; `path` is what it saw: (l2, held-out log loss, held-out accuracy).
    """

    weights: np.ndarray
    bias: np.ndarray
    l2: float
    path: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Figures of one class; `support` is its number of samples."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """Figures over one set of samples. `confusion[i][j]` counts samples of class i that were predicted as class j.

    `expected_calibration_error` uses fifteen equal bins of confidence (Guo et al. 2017); `log_loss` is in nats.
    """

    accuracy: float
    balanced_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    log_loss: float
    expected_calibration_error: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]


# ── Model ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class GoldenSample:
    """A picture at the model's input size (`png`, base64), and the `probabilities` it gave where it was exported."""

    png: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a model file says of itself, kept as JSON in its ONNX metadata under `tledge.manifest`."""

    schema_version: int
    tledge_version: str
    created: str
    backbone: str
    backbone_digest: str
    licence: str
    precision: Precision
    classes: tuple[str, ...]
    preprocess: PreprocessSpec
    accuracy: float
    test_samples: int
    data_fingerprint: str
    golden: tuple[GoldenSample, ...] = ()


# ── Documents: what the commands return ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class SampleCounts:
    """Number of samples in each split, after unusable files were left out."""

    train: int
    val: int
    test: int


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """How many pictures the backbone had to compute (`misses`), and how many were there already (`hits`).

    Equal files are computed once: the first may be a miss, the others are hits.
    """

    hits: int
    misses: int


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The document of `tledge train`, also in RUN/run.json. `seconds` holds scan, extract, fit, report, total."""

    schema_version: int
    tledge_version: str
    created: str
    run: str
    model: str
    bytes: int
    backbone: str
    head: str
    precision: Precision
    provider: str
    data: str
    test_data: str | None
    options: dict[str, Any]
    classes: tuple[str, ...]
    class_counts: dict[str, int]
    samples: SampleCounts
    cache: CacheCounts
    l2: float
    l2_path: tuple[tuple[float, float, float], ...]
    seconds: dict[str, float]
    metrics: Metrics
    val_metrics: Metrics | None
    fingerprint: str
    skipped: tuple[Problem, ...] = ()
    conflicts: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable class of one picture, and the probability of each class by name."""

    path: str
    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A test sample that the head got wrong, for the report: names of the true and the predicted class."""

    path: str
    label: str
    predicted: str
    probability: float


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Samples whose confidence fell between `low` and `high`: their mean confidence, accuracy and number."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that the report shows of a run: the run's document and what only a picture can tell."""

    result: TrainResult
    mistakes: tuple[Mistake, ...]
    reliability: tuple[ReliabilityBin, ...]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """What became of a model file's golden samples: `flips` changed their most probable class."""

    samples: int
    max_abs_diff: float
    flips: int
    tolerance: float
    passed: bool


@dataclass(frozen=True, slots=True)
class AccuracyChange:
    """Accuracy on the test pictures, of the run's float model (`before`) and of the exported one (`after`)."""

    before: float
    after: float


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
class ExportResult:
    """The document of `tledge export`. `seconds` holds quantize, extract, fit, total."""

    schema_version: int
    model: str
    bytes: int
    digest: str
    precision: Precision
    accuracy: AccuracyChange
    parity: Parity
    metrics: Metrics
    golden: GoldenCheck
    cache: CacheCounts
    seconds: dict[str, float]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluateResult:
    """The document of `tledge evaluate`."""

    schema_version: int
    model: str
    data: str
    samples: int
    precision: Precision
    provider: str
    metrics: Metrics
    seconds: float
    skipped: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictResult:
    """The document of `tledge predict`; pictures that cannot be read are in `skipped`."""

    schema_version: int
    model: str
    provider: str
    predictions: tuple[Prediction, ...]
    skipped: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The document of `tledge verify`."""

    schema_version: int
    model: str
    passed: bool
    digest: str
    golden: GoldenCheck
    precision: Precision
    provider: str
    classes: tuple[str, ...]
    backbone: str
    accuracy: float
    instruction_sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SingleStream:
    """Latency of one sample after the other, in ms; `p50_low_ms` to `p50_high_ms` holds the median at 99 %."""

    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    max_ms: float
    mean_ms: float
    p50_low_ms: float
    p50_high_ms: float


@dataclass(frozen=True, slots=True)
class Offline:
    """Throughput at the best batch size, and at each that was tried."""

    samples_per_second: float
    batch_size: int
    by_batch_size: dict[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Is the model slower than `against`? `ratio` is new over old latency, `low` to `high` its interval at 99 %.

    `outcome` is pass, regression (slower by more than `max_regression`) or inconclusive; `reason` says why.
    """

    outcome: Literal["pass", "regression", "inconclusive"]
    against: str
    ratio: float | None
    low: float | None
    high: float | None
    max_regression: float
    pairs: int
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The document of `tledge bench`. `scenarios` holds single_stream and offline, those that were asked for."""

    schema_version: int
    tledge_version: str
    created: str
    model: str
    digest: str
    bytes: int
    precision: Precision
    provider: str
    threads: int
    onnxruntime: str
    machine: dict[str, Any]
    load_ms: float
    warmup_runs: int
    scenarios: dict[str, SingleStream | Offline]
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class CacheSpace:
    """Feature vectors of one backbone, preprocessing and engine: how many, and their size."""

    label: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class CacheResult:
    """The document of `tledge cache info|verify|prune`; `checked` and `dropped` count feature rows."""

    schema_version: int
    folder: str
    bytes: int
    backbones: int
    backbone_bytes: int
    spaces: tuple[CacheSpace, ...]
    checked: int = 0
    dropped: int = 0
    dropped_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """The document of `tledge doctor`; `passed` is false when `problems` names something to mend."""

    schema_version: int
    passed: bool
    tledge_version: str
    machine: dict[str, Any]
    onnxruntime: dict[str, Any]
    packages: dict[str, str | None]
    kernels: dict[str, str]
    cache_dir: str
    cache_free_bytes: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BackbonesResult:
    """The document of `tledge backbones`."""

    schema_version: int
    backbones: tuple[BackboneInfo, ...]

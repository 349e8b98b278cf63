"""What the commands return; `--json` prints the same document, field by field."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tledge.schema.heads import Metrics
from tledge.schema.networks import BackboneInfo, Precision
from tledge.schema.samples import Kind, Problem


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
class CrossValidation:
    """How heads fitted to all folds but one did on that one, for each of `folds` folds of `samples` samples.

    `accuracy_std` is the standard deviation between folds.
    """

    folds: int
    samples: int
    accuracy_mean: float
    accuracy_std: float
    macro_f1_mean: float
    accuracies: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What was trained of the backbone: from `layer` up, on activations of `bytes` bytes, over `epochs` epochs."""

    layer: str
    layers: int
    activations: int
    bytes: int
    epochs: int
    seconds: float
    loss: tuple[float, ...] = ()
    accuracy: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The document of `tledge train`, also in RUN/run.json. `seconds` holds scan, extract, fit, report, total.

    `l2` is the strength that cross-validation chose, where the head has one; `facts` is all that fitting it chose.
    `threads` is how many the backbone and the solver were given; no linear head depends on it.
    """

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
    l2: float | None
    l2_path: tuple[tuple[float, float, float], ...]
    seconds: dict[str, float]
    metrics: Metrics
    val_metrics: Metrics | None
    fingerprint: str
    skipped: tuple[Problem, ...] = ()
    conflicts: tuple[Problem, ...] = ()
    remarks: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    multilabel: bool = False
    thresholds: tuple[float, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    views: int = 0
    cross_validation: CrossValidation | None = None
    fine_tuning: FineTuning | None = None
    threads: int = 0
    kind: Kind = "image"


@dataclass(frozen=True, slots=True)
class Compared:
    """One backbone of a comparison. `p50_ms` was measured here, batch 1; `pareto`: none is both better and faster."""

    backbone: str
    run: str
    accuracy: float
    macro_f1: float
    p50_ms: float
    bytes: int
    seconds: float
    pareto: bool


@dataclass(frozen=True, slots=True)
class CompareResult:
    """The document of `tledge train --backbone a,b,c`, also in OUT/comparison.json: fastest first."""

    schema_version: int
    out: str
    data: str
    test_samples: int
    backbones: tuple[Compared, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The class of one sample, its probability, and the probability of each class by name.

    `labels` are all the classes that were decided on: just `label`, or any number of them in a multi-label model.
    """

    path: str
    label: str
    probability: float
    probabilities: dict[str, float]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mistake:
    """A test sample that the head got wrong, for the report: names of the true and the predicted class.

    `value` is the sample itself where it is no file; `part` is from where to where in seconds it goes, of a longer
    sound.
    """

    path: str
    label: str
    predicted: str
    probability: float
    value: np.ndarray | str | None = field(default=None, compare=False, repr=False)
    kind: Kind = "image"
    part: tuple[float, float] | None = None


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


Outcome = Literal["same", "within_tolerance", "different"]


@dataclass(frozen=True, slots=True)
class NodeElsewhere:
    """A node that computes what becomes the output, and runs elsewhere than where the model was to run.

    `provider` is where it runs; it is `expected` there when no GPU provider of onnxruntime has a kernel for it: a
    forest or an SVM, and what comes behind it. Arithmetic on shapes, which belongs on the processor, is not listed.
    """

    name: str
    operator: str
    provider: str
    expected: bool


@dataclass(frozen=True, slots=True)
class GoldenCheck:
    """What became of a model file's golden samples: `flips` are those for which the model decides otherwise."""

    samples: int
    max_abs_diff: float
    flips: int
    tolerance: float
    passed: bool


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
class SignResult:
    """The document of `tledge sign`: `digest` is the model's, `bytes` the size of the file `signature`."""

    schema_version: int
    model: str
    digest: str
    signature: str
    bytes: int


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """The document of `tledge verify`.

    `signature` is valid (made by the owner of the key that was given), unchecked (it lies in `signature_file`, no key
    was given) or none. `outcome` puts `golden` in one word: same bit for bit, within tolerance, or different. Of
    `nodes_elsewhere` see NodeElsewhere; None where onnxruntime, older than 1.24, does not tell.
    """

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
    signature: Literal["valid", "unchecked", "none"] = "none"
    signature_file: str = ""
    outcome: Outcome = "different"
    nodes_elsewhere: tuple[NodeElsewhere, ...] | None = ()


@dataclass(frozen=True, slots=True)
class CacheSpace:
    """Feature vectors of one backbone, preprocessing and engine: how many, and their size."""

    label: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class CacheResult:
    """The document of `tledge cache info|verify|prune`; `checked` and `dropped` count feature rows.

    `backbones` counts graphs, those in int8 and fp16 among them, `engines` folders of TensorRT's engines and timings,
    `dropped_files` what of these was dropped; `dropped_bytes` holds both.
    """

    schema_version: int
    folder: str
    bytes: int
    backbones: int
    backbone_bytes: int
    spaces: tuple[CacheSpace, ...]
    checked: int = 0
    dropped: int = 0
    dropped_bytes: int = 0
    engines: int = 0
    engine_bytes: int = 0
    dropped_files: int = 0


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """The document of `tledge doctor`; `passed` is false when `problems` names something to mend.

    `gpu` is what the CUDA kernels run on; empty where there is no GPU, or none were built.
    """

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
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class BackbonesResult:
    """The document of `tledge backbones`."""

    schema_version: int
    backbones: tuple[BackboneInfo, ...]

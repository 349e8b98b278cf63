"""One model that could be exported: the file in memory, and how it compares with the run's float model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tledge import model, seal
from tledge.commands.exporting import budgets, keras_model
from tledge.commands.exporting.steps import Original, Steps
from tledge.schema import (
    Backbone,
    CacheCounts,
    Comparison,
    Features,
    GoldenCheck,
    Head,
    HeadChoice,
    Metrics,
    Quantization,
    QuantizeOptions,
)


@dataclass(frozen=True)
class Candidate:
    """A file ready to be written, and what it gives for the test samples; `golden` is None for what carries none."""

    precision: str
    content: bytes
    digest: str
    metrics: Metrics
    comparison: Comparison
    golden: GoldenCheck | None
    cache: CacheCounts
    float_nodes: tuple[str, ...] = ()
    float_layers: tuple[str, ...] = ()
    head_choice: HeadChoice | None = None
    quantization: Quantization | None = None


def fp32(steps: Steps, original: Original) -> Candidate:
    """Return the run's model as it is."""
    return _joined("fp32", steps, original, original.backbone, original.head, original.features)


def fp16(steps: Steps, original: Original) -> Candidate:
    """Return the run's model in half precision, with its own head."""
    backbone, features, float_nodes = steps.halve(original.backbone)
    return _joined("fp16", steps, original, backbone, original.head, features, float_nodes=float_nodes)


def int8(steps: Steps, original: Original, quantizing: QuantizeOptions) -> Candidate:
    """Return the run's model with an int8 backbone and the head that is the better one behind it."""
    backbone, quantization = steps.quantize(original.backbone, quantizing)
    features, head, choice = steps.fit_again(original, backbone)
    return _joined("int8", steps, original, backbone, head, features, head_choice=choice, quantization=quantization)


def mixed(steps: Steps, original: Original, how: Quantization, float_layers: tuple[str, ...]) -> Candidate:
    """Return what `int8` does with a backbone quantized as `how` says, but for `float_layers`."""
    backbone = steps.put_back(original.backbone, how, float_layers)
    features, head, choice = steps.fit_again(original, backbone)
    left = () if how.symmetric else model.float_nodes(backbone.path, float_layers)
    facts = {"head_choice": choice, "quantization": replace(how, float_nodes=left), "float_layers": float_layers}
    return _joined("int8", steps, original, backbone, head, features, **facts)


def keras(steps: Steps, original: Original, document: dict[str, Any], run: Path) -> Candidate:
    """Return the run's model as a .keras file; arguments and errors as in `keras_model.write`."""
    head, features = original.head, original.features
    with steps.clock.stage("build", "Building the Keras model"):
        content, rows = keras_model.write(
            document, run, steps.options, steps.dataset, original.backbone, head, features
        )
    scores = steps.measure(rows, head, features)
    found = replace(_compare("keras", steps, original, head, rows, scores), bytes=len(content))
    digest, counts = hashlib.sha256(content).hexdigest(), CacheCounts(features.hits, features.misses)
    return Candidate("keras", content, digest, scores, found, None, counts)


def _joined(
    precision: str, steps: Steps, original: Original, backbone: Backbone, head: Head, features: Features, **facts: Any
) -> Candidate:
    rows, scores = steps.score(head, features)
    content, golden = steps.build(backbone, head, features, rows, scores)
    found = replace(_compare(precision, steps, original, head, rows, scores), bytes=len(content))
    if steps.packaging.input == "image":
        found = replace(found, input_parity=steps.input_parity(content, backbone, head, features, rows))
    counts = CacheCounts(features.hits, features.misses)
    return Candidate(precision, content, seal.check_seal(content, "the model"), scores, found, golden, counts, **facts)


def _compare(
    precision: str, steps: Steps, original: Original, head: Head, rows: np.ndarray, scores: Metrics
) -> Comparison:
    decided = steps.decide(original.rows, original.head), steps.decide(rows, head)
    change, least = original.rows - rows, steps.limits.min_agreement
    return budgets.compare(precision, original.metrics, scores, decided, change, least)

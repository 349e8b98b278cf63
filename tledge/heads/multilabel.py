"""`multilabel`: a sigmoid per class, and per class the threshold with the highest F1 on rows that were held out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tledge.heads import calibration, dense, evidence, regression
from tledge.heads.task import Task, row_weights
from tledge.schema import Head

if TYPE_CHECKING:
    import onnx

USES: tuple[str, ...] = ()
NEEDS: tuple[str, ...] = ()
MULTILABEL = True


def fit(task: Task) -> Head:
    """Fit one sigmoid unit per class, all with one l2 strength and one temperature."""
    weights = row_weights(task.truth, task.options.class_weight)
    found = regression.fit(task.features, task.truth, weights, task.folds, len(task.classes))
    seen = evidence.gather(task, found.held_out, found.logits, lambda rows: rows @ found.weights + found.bias)
    facts = {"l2": found.l2, "temperature": seen.temperature(), "class_weight": task.options.class_weight}
    arrays = dense.one_layer(found.weights, found.bias, facts["temperature"])
    return Head("multilabel", arrays, facts, _thresholds(seen, facts["temperature"]), found.path)


def refit(head: Head, features: np.ndarray, truth: np.ndarray, repeats: int = 1) -> Head:
    """Fit other features with the strength, the temperature and the thresholds of `head`."""
    weights = row_weights(truth, head.facts["class_weight"])
    found = regression.refit(features, truth, weights, head.facts["l2"], len(head.arrays["bias"]))
    arrays = dense.one_layer(*found, head.facts["temperature"])
    return Head("multilabel", arrays, head.facts, head.thresholds, head.path)


def probabilities(head: Head, features: np.ndarray) -> np.ndarray:
    """Return the sigmoids of features @ weights + bias, float32 [n, classes], for `features` float32 [n, d]."""
    return dense.probabilities(head, features, "sigmoid")


def graph(head: Head, dimension: int) -> onnx.ModelProto:
    """Return Gemm and Sigmoid."""
    return dense.graph(head, "sigmoid")


def _thresholds(seen: evidence.Evidence, temperature: float) -> tuple[float, ...]:
    scores = calibration.sigmoid(seen.logits / temperature)
    bars = (calibration.threshold(*pair, "f1") for pair in zip(scores.T, seen.truth.T, strict=True))
    return tuple(0.5 if bar is None else bar for bar in bars)

"""`linear`: softmax regression with L2, its strength and its temperature from cross-validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tledge.heads import dense, evidence, regression
from tledge.heads.task import Task, row_weights
from tledge.schema import Head

if TYPE_CHECKING:
    import onnx

USES: tuple[str, ...] = ()
NEEDS: tuple[str, ...] = ()
MULTILABEL = False


def fit(task: Task) -> Head:
    """Fit a softmax over one affine layer. `facts` hold the l2 strength and the temperature that is in the weights."""
    weights = row_weights(task.truth, task.options.class_weight)
    found = regression.fit(task.features, task.truth, weights, task.folds, len(task.classes))
    seen = evidence.gather(task, found.held_out, found.logits, lambda rows: rows @ found.weights + found.bias)
    facts = {"l2": found.l2, "temperature": seen.temperature(), "class_weight": task.options.class_weight}
    return Head("linear", dense.one_layer(found.weights, found.bias, facts["temperature"]), facts, (), found.path)


def refit(head: Head, features: np.ndarray, truth: np.ndarray, repeats: int = 1) -> Head:
    """Fit other features with the strength and the temperature of `head`."""
    weights = row_weights(truth, head.facts["class_weight"])
    found = regression.refit(features, truth, weights, head.facts["l2"], len(head.arrays["bias"]))
    arrays = dense.one_layer(*found, head.facts["temperature"])
    return Head("linear", arrays, head.facts, head.thresholds, head.path)


def probabilities(head: Head, features: np.ndarray) -> np.ndarray:
    """Return softmax(features @ weights + bias), float32 [n, classes], for `features` float32 [n, d]."""
    return dense.probabilities(head, features, "softmax")


def graph(head: Head, dimension: int) -> onnx.ModelProto:
    """Return Gemm and Softmax."""
    return dense.graph(head, "softmax")

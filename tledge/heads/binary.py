"""`binary`: one sigmoid unit for two classes, and the threshold from which it is the second class.

The fit is that of `linear`: a softmax over two classes and the sigmoid of their difference are one model. The threshold
is chosen on rows that the head was not fitted to: the one with the highest balanced accuracy, which does not depend on
how frequent each class is; or, when a positive class is named, the one with the highest F1 of that class, for who names
one wants to find it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tledge.heads import calibration, dense, evidence, regression
from tledge.heads.task import Task, row_weights
from tledge.schema import Head

if TYPE_CHECKING:
    import onnx

USES: tuple[str, ...] = ("positive",)
NEEDS: tuple[str, ...] = ()
MULTILABEL = False


def fit(task: Task) -> Head:
    """Fit one sigmoid unit, the probability of the second class. `thresholds` are those of both classes."""
    weights = row_weights(task.truth, task.options.class_weight)
    found = regression.fit(task.features, task.truth, weights, task.folds, 2)
    unit, offset = _one_unit(found.weights, found.bias)
    seen = evidence.gather(task, found.held_out, found.logits, lambda rows: rows @ found.weights + found.bias)
    facts = {"l2": found.l2, "temperature": seen.temperature(), "class_weight": task.options.class_weight}
    arrays = dense.one_layer(unit, offset, facts["temperature"])
    return Head("binary", arrays, facts, _thresholds(task, seen, facts["temperature"]), found.path)


def refit(head: Head, features: np.ndarray, truth: np.ndarray, repeats: int = 1) -> Head:
    """Fit other features with the strength, the temperature and the threshold of `head`."""
    weights = row_weights(truth, head.facts["class_weight"])
    unit = _one_unit(*regression.refit(features, truth, weights, head.facts["l2"], 2))
    return Head("binary", dense.one_layer(*unit, head.facts["temperature"]), head.facts, head.thresholds, head.path)


def probabilities(head: Head, features: np.ndarray) -> np.ndarray:
    """Return 1 − p and p, float32 [n, 2], for `features` float32 [n, d]; p is the sigmoid."""
    return dense.probabilities(head, features, "pair")


def graph(head: Head, dimension: int) -> onnx.ModelProto:
    """Return Gemm and Sigmoid, and what makes two columns of one."""
    return dense.graph(head, "pair")


def _one_unit(weights: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]


def _thresholds(task: Task, seen: evidence.Evidence, temperature: float) -> tuple[float, float]:
    second = calibration.sigmoid((seen.logits[:, 1] - seen.logits[:, 0]) / temperature)
    is_second = seen.truth == 1
    if task.options.positive is None:
        bar = calibration.threshold(second, is_second, "balanced_accuracy")
    elif task.options.positive == task.classes[1]:
        bar = calibration.threshold(second, is_second, "f1")
    else:
        of_first = calibration.threshold(1 - second, ~is_second, "f1")
        bar = None if of_first is None else 1 - of_first
    bar = 0.5 if bar is None else bar
    return 1 - bar, bar

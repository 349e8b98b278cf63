"""How good predictions are.

Source for the calibration error: Guo et al., On Calibration of Modern Neural Networks, 2017.
"""

from __future__ import annotations

import numpy as np

from tledge.schema import ClassMetrics, Metrics, ReliabilityBin

_BINS = 15


def evaluate(probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Metrics:
    """Return the metrics of `probabilities` float [n, classes] against `labels` int [n]; n must be at least 1.

    A class without samples counts in no average; a class never predicted has precision 0.
    """
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    hit, support, claimed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    precision, recall = _ratio(hit, claimed), _ratio(hit, support)
    f1 = _ratio(2 * hit, support + claimed)
    there = support > 0
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return Metrics(
        accuracy=float(hit.sum() / len(labels)),
        balanced_accuracy=float(recall[there].mean()),
        macro_precision=float(precision[there].mean()),
        macro_recall=float(recall[there].mean()),
        macro_f1=float(f1[there].mean()),
        log_loss=float(-np.log(np.maximum(chosen, 1e-15)).mean()),
        expected_calibration_error=_calibration_error(reliability(probabilities, labels), len(labels)),
        per_class=tuple(
            ClassMetrics(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, name in enumerate(classes)
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """Group predictions into fifteen equal bins of confidence; empty bins are left out."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return tuple(
        ReliabilityBin(
            i / _BINS,
            (i + 1) / _BINS,
            float(confidence[inside].mean()),
            float(correct[inside].mean()),
            int(inside.sum()),
        )
        for i in range(_BINS)
        if (inside := which == i).any()
    )


def _calibration_error(bins: tuple[ReliabilityBin, ...], total: int) -> float:
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / total


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)

"""How good predictions are.

Source for the calibration error: Guo et al., On Calibration of Modern Neural Networks, 2017.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tledge import decisions
from tledge.heads import ranking
from tledge.schema import ClassMetrics, Metrics, ReliabilityBin

_BINS = 15
_LOWEST = 1e-15


def evaluate(
    probabilities: np.ndarray,
    truth: np.ndarray,
    classes: tuple[str, ...],
    thresholds: tuple[float, ...] = (),
    multilabel: bool = False,
) -> Metrics:
    """Return the metrics of `probabilities` float [n, classes], decided by `thresholds`; n must be at least 1.

    `truth` is int [n], of a `multilabel` set bool [n, classes]. A class without samples counts in no average; a class
    never predicted has precision 0.
    """
    if multilabel:
        return _of_several(probabilities, truth, classes, decisions.predicted(probabilities, thresholds, True))
    return _of_one(probabilities, truth, classes, thresholds)


def reliability(
    probabilities: np.ndarray, truth: np.ndarray, thresholds: tuple[float, ...] = ()
) -> tuple[ReliabilityBin, ...]:
    """Group predictions into fifteen equal bins of confidence; empty bins are left out.

    Confidence is the probability of the class that is predicted. Where `truth` is bool [n, classes] it is the
    probability of each class, and the accuracy of a bin is how often the class is there.
    """
    if truth.ndim == 2:
        return _bins(probabilities.ravel(), truth.ravel())
    chosen = decisions.chosen(probabilities, thresholds)
    return _bins(probabilities[np.arange(len(chosen)), chosen], chosen == truth)


def _of_one(
    probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], thresholds: tuple[float, ...]
) -> Metrics:
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, decisions.chosen(probabilities, thresholds)), 1)
    hit, support, claimed = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    own = probabilities[np.arange(len(labels)), labels]
    there, recall = support > 0, _ratio(hit, support)
    return Metrics(
        accuracy=float(hit.sum() / len(labels)),
        balanced_accuracy=float(recall[there].mean()),
        **_averages(hit, support, claimed),
        log_loss=_cost(own),
        expected_calibration_error=_calibration_error(reliability(probabilities, labels, thresholds), len(labels)),
        per_class=_per_class(classes, hit, support, claimed, (None,) * len(classes)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        roc_auc=ranking.roc_auc(probabilities[:, 1], labels == 1) if len(classes) == 2 else None,
    )


def _of_several(
    probabilities: np.ndarray, targets: np.ndarray, classes: tuple[str, ...], predicted: np.ndarray
) -> Metrics:
    hit, support, claimed = (each.sum(axis=0) for each in (predicted & targets, targets, predicted))
    absent = len(targets) - support
    specificity = _ratio(absent - (claimed - hit), absent)
    both = (support > 0) & (absent > 0)
    balanced = (_ratio(hit, support) + specificity) / 2
    areas = [ranking.average_precision(*pair) for pair in zip(probabilities.T, targets.T, strict=True)]
    known = [area for area in areas if area is not None]
    return Metrics(
        accuracy=float((predicted == targets).all(axis=1).mean()),
        balanced_accuracy=float(balanced[both].mean()) if both.any() else 0.0,
        **_averages(hit, support, claimed),
        log_loss=_cost(np.where(targets, probabilities, 1 - probabilities)),
        expected_calibration_error=_calibration_error(reliability(probabilities, targets), targets.size),
        per_class=_per_class(classes, hit, support, claimed, areas),
        confusion=(),
        mean_average_precision=float(np.mean(known)) if known else None,
        hamming_loss=float((predicted != targets).mean()),
    )


def _averages(hit: np.ndarray, support: np.ndarray, claimed: np.ndarray) -> dict[str, float]:
    there = support > 0
    measures = {
        "macro_precision": _ratio(hit, claimed),
        "macro_recall": _ratio(hit, support),
        "macro_f1": _ratio(2 * hit, support + claimed),
    }
    return {name: float(values[there].mean()) if there.any() else 0.0 for name, values in measures.items()}


def _per_class(
    classes: tuple[str, ...], hit: np.ndarray, support: np.ndarray, claimed: np.ndarray, areas: Iterable[float | None]
) -> tuple[ClassMetrics, ...]:
    columns = (_ratio(hit, claimed), _ratio(hit, support), _ratio(2 * hit, support + claimed), support, claimed, hit)
    rows = zip(classes, *(column.tolist() for column in columns), areas, strict=True)
    return tuple(ClassMetrics(*row) for row in rows)


def _cost(own: np.ndarray) -> float:
    """Return the mean of −log of the probabilities of what is true."""
    return float(-np.log(np.maximum(own.astype(np.float64), _LOWEST)).mean())


def _bins(confidence: np.ndarray, correct: np.ndarray) -> tuple[ReliabilityBin, ...]:
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

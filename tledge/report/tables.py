"""What the tables of the report hold: sorted, normalised and cut to what a reader can take in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tledge.schema import ClassMetrics, Metrics, TrainResult

MATRIX_CLASSES = 30
PAIRS_SHOWN = 20
_STAGES = {
    "scan": "Find and fingerprint the samples",
    "backbone": "Find or convert the backbone",
    "extract": "Compute or fetch features",
    "tune": "Fine-tune the backbone",
    "fit": "Fit the head",
    "report": "Write this report",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the confusion matrix: how many, and which share (0..1) of the samples of the true class.

    `heat` (0..1) is the strength of its colour.
    """

    count: int
    share: float
    heat: float
    right: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """`count` samples of class `label`, a `share` (0..1) of all its samples, were taken for class `predicted`."""

    label: str
    predicted: str
    count: int
    of: int
    share: float


@dataclass(frozen=True, slots=True)
class Stage:
    """Time that one stage took, and its `share` (0..1) of the longest stage."""

    name: str
    seconds: float
    share: float


def figures(result: TrainResult) -> list[tuple[str, str, float, float | None]]:
    """Return (name, unit, on the test split, on the validation split) for every overall figure."""
    test, val = result.metrics, result.val_metrics
    names = [
        ("Accuracy", "share", "accuracy"),
        ("Balanced accuracy", "share", "balanced_accuracy"),
        ("Macro precision", "share", "macro_precision"),
        ("Macro recall", "share", "macro_recall"),
        ("Macro F1", "share", "macro_f1"),
        ("Expected calibration error", "share", "expected_calibration_error"),
        ("Log loss (nats)", "number", "log_loss"),
    ]
    names += [
        (name, "share", key)
        for name, key in (("ROC AUC", "roc_auc"), ("Mean average precision", "mean_average_precision"))
        if getattr(test, key) is not None
    ]
    return [(name, unit, getattr(test, key), getattr(val, key) if val else None) for name, unit, key in names]


def weakest_first(metrics: Metrics) -> list[ClassMetrics]:
    """Return the classes from the lowest F1 to the highest; classes without a sample come last."""
    return sorted(metrics.per_class, key=lambda each: (each.support == 0, each.f1))


def confusion(metrics: Metrics) -> list[tuple[str, list[Cell]]]:
    """Return (true class, its cells) per row, or nothing when the matrix is too large to be read."""
    if len(metrics.confusion) > MATRIX_CLASSES or not metrics.confusion:
        return []
    return [
        (each.name, [_cell(count, _share(count, row), i == j) for j, count in enumerate(row)])
        for i, (each, row) in enumerate(zip(metrics.per_class, metrics.confusion, strict=True))
    ]


def confused_pairs(metrics: Metrics) -> list[Pair]:
    """Return the most frequent confusions, the most frequent first."""
    names = [each.name for each in metrics.per_class]
    pairs = [
        Pair(names[i], names[j], count, sum(row), _share(count, row))
        for i, row in enumerate(metrics.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.share))[:PAIRS_SHOWN]


def tested(result: TrainResult) -> int:
    """Return the number of test samples."""
    return result.samples.test if result.multilabel else sum(map(sum, result.metrics.confusion))


def right(result: TrainResult) -> int:
    """Return the number of test samples that were decided correctly: of several labels, on every one of them."""
    if result.multilabel:
        return round(result.metrics.accuracy * result.samples.test)
    return sum(row[i] for i, row in enumerate(result.metrics.confusion))


def stages(seconds: dict[str, float]) -> list[Stage]:
    """Return the stages of a run in their order, and what the total holds beyond them as a stage of its own."""
    known = {name: value for name, value in seconds.items() if name != "total"}
    rest = seconds.get("total", 0.0) - sum(known.values())
    if rest > 0.005:
        known["everything else"] = rest
    longest = max(known.values(), default=0.0) or 1.0
    return [Stage(_STAGES.get(name, name.capitalize()), value, value / longest) for name, value in known.items()]


def _cell(count: int, share: float, right: bool) -> Cell:
    # The root lifts a confusion of a few percent out of the background, where a linear colour would hide it.
    return Cell(count, share, round(math.sqrt(share), 3), right)


def _share(count: int, row: tuple[int, ...]) -> float:
    return count / sum(row) if any(row) else 0.0

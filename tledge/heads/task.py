"""What a head is fitted to: rows, truth, and how much each row counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tledge.schema import Features, HeadOptions, Sample

_IMBALANCE = 3.0


@dataclass(frozen=True, slots=True)
class Task:
    """One fit: `features` float32 [n, d] and their `truth`, what was asked for, and rows to check it on.

    `truth` is int [n], or bool [n, classes] where a sample has any number of labels. `folds` int [n] is the fold in
    which a row is held out, -1 for never. `validation` are further features and their truth, or None.
    """

    features: np.ndarray
    truth: np.ndarray
    classes: tuple[str, ...]
    folds: np.ndarray
    options: HeadOptions = field(default_factory=HeadOptions)
    seed: int = 0
    validation: tuple[np.ndarray, np.ndarray] | None = None


def labels(samples: Sequence[Sample]) -> np.ndarray:
    """Return the labels of `samples` as int [n]."""
    return np.array([sample.label for sample in samples], np.int64)


def targets(samples: Sequence[Sample], classes: int) -> np.ndarray:
    """Return bool [n, classes]: which labels each of `samples` has, of a single-label set its one label."""
    marked = np.zeros((len(samples), classes), bool)
    for row, sample in zip(marked, samples, strict=True):
        row[list(sample.labels or ([sample.label] if sample.label >= 0 else []))] = True
    return marked


def truth(features: Features, classes: int, multilabel: bool) -> np.ndarray:
    """Return what the samples of `features` are: int [n], or of a `multilabel` set bool [n, classes]."""
    return targets(features.samples, classes) if multilabel else labels(features.samples)


def row_weights(truth: np.ndarray, class_weight: str) -> np.ndarray:
    """Return how much each row counts, float32, 1 on average: [n], or [n, classes] where `truth` is.

    Balanced gives every class that has rows the same sum, and of several labels a class's yes and no the same sum.
    Auto does so when the largest class has more than three times the rows of the smallest.
    """
    counts = truth.sum(axis=0) if truth.ndim == 2 else np.bincount(truth)
    there = counts[counts > 0]
    even = not len(there) or there.max() <= _IMBALANCE * there.min()
    if class_weight == "none" or (class_weight == "auto" and even):
        return np.ones(truth.shape, np.float32)
    if truth.ndim == 2:
        return np.stack([_balanced(column.astype(np.int64)) for column in truth.T], axis=1)
    return _balanced(truth)


def _balanced(truth: np.ndarray) -> np.ndarray:
    counts = np.bincount(truth)
    return (len(truth) / ((counts > 0).sum() * np.maximum(counts, 1)))[truth].astype(np.float32)

"""How well scores put the samples that have a class before those that do not, whatever the threshold."""

from __future__ import annotations

import numpy as np


def roc_auc(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the share of pairs of a true and a false sample that `scores` [n] put in order, ties as half.

    `truth` is bool [n]; None where it holds one of both only.
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place][truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float | None:
    """Return the sum over falling thresholds of (recall gained) · precision, equal `scores` [n] as one threshold.

    `truth` is bool [n]; None where none is true.
    """
    if not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.r_[np.diff(scores[order]) != 0, True])
    hits = np.cumsum(truth[order])[last]
    gained = np.diff(hits, prepend=0) / truth.sum()
    return float((gained * hits / (last + 1)).sum())

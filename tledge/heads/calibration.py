"""Probabilities that mean what they say: a temperature, and the thresholds to decide by.

Source of temperature scaling: Guo et al., On Calibration of Modern Neural Networks, 2017.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_LOWEST = 1e-15
_RANGE = np.log(30.0)
_STEPS = 40
_GOLDEN = (5**0.5 - 1) / 2
# Of log T, around 0: as much as one row of evidence, so that a handful of rows moves the temperature little.
_PRIOR_SPREAD = 1.0
_BY_CHANCE = 1.0


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^-z), without overflow."""
    faded = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1, faded) / (1 + faded)


def log_loss(logits: np.ndarray, truth: np.ndarray, row_weights: np.ndarray | None = None) -> float:
    """Return the weighted mean of −log p(truth) in nats, p a softmax of `logits` [n, classes] for `truth` int [n].

    For `truth` bool [n, classes] it is that of sigmoids, over all rows and classes. `row_weights` as `truth`. It is 0
    without rows.
    """
    if not len(logits):
        return 0.0
    if truth.ndim == 2:
        share = sigmoid(logits)
        own = np.where(truth, share, 1 - share)
    else:
        own = softmax(logits)[np.arange(len(truth)), truth]
    return float(-np.average(np.log(np.maximum(own, _LOWEST)), weights=row_weights))


def accuracy(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of rows whose largest logit is their class's; of several labels, of decisions at one half."""
    if truth.ndim == 2:
        return float(((logits >= 0) == truth).mean())
    return float((logits.argmax(axis=1) == truth).mean())


def temperature(logits: np.ndarray, truth: np.ndarray, row_weights: np.ndarray | None = None) -> float:
    """Return T > 0 so that `logits` / T have the lowest log loss on rows that they were not fitted to; 1 without rows.

    Shapes as for `log_loss`. A weak prior keeps T near 1 on few rows. T is 1 unless dividing by it lowers the loss by
    more, over all rows, than the one nat that a free parameter gains by chance (Akaike's criterion).
    """
    if not len(logits):
        return 1.0

    def cost(log_t: float) -> float:
        return log_loss(logits / np.exp(log_t), truth, row_weights) * len(logits) + (log_t / _PRIOR_SPREAD) ** 2 / 2

    best = float(np.exp(_lowest_point(cost)))
    gain = log_loss(logits, truth, row_weights) - log_loss(logits / best, truth, row_weights)
    return best if gain * len(logits) > _BY_CHANCE else 1.0


def _lowest_point(cost: Callable[[float], float]) -> float:
    """Find the minimum by golden-section search: the loss has one valley in 1 / T."""
    low, high = -_RANGE, _RANGE
    for _ in range(_STEPS):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if cost(left) <= cost(right):
            high = right
        else:
            low = left
    return (low + high) / 2


def threshold(scores: np.ndarray, truth: np.ndarray, measure: str) -> float | None:
    """Return the threshold for `scores` [n] in 0..1 that is best for `truth` bool [n] by `measure`.

    `measure` is f1 (of the true rows) or balanced_accuracy. Thresholds lie half-way between neighbouring scores; of
    equally good ones the nearest to one half is taken. None where one of both kinds of row is missing.
    """
    if truth.all() or not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order].astype(np.float64)
    hits, claimed = np.cumsum(truth[order]), np.arange(1, len(scores) + 1)
    last = np.flatnonzero(np.r_[ranked[:-1] != ranked[1:], True])
    hits, claimed, bars = hits[last], claimed[last], _half_way(ranked[last])
    if measure == "f1":
        value = 2 * hits / (claimed + truth.sum())
    else:
        value = (hits / truth.sum() + 1 - (claimed - hits) / (~truth).sum()) / 2
    good = np.flatnonzero(value >= value.max() - 1e-12)
    return float(bars[good[np.abs(bars[good] - 0.5).argmin()]])


def _half_way(distinct: np.ndarray) -> np.ndarray:
    """Return for each of the falling scores a bar that it passes and the next one does not."""
    below = np.r_[distinct[1:], 0.0]
    middle = ((distinct + below) / 2).astype(np.float32)
    return np.where((middle > below) & (middle <= distinct), middle, distinct)

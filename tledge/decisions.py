"""Probabilities → classes: one rule for training, serving and measuring."""

from __future__ import annotations

import numpy as np

_EVEN = 0.5


def chosen(probabilities: np.ndarray, thresholds: tuple[float, ...] = ()) -> np.ndarray:
    """Return the one class int [n] of each row of `probabilities` [n, classes].

    It is the most probable; of two classes with `thresholds`, the second when it is at or above its own.
    """
    if thresholds and probabilities.shape[1] == 2:
        return (probabilities[:, 1] >= thresholds[1]).astype(np.int64)
    return probabilities.argmax(axis=1)


def predicted(probabilities: np.ndarray, thresholds: tuple[float, ...] = (), multilabel: bool = False) -> np.ndarray:
    """Return bool [n, classes], the classes that each row of `probabilities` [n, classes] stands for.

    Of a `multilabel` model every class at or above its threshold, one half where there are none: any number of them.
    Else exactly one, the one that is `chosen`.
    """
    if multilabel:
        bars = np.asarray(thresholds or (_EVEN,) * probabilities.shape[1], probabilities.dtype)
        return probabilities >= bars
    return chosen(probabilities, thresholds)[:, None] == np.arange(probabilities.shape[1])

"""A head that was trained together with its backbone: nothing is left to fit but the temperature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tledge.heads import dense
from tledge.heads.calibration import temperature
from tledge.heads.task import labels, row_weights, truth
from tledge.schema import Features, Head, Sample


def ready(kind: str, weights: np.ndarray, bias: np.ndarray, validation: Features | None = None) -> Head:
    """Return `weights` float32 [d, classes] and `bias` float32 [classes] as a head: linear, or multilabel.

    `validation` features, which had no part in the training, give the temperature; it is 1 without them.
    """
    found = 1.0
    if validation is not None and validation.samples:
        known = truth(validation, len(bias), kind == "multilabel")
        found = temperature(validation.matrix @ weights + bias, known)
    return Head(kind, dense.one_layer(weights, bias, found), {"temperature": found, "trained_with_backbone": True})


def class_weights(samples: Sequence[Sample], classes: int, class_weight: str) -> np.ndarray:
    """Return how much each class counts, float32 [classes], for `samples` of one label each."""
    known = labels(samples)
    rows = row_weights(known, class_weight)
    return np.array([rows[known == label].mean() for label in range(classes)], np.float32)

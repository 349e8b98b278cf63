"""Features → Head: one file per kind of head, one line each in `HEADS`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tledge.errors import TledgeError, did_you_mean
from tledge.heads import folds, linear
from tledge.schema import Features, LinearHead, Sample

HEADS = {"linear": linear}


def check_name(head: str) -> None:
    """Raise TledgeError unless `head` is a kind of head."""
    if head not in HEADS:
        raise TledgeError(f"There is no head called {head!r}.", did_you_mean(head, HEADS))


def fit(head: str, features: Features, classes: int, seed: int) -> LinearHead:
    """Fit `head` to all rows of `features`, its regularisation chosen by cross-validation on them."""
    return HEADS[head].fit(features.matrix, labels(features.samples), folds.assign(features.samples, seed), classes)


def refit(head: str, fitted: LinearHead, *features: Features) -> LinearHead:
    """Fit `fitted`, a head of kind `head`, to all rows of all `features`, as strongly regularised as it was."""
    matrix = np.concatenate([each.matrix for each in features])
    return HEADS[head].refit(fitted, matrix, np.concatenate([labels(each.samples) for each in features]))


def probabilities(head: str, fitted: LinearHead, matrix: np.ndarray) -> np.ndarray:
    """Return float32 [n, classes] of `fitted`, a head of kind `head`, on `matrix` float32 [n, dimension]."""
    return HEADS[head].probabilities(fitted, matrix)


def labels(samples: Sequence[Sample]) -> np.ndarray:
    """Return the labels of `samples` as int [n]."""
    return np.array([sample.label for sample in samples], np.int64)

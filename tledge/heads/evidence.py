"""What a head is calibrated on: logits of rows that it was not fitted to, and what those rows are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tledge.heads import calibration
from tledge.heads.task import Task, row_weights


@dataclass(frozen=True, slots=True)
class Evidence:
    """`logits` float [m, outputs] and their `truth` and `weights`, as `calibration.log_loss` takes them."""

    logits: np.ndarray
    truth: np.ndarray
    weights: np.ndarray

    def temperature(self) -> float:
        """Return the temperature that suits the logits best."""
        return calibration.temperature(self.logits, self.truth, self.weights)


def gather(
    task: Task, held_out: np.ndarray, held_out_logits: np.ndarray, logits: Callable[[np.ndarray], np.ndarray]
) -> Evidence:
    """Return what the head says of the validation features where there are any (`logits` computes it), else of others.

    Those are the rows `held_out` int [m] of the task with `held_out_logits` [m, outputs] from fits without them; rows
    of a class that was held out as a whole say nothing of the head and are left out.
    """
    if task.validation is not None:
        features, truth = task.validation
        return Evidence(logits(features), truth, row_weights(truth, task.options.class_weight))
    weights = row_weights(task.truth, task.options.class_weight)
    fair = _class_was_fitted(task)[held_out]
    rows = held_out[fair]
    return Evidence(held_out_logits[fair], task.truth[rows], weights[rows])


def first_fold(task: Task) -> np.ndarray:
    """Return the rows of the first fold, int [m], but for those of a class that has no other rows."""
    return np.flatnonzero((task.folds == 0) & _class_was_fitted(task))


def _class_was_fitted(task: Task) -> np.ndarray:
    """Return bool [n]: is a row's class among the rows that are fitted while its own fold is held out?"""
    if task.truth.ndim == 2:
        return np.ones(len(task.truth), bool)
    known = np.ones(len(task.truth), bool)
    for fold in range(int(task.folds.max()) + 1):
        inside = task.folds == fold
        known[inside] = np.isin(task.truth[inside], task.truth[~inside])
    return known

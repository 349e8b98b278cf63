"""`centroid`: linear discriminant analysis with a shrunk covariance, for a few samples per class.

    logits(x)[k] = x·Σ⁻¹m_k − ½ m_k·Σ⁻¹m_k + log share_k,   Σ = (1 − s) S + s (tr S / d) I

S is the covariance within the classes, m_k their means. The shrinkage s is that of Ledoit and Wolf, A well-conditioned
estimator for large-dimensional covariance matrices, 2004, which needs nothing to be tuned. Whichever of S and the Gram
matrix of the rows is smaller is worked with, so that a few rows of very many features are cheap. Where every class has
one sample there is no S: what is left is the nearest class mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tledge.errors import TledgeError
from tledge.heads import dense, evidence, regression
from tledge.heads.task import Task, row_weights
from tledge.schema import Head

if TYPE_CHECKING:
    import onnx

USES: tuple[str, ...] = ()
NEEDS: tuple[str, ...] = ()
MULTILABEL = False
_LARGEST = 8192  # rows or columns of the matrix that is solved with: 0.5 GB in double precision
# Without a spread within the classes: how far ahead, in nats, a class is on its own mean, on average over the others.
_LEAD = 4.0
_FAR_BELOW = 50.0  # nats: what a class without samples stands below the others


def fit(task: Task) -> Head:
    """Fit the discriminants. `facts` hold the shrinkage and the temperature that is in the weights.

    A class weight settles how frequent each class is taken to be: `balanced` takes all for equally frequent. Raises
    TledgeError when there are too many rows of too many features.
    """
    classes, weighting = len(task.classes), task.options.class_weight
    weights, bias, shrinkage = _discriminants(task.features, task.truth, classes, weighting)
    held_out, logits = _held_out(task) if task.validation is None else (np.empty(0, np.int64), np.empty((0, classes)))
    seen = evidence.gather(task, held_out, logits, lambda rows: rows @ weights + bias)
    facts = {"shrinkage": shrinkage, "temperature": seen.temperature(), "class_weight": weighting}
    return Head("centroid", dense.one_layer(weights, bias, facts["temperature"]), facts)


def refit(head: Head, features: np.ndarray, truth: np.ndarray, repeats: int = 1) -> Head:
    """Fit other features with the temperature of `head`; the shrinkage follows from the rows."""
    classes, weighting = len(head.arrays["bias"]), head.facts["class_weight"]
    weights, bias, shrinkage = _discriminants(features, truth, classes, weighting)
    arrays = dense.one_layer(weights, bias, head.facts["temperature"])
    return Head("centroid", arrays, head.facts | {"shrinkage": shrinkage}, head.thresholds)


def probabilities(head: Head, features: np.ndarray) -> np.ndarray:
    """Return the softmax of the discriminants, float32 [n, classes], for `features` float32 [n, d]."""
    return dense.probabilities(head, features, "softmax")


def graph(head: Head, dimension: int) -> onnx.ModelProto:
    """Return Gemm and Softmax."""
    return dense.graph(head, "softmax")


def _held_out(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that fits without them can be judged on, and the logits that those fits give."""
    rows, logits = [], []
    for fold in range(int(task.folds.max()) + 1):
        inside = np.flatnonzero(task.folds == fold)
        fitted = task.folds != fold
        weights, bias, _ = _discriminants(
            task.features[fitted], task.truth[fitted], len(task.classes), task.options.class_weight
        )
        rows.append(inside)
        logits.append(task.features[inside] @ weights + bias)
    return np.concatenate(rows), np.concatenate(logits).astype(np.float64)


def _discriminants(
    features: np.ndarray, labels: np.ndarray, classes: int, weighting: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return weights float32 [d, classes], bias float32 [classes] and the shrinkage, of features as they come."""
    mean, scale = regression.standardisation(features)
    x = ((features - mean) / scale).astype(np.float64)
    share = np.bincount(labels, row_weights(labels, weighting), classes) / len(labels)
    counts = np.bincount(labels, minlength=classes)
    means = np.zeros((classes, x.shape[1]))
    np.add.at(means, labels, x)
    means /= np.maximum(counts, 1)[:, None]
    solved, shrinkage = _solve(x - means[labels], means, counts > 0)
    prior = np.where(share > 0, np.log(np.maximum(share, 1e-12)), -_FAR_BELOW)
    offset = prior - 0.5 * (solved * means).sum(axis=1)
    weights = (solved / scale).T
    bias = offset - mean.astype(np.float64) @ weights
    return weights.astype(np.float32), bias.astype(np.float32), shrinkage


def _solve(rest: np.ndarray, means: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, float]:
    """Return Σ⁻¹ times each of `means` [classes, d], and the shrinkage; `rest` [n, d] are rows less their mean."""
    count, dimension = rest.shape
    if min(count, dimension) > _LARGEST:
        raise TledgeError(
            f"The centroid head takes at most {_LARGEST} samples of so many features ({dimension}), found {count}.",
            "Use --head linear.",
        )
    wide = dimension > count
    product = rest @ rest.T if wide else rest.T @ rest
    level = float(np.trace(product)) / (count * dimension)
    if level <= 1e-12:
        return means * _scale_without_spread(means[there]), 1.0
    shrinkage = _shrinkage(product, rest, level)
    ridge = max(shrinkage, 1e-6) * level
    keep = (1 - shrinkage) / count
    inner = keep * product + ridge * np.eye(len(product))
    if not wide:
        return np.linalg.solve(inner, means.T).T, shrinkage
    # Woodbury: (ridge·I + keep·RᵀR)⁻¹ = (I − keep·Rᵀ(ridge·I + keep·RRᵀ)⁻¹R) / ridge
    correction = rest.T @ np.linalg.solve(inner, rest @ means.T)
    return (means - keep * correction.T) / ridge, shrinkage


def _shrinkage(product: np.ndarray, rest: np.ndarray, level: float) -> float:
    """Return the shrinkage in 0..1 of Ledoit and Wolf; the Frobenius norms of RᵀR and RRᵀ are the same."""
    count, dimension = rest.shape
    squared = float(np.square(product).sum()) / count**2
    fourth = float(np.square(np.square(rest).sum(axis=1)).sum()) / count
    noise = max(0.0, (fourth - squared) / count)
    distance = squared - dimension * level**2
    return min(1.0, noise / distance) if distance > 0 else 1.0


def _scale_without_spread(means: np.ndarray) -> float:
    """Return by what to multiply squared distances so that a class leads by `_LEAD` on its own mean, on average."""
    count = len(means)
    spread = np.square(means - means.mean(axis=0)).sum() * 2 / max(1, count - 1)
    return 2 * _LEAD / spread if spread > 0 else 1.0

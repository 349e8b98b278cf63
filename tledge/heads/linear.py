"""Softmax regression with L2, its strength chosen by cross-validation on the cached features.

    loss(W, b) = mean over samples of −log softmax(x W + b)[label] + (l2 / 2) · ‖W‖²,  x standardised

Standardisation is folded into the weights afterwards, so the head takes features as the backbone gives them.
All folds are fitted at once: each is a set of columns of one wide W with its own row mask, so one pass over the
features serves them all and nothing is copied. The path runs from strong to weak, each fit starting from the one
before, and ends when the held-out loss has stopped falling, which is where the fits would become slow.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial

import numpy as np

from tledge import machine
from tledge.errors import MissingExtra
from tledge.heads.lbfgs import minimize
from tledge.schema import LinearHead

L2_PATH = tuple(float(10.0 ** (exponent / 3)) for exponent in range(3, -16, -1))
_PATIENCE = 1
_SPREAD_FLOOR = 0.5
_PATH_TOLERANCE = 1e-3
_FINAL_TOLERANCE = 1e-4
_BLOCKS = 4  # of rows, at least: a fixed number, so that sums do not depend on how many cores share the blocks
_BLOCK_BYTES = 64 << 20


def fit(features: np.ndarray, labels: np.ndarray, folds: np.ndarray, classes: int) -> LinearHead:
    """Fit `features` float32 [n, d] to `labels` int [n] in 0..classes-1.

    `folds` int [n] says in which fold a row is held out; -1 is a row that never is. The strength with the lowest
    held-out log loss is kept, then all rows are fitted with it. Deterministic, on any number of cores. Raises
    MissingExtra when threadpoolctl is not installed.
    """
    mean, scale, x = _standardised(features)
    with _one_blas_thread():
        chosen, start, path = _choose(x, labels, folds, classes)
        weights = _fit_all(x, labels, chosen, start)
    return _unstandardised(weights, mean, scale, chosen, path)


def refit(head: LinearHead, features: np.ndarray, labels: np.ndarray) -> LinearHead:
    """Fit other `features` float32 [n, d] to `labels` int [n] with the strength that `head` was fitted with.

    For features of another precision: cross-validating again would move the head by more than the precision did.
    """
    mean, scale, x = _standardised(features)
    with _one_blas_thread():
        weights = _fit_all(x, labels, head.l2, _zeros(len(head.bias), 1, x))
    return _unstandardised(weights, mean, scale, head.l2, head.path)


def probabilities(head: LinearHead, features: np.ndarray) -> np.ndarray:
    """Return softmax(features @ weights + bias), float32 [n, classes], for `features` float32 [n, d]."""
    return softmax(features @ head.weights + head.bias)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def _standardised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, scale = _standardisation(features)
    x = features - mean
    x /= scale
    return mean, scale, x


def _one_blas_thread() -> AbstractContextManager[object]:
    """Keep BLAS from starting threads of its own: on products with a few columns they mostly wait for each other.

    On two busy cores one product of 10 MB by ten columns took 12 ms with two BLAS threads and 1.2 ms with one.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra("threadpoolctl", "train") from error
    return threadpool_limits(1, user_api="blas")


def _zeros(classes: int, folds: int, x: np.ndarray) -> np.ndarray:
    return np.zeros((classes, folds, x.shape[1] + 1), np.float32)


def _fit_all(x: np.ndarray, labels: np.ndarray, l2: float, start: np.ndarray) -> np.ndarray:
    """Return weights [classes, d + 1] of all rows."""
    return _solve(x, labels, np.ones((1, len(x)), np.float32), l2, start, _FINAL_TOLERANCE)[:, 0]


def _standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale, float32 [d].

    The scale is the spread, softened by a part of the mean spread of all features: dividing by the bare spread would
    blow up features that hardly ever fire, which carry noise and slow the solver.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    squares = np.einsum("nd,nd->d", features, features, dtype=np.float64)
    variance = np.maximum(squares / len(features) - mean**2, 0.0)
    scale = np.sqrt(variance + _SPREAD_FLOOR**2 * variance.mean())
    return mean.astype(np.float32), np.where(scale > 0, scale, 1.0).astype(np.float32)


def _choose(
    x: np.ndarray, labels: np.ndarray, folds: np.ndarray, classes: int
) -> tuple[float, np.ndarray, tuple[tuple[float, float, float], ...]]:
    """Return the best strength, the mean of its folds' weights [classes, 1, d + 1] to start from, and the path."""
    count = int(folds.max()) + 1
    masks = (folds != np.arange(count)[:, None]).astype(np.float32)
    held_out = np.flatnonzero(folds >= 0)
    weights = best_weights = _zeros(classes, count, x)
    path: list[tuple[float, float, float]] = []
    for l2 in L2_PATH:
        weights = _solve(x, labels, masks, l2, weights, _PATH_TOLERANCE)
        logits = np.tensordot(weights[..., :-1], x, (2, 1)) + weights[..., -1:]
        own = softmax(logits[:, folds[held_out], held_out].T.astype(np.float64))
        truth = own[np.arange(len(held_out)), labels[held_out]]
        accuracy = float((own.argmax(axis=1) == labels[held_out]).mean())
        path.append((l2, float(-np.log(np.maximum(truth, 1e-15)).mean()), accuracy))
        best = min(range(len(path)), key=lambda i: path[i][1])
        if best == len(path) - 1:
            best_weights = weights
        elif len(path) - 1 - best >= _PATIENCE:
            break
    return path[best][0], best_weights.mean(axis=1, keepdims=True), tuple(path)


def _solve(
    x: np.ndarray, labels: np.ndarray, masks: np.ndarray, l2: float, start: np.ndarray, tolerance: float
) -> np.ndarray:
    """Minimise the sum of the folds' losses over weights [classes, folds, d + 1], the bias last; `masks` [folds, n].

    Rows of x stand last in everything computed from them, so that sums over classes run along contiguous memory.
    """
    classes, folds, _ = start.shape
    share = (masks / masks.sum(axis=1, keepdims=True)).astype(np.float32)
    size = max(1, min(-(-len(x) // _BLOCKS), _BLOCK_BYTES // (4 * classes * folds)))
    blocks = [slice(first, first + size) for first in range(0, len(x), size)]

    def of_block(weights: np.ndarray, rows: slice) -> tuple[float, np.ndarray, np.ndarray]:
        logits = (weights[:, :-1] @ x[rows].T + weights[:, -1:]).reshape(classes, folds, -1)
        loss = _loss_to_error(logits, labels[rows], share[:, rows])
        error = logits.reshape(len(weights), -1)
        return loss, error @ x[rows], error.sum(axis=1)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(classes * folds, -1)
        loss = 0.5 * l2 * float(np.square(weights[:, :-1]).sum(dtype=np.float64))
        gradient = l2 * weights
        gradient[:, -1] = 0.0
        for block_loss, block_gradient, block_bias in pool.map(partial(of_block, weights), blocks):
            loss += block_loss
            gradient[:, :-1] += block_gradient
            gradient[:, -1] += block_bias
        return loss, gradient.ravel()

    with ThreadPoolExecutor(machine.cores()) as pool:
        return minimize(objective, start.ravel(), tolerance=tolerance * folds).reshape(start.shape)


def _loss_to_error(logits: np.ndarray, labels: np.ndarray, share: np.ndarray) -> float:
    """Turn `logits` [classes, folds, rows] into the derivative of the loss by them, in place; return the loss.

    `labels` is int [rows], `share` [folds, rows] the weight of each row in the loss of each fold.
    """
    each = np.arange(len(labels))
    logits -= logits.max(axis=0)
    truth = logits[labels, :, each].T
    np.exp(logits, out=logits)
    total = logits.sum(axis=0)
    loss = float((share * (np.log(total) - truth)).sum(dtype=np.float64))
    logits *= share / total
    logits[labels, :, each] -= share.T
    return loss


def _unstandardised(
    weights: np.ndarray, mean: np.ndarray, scale: np.ndarray, l2: float, path: tuple[tuple[float, float, float], ...]
) -> LinearHead:
    raw = (weights[:, :-1].astype(np.float64) / scale).T
    bias = weights[:, -1] - mean.astype(np.float64) @ raw
    return LinearHead(np.ascontiguousarray(raw, np.float32), bias.astype(np.float32), l2, path)

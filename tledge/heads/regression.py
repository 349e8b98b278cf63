"""Linear heads with L2: the strength chosen by cross-validation on the cached features, then all rows fitted with it.

    loss(W, b) = weighted mean over samples of −log p(truth | x W + b) + (l2 / 2) · ‖W‖²,  x standardised

p is a softmax over the classes, or a sigmoid for each of them where a sample has any number of labels (the loss is then
the sum of the classes' means). Standardisation is folded into the weights afterwards, so a head takes features as the
backbone gives them. All folds are fitted at once: each is a set of columns of one wide W with its own row mask, so one
pass over the features serves them all and nothing is copied. The path runs from strong to weak, each fit starting from
the one before, and ends when the held-out loss has stopped falling, which is where the fits would become slow.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np

from tledge import machine, native
from tledge.errors import MissingExtra
from tledge.heads.calibration import accuracy, log_loss
from tledge.heads.lbfgs import minimize

L2_PATH = tuple(float(10.0 ** (exponent / 3)) for exponent in range(3, -16, -1))
Path = tuple[tuple[float, float, float], ...]
_PATIENCE = 1
_SPREAD_FLOOR = 0.5
_PATH_TOLERANCE = 1e-3
_FINAL_TOLERANCE = 1e-4
# Rows are cut by their number and not by that of the cores that share them, so that sums do not depend on it.
_FEWEST_BLOCKS, _MOST_BLOCKS, _FEWEST_ROWS = 4, 64, 512
_BLOCK_BYTES = 256 << 20  # of the blocks' gradients


@dataclass(frozen=True, slots=True)
class Regression:
    """Logits are `features @ weights + bias`: float32 [d, classes] and [classes].

    `path` holds (l2, held-out loss, held-out accuracy) of every strength that was tried. `held_out` int [m] are the
    rows that were held out, `logits` float64 [m, classes] what their folds' fits gave for them at the strength `l2`.
    """

    weights: np.ndarray
    bias: np.ndarray
    l2: float
    path: Path
    held_out: np.ndarray
    logits: np.ndarray


def fit(
    features: np.ndarray, truth: np.ndarray, row_weights: np.ndarray, folds: np.ndarray, classes: int
) -> Regression:
    """Fit `features` float32 [n, d] to `truth`: int [n] in 0..classes-1, or bool [n, classes].

    `row_weights` float32 has the shape of `truth`. `folds` int [n] says in which fold a row is held out; -1 is a row
    that never is. The strength with the lowest held-out loss is kept. Deterministic, on any number of cores; where
    `native.may_use_gpu` allows it, large features are fitted on a GPU, with other last bits. Raises MissingExtra when
    threadpoolctl is not installed.
    """
    mean, scale, x = _standardised(features)
    with _one_blas_thread():
        chosen = _choose(x, truth, row_weights, folds, classes)
        weights = _fit_all(x, truth, row_weights, chosen.l2, chosen.start)
    raw, bias = _unstandardised(weights, mean, scale)
    return Regression(raw, bias, chosen.l2, tuple(chosen.path), np.flatnonzero(folds >= 0), chosen.logits)


def refit(
    features: np.ndarray, truth: np.ndarray, row_weights: np.ndarray, l2: float, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and bias as `fit` does, for a strength that is known already.

    For features of another precision: cross-validating again would move the head by more than the precision did.
    """
    mean, scale, x = _standardised(features)
    with _one_blas_thread():
        weights = _fit_all(x, truth, row_weights, l2, _zeros(classes, 1, x))
    return _unstandardised(weights, mean, scale)


@dataclass(slots=True)
class _Chosen:
    """The best strength so far, where to start the fit of all rows from, and what came of every strength."""

    l2: float
    start: np.ndarray
    logits: np.ndarray
    path: list[tuple[float, float, float]]


def _standardised(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, scale = standardisation(features)
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


def _fit_all(x: np.ndarray, truth: np.ndarray, row_weights: np.ndarray, l2: float, start: np.ndarray) -> np.ndarray:
    """Return weights [classes, d + 1] of all rows."""
    everything = np.ones((1, len(x)), np.float32)
    return _solve(x, truth, _shares(everything, row_weights), l2, start, _FINAL_TOLERANCE)[:, 0]


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale, float32 [d].

    The scale is the spread, softened by a part of the mean spread of all features: dividing by the bare spread would
    blow up features that hardly ever fire, which carry noise and slow the solver.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    squares = np.einsum("nd,nd->d", features, features, dtype=np.float64)
    variance = np.maximum(squares / len(features) - mean**2, 0.0)
    scale = np.sqrt(variance + _SPREAD_FLOOR**2 * variance.mean())
    return mean.astype(np.float32), np.where(scale > 0, scale, 1.0).astype(np.float32)


def _choose(x: np.ndarray, truth: np.ndarray, row_weights: np.ndarray, folds: np.ndarray, classes: int) -> _Chosen:
    """Walk the path of strengths; where to start from is the mean of the folds' weights, [classes, 1, d + 1]."""
    count = int(folds.max()) + 1
    shares = _shares((folds != np.arange(count)[:, None]).astype(np.float32), row_weights)
    held_out = np.flatnonzero(folds >= 0)
    facts = truth[held_out], row_weights[held_out]
    weights = _zeros(classes, count, x)
    chosen = _Chosen(L2_PATH[0], weights, np.empty(0), [])
    lowest, since = np.inf, 0
    for l2 in L2_PATH:
        weights = _solve(x, truth, shares, l2, weights, _PATH_TOLERANCE)
        logits = np.tensordot(weights[..., :-1], x, (2, 1)) + weights[..., -1:]
        own = logits[:, folds[held_out], held_out].T.astype(np.float64)
        loss = log_loss(own, *facts)
        chosen.path.append((l2, loss, accuracy(own, facts[0])))
        if loss < lowest:
            chosen.l2, chosen.start, chosen.logits = l2, weights, own
            lowest, since = loss, 0
        elif (since := since + 1) >= _PATIENCE:
            break
    chosen.start = chosen.start.mean(axis=1, keepdims=True)
    return chosen


def _shares(masks: np.ndarray, row_weights: np.ndarray) -> np.ndarray:
    """Return what each row contributes to the loss of each fold: [folds, n], or [classes, folds, n] of several labels.

    `masks` float32 [folds, n] is 1 where a row is fitted. Each fold's shares sum to 1, unless nothing is fitted in it.
    """
    shares = masks * (row_weights if row_weights.ndim == 1 else row_weights.T[:, None])
    return (shares / np.maximum(shares.sum(axis=-1, keepdims=True), 1e-12)).astype(np.float32, order="C")


def _solve(
    x: np.ndarray, truth: np.ndarray, shares: np.ndarray, l2: float, start: np.ndarray, tolerance: float
) -> np.ndarray:
    """Minimise the sum of the folds' losses over weights [classes, folds, d + 1], the bias last."""
    classes, folds, length = start.shape
    most = min(max(_BLOCK_BYTES // (8 * classes * folds * length), _FEWEST_BLOCKS), _MOST_BLOCKS)
    size = max(-(-len(x) // most), _FEWEST_ROWS)
    blocks: list[slice | None] = [slice(first, first + size) for first in range(0, len(x), size)]
    loss_grad = native.sigmoid_loss_grad if truth.ndim == 2 else native.softmax_loss_grad
    truth = np.ascontiguousarray(truth, bool if truth.ndim == 2 else np.int32)
    if (on_gpu := native.kept_on_gpu(x)) is not None:
        everything = on_gpu, native.on_gpu(truth), native.on_gpu(shares)
        blocks, loss_grad = [None], native.implementation(loss_grad.__name__, "cuda")

    def of_block(weights: np.ndarray, rows: slice | None) -> tuple[float, np.ndarray]:
        gradient = np.zeros(weights.shape)
        part = everything if rows is None else (x[rows], truth[rows], shares[..., rows])
        return loss_grad(part[0], weights, *part[1:], gradient), gradient

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(classes * folds, -1)
        loss = 0.5 * l2 * float(np.square(weights[:, :-1]).sum(dtype=np.float64))
        gradient = l2 * weights.astype(np.float64)
        gradient[:, -1] = 0.0
        for block_loss, block_gradient in pool.map(partial(of_block, weights), blocks):
            loss += block_loss
            gradient += block_gradient
        return loss, gradient.ravel().astype(np.float32)

    with ThreadPoolExecutor(machine.cores()) as pool:
        return minimize(objective, start.ravel(), tolerance=tolerance * folds).reshape(start.shape)


def _unstandardised(weights: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    raw = (weights[:, :-1].astype(np.float64) / scale).T
    bias = weights[:, -1] - mean.astype(np.float64) @ raw
    return np.ascontiguousarray(raw, np.float32), bias.astype(np.float32)

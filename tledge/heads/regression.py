"""Linear heads with L2: the strength chosen by cross-validation on the cached features, then all rows fitted with it.

    loss(W, b) = weighted mean over samples of −log p(truth | x W + b) + (l2 / 2) · ‖W‖²,  x standardised

p is a softmax over the classes, or a sigmoid for each of them where a sample has any number of labels (the loss is then
the sum of the classes' means). It is the weights that are turned, before and after each pass, not the features: they
are read as the backbone gave them, no copy is made, and a head takes them so. All folds are fitted at once: each is a
set of columns of one wide W with its own row mask, so one pass over the features serves them all. The path runs from
strong to weak, each fit starting from the one before, and ends when the held-out loss has stopped falling, which is
where the fits would become slow.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tledge import gpu, machine, native
from tledge.heads.calibration import accuracy, log_loss
from tledge.heads.lbfgs import minimize

L2_PATH = tuple(float(10.0 ** (exponent / 3)) for exponent in range(3, -16, -1))
Path = tuple[tuple[float, float, float], ...]
_PATIENCE = 1
_SPREAD_FLOOR = 0.5
_PATH_TOLERANCE, _FINAL_TOLERANCE = 3e-3, 1e-4  # of the norm of a fold's gradient, where the loss is at most 1
_BLOCK, _PART = 256, 4096  # rows
_FAR = 64.0  # scales from zero: with a mean beyond, products of single precision would lose the features' differences


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
    """Fit `features` float32 or float16 [n, d] to `truth`: int [n] in 0..classes-1, or bool [n, classes].

    `row_weights` float32 has the shape of `truth`. `folds` int [n] says in which fold a row is held out; -1 is a row
    that never is. The strength with the lowest held-out loss is kept. Deterministic, on any number of cores; where
    `gpu.allowed` allows it, large features are fitted on a GPU, with other last bits.
    """
    seen = _Standardised.of(features)
    chosen = _choose(seen, truth, row_weights, folds, classes)
    raw, bias = seen.head(_fit_all(seen, truth, row_weights, chosen.l2, chosen.start))
    return Regression(raw, bias, chosen.l2, tuple(chosen.path), np.flatnonzero(folds >= 0), chosen.logits)


def refit(
    features: np.ndarray, truth: np.ndarray, row_weights: np.ndarray, l2: float, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and bias as `fit` does, for a strength that is known already.

    For features of another precision: cross-validating again would move the head by more than the precision did.
    """
    seen = _Standardised.of(features)
    return seen.head(_fit_all(seen, truth, row_weights, l2, _zeros(classes, 1, features)))


@dataclass(frozen=True, slots=True)
class _Standardised:
    """Features `x` [n, d], seen as (x - `mean`) / `scale`, float64 [d], without being changed.

    `x` is what was given less `shift`, which is not zero only where the mean is far from zero, next to the scale. The
    scale of a constant feature is infinite: it has no weight.
    """

    x: np.ndarray
    shift: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> _Standardised:
        mean, scale = standardisation(features)
        far = np.abs(mean) > _FAR * scale
        shift = np.where(far, mean, np.float32(0))
        x = features - shift if far.any() else features
        return cls(x, shift, mean.astype(np.float64) - shift, np.where(_constant(features), np.inf, scale))

    def weights_of(self, standard: np.ndarray) -> np.ndarray:
        """Return what `standard` weights [..., d + 1], the bias last, are for `x` as it is."""
        weights = standard.astype(np.float64)
        weights[..., :-1] /= self.scale
        weights[..., -1] -= weights[..., :-1] @ self.mean
        return weights

    def gradient_of(self, raw: np.ndarray) -> np.ndarray:
        """Turn the derivative by the weights for `x` into that by the standard ones, in place."""
        raw[:, :-1] -= raw[:, -1:] * self.mean
        raw[:, :-1] /= self.scale
        return raw

    def head(self, standard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return weights float32 [d, classes] and bias [classes] for the features that were given."""
        weights = self.weights_of(standard)
        bias = weights[:, -1] - weights[:, :-1] @ self.shift
        return np.ascontiguousarray(weights[:, :-1].T, np.float32), bias.astype(np.float32)


@dataclass(slots=True)
class _Chosen:
    """The best strength so far, where to start the fit of all rows from, and what came of every strength."""

    l2: float
    start: np.ndarray
    logits: np.ndarray
    path: list[tuple[float, float, float]]


def _zeros(classes: int, folds: int, x: np.ndarray) -> np.ndarray:
    return np.zeros((classes, folds, x.shape[1] + 1), np.float32)


def _fit_all(
    seen: _Standardised, truth: np.ndarray, row_weights: np.ndarray, l2: float, start: np.ndarray
) -> np.ndarray:
    """Return weights [classes, d + 1] of all rows."""
    everything = np.ones((1, len(seen.x)), np.float32)
    return _solve(seen, truth, _shares(everything, row_weights), l2, start, _FINAL_TOLERANCE)[:, 0]


def standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale, float32 [d].

    The scale is the spread, softened by a part of the mean spread of all features: dividing by the bare spread would
    blow up features that hardly ever fire, which carry noise and slow the solver.
    """
    near = features[:_BLOCK].mean(axis=0, dtype=np.float32)  # squares of what is left of it keep their digits

    def sums(first: int) -> np.ndarray:
        total = np.zeros((2, len(near)))
        for start in range(first, min(first + _PART, len(features)), _BLOCK):
            rows = features[start : min(start + _BLOCK, first + _PART)] - near
            total += rows.sum(axis=0), np.einsum("nd,nd->d", rows, rows)
        return total

    with ThreadPoolExecutor(machine.cores()) as pool:
        offset, squares = sum(pool.map(sums, range(0, len(features), _PART))) / len(features)
    mean, variance = near + offset, np.maximum(squares - offset**2, 0.0)
    scale = np.sqrt(variance + _SPREAD_FLOOR**2 * variance.mean())
    return mean.astype(np.float32), np.where(scale > 0, scale, 1.0).astype(np.float32)


def _constant(features: np.ndarray) -> np.ndarray:
    """Return which features are the same everywhere, bool [d]."""
    same = np.ones(features.shape[1], bool)
    for first in range(0, len(features), _BLOCK):
        rows = features[first : first + _BLOCK, same]
        same[same] = (rows == features[0, same]).all(axis=0)
    return same


def _choose(
    seen: _Standardised, truth: np.ndarray, row_weights: np.ndarray, folds: np.ndarray, classes: int
) -> _Chosen:
    """Walk the path of strengths; where to start from is the mean of the folds' weights, [classes, 1, d + 1]."""
    count = int(folds.max()) + 1
    shares = _shares((folds != np.arange(count)[:, None]).astype(np.float32), row_weights)
    held_out = np.flatnonzero(folds >= 0)
    facts = truth[held_out], row_weights[held_out]
    weights = _zeros(classes, count, seen.x)
    chosen = _Chosen(L2_PATH[0], weights, np.empty(0), [])
    lowest, since = np.inf, 0
    for l2 in L2_PATH:
        weights = _solve(seen, truth, shares, l2, weights, _PATH_TOLERANCE)
        own = _held_out_logits(seen, weights, folds)
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


def _held_out_logits(seen: _Standardised, weights: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return logits float64 [m, classes] of the rows that are held out, each by the weights of its own fold."""
    raw = seen.weights_of(weights).astype(np.float32)
    logits = np.empty((len(folds), len(raw)))
    for fold in range(raw.shape[1]):
        rows = np.flatnonzero(folds == fold)
        for first in range(0, len(rows), _BLOCK):
            part = rows[first : first + _BLOCK]
            logits[part] = seen.x[part].astype(np.float32, copy=False) @ raw[:, fold, :-1].T + raw[:, fold, -1]
    return logits[folds >= 0]


def _solve(
    seen: _Standardised, truth: np.ndarray, shares: np.ndarray, l2: float, start: np.ndarray, tolerance: float
) -> np.ndarray:
    """Minimise the mean of the folds' losses over weights [classes, folds, d + 1], the bias last."""
    classes, folds, _ = start.shape
    loss_grad = native.sigmoid_loss_grad if truth.ndim == 2 else native.softmax_loss_grad
    x, truth = seen.x, np.ascontiguousarray(truth, bool if truth.ndim == 2 else np.int32)
    if (on_gpu := gpu.kept(x)) is not None:
        x, truth, shares = on_gpu, gpu.upload(truth), gpu.upload(shares)
        loss_grad = native.implementation(loss_grad.__name__, "cuda")

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(classes * folds, -1)
        gradient = np.zeros(weights.shape)
        raw = seen.weights_of(weights).astype(np.float32)
        loss = loss_grad(x, raw, truth, shares, gradient, threads=machine.cores())
        gradient = seen.gradient_of(gradient)
        gradient[:, :-1] += l2 * weights[:, :-1]
        loss += 0.5 * l2 * float(np.square(weights[:, :-1]).sum(dtype=np.float64))
        return loss / folds, (gradient / folds).ravel().astype(np.float32)

    return minimize(objective, start.ravel(), tolerance=tolerance / np.sqrt(folds)).reshape(start.shape)

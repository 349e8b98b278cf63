"""Limited-memory BFGS for smooth convex functions. Source: Nocedal & Wright, Numerical Optimization, 2nd ed., ch. 7."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]

_MEMORY = 60  # pairs: of correlated features, 10 took twice as many passes, and 120 no fewer
_SUFFICIENT_DECREASE = 1e-4
_SHORTEST_STEP = 1e-3  # of the first that is tried along a direction
_NOISE = 1e-7  # what float32 sums leave in the value, relative to it: a step is not refused over less


def minimize(objective: Objective, start: np.ndarray, *, tolerance: float, max_iterations: int = 500) -> np.ndarray:
    """Return a minimiser of `objective` (x → value, gradient) near `start`, float [n].

    Stops when the gradient's norm is at most `tolerance` · max(1, |value|), when no step along the search direction
    lowers the value (the limit of the arithmetic), or after `max_iterations`.
    """
    x, (value, gradient) = start, objective(start)
    pairs: deque[tuple[np.ndarray, np.ndarray, float]] = deque(maxlen=_MEMORY)
    for _ in range(max_iterations):
        if np.linalg.norm(gradient) <= tolerance * max(1.0, abs(value)):
            break
        direction = _descent(gradient, pairs)
        slope = float(gradient @ direction)
        step = first = 1.0 if pairs else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
        while True:
            new_x = x + step * direction
            new_value, new_gradient = objective(new_x)
            if new_value <= value + _SUFFICIENT_DECREASE * step * slope + _NOISE * abs(value):
                break
            step *= 0.5
            if step < _SHORTEST_STEP * first:
                return x
        change, turn = new_x - x, new_gradient - gradient
        curvature = float(change @ turn)
        if curvature > 1e-12 * float(turn @ turn):  # else the pair would spoil the positive definite model
            pairs.append((change, turn, 1.0 / curvature))
        x, value, gradient = new_x, new_value, new_gradient
    return x


def _descent(gradient: np.ndarray, pairs: deque[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
    """Return minus the inverse Hessian model times `gradient` (two-loop recursion, algorithm 7.4)."""
    q = -gradient
    weights = []
    for change, turn, rho in reversed(pairs):
        weights.append(rho * float(change @ q))
        q = q - weights[-1] * turn
    if pairs:
        _, turn, rho = pairs[-1]
        q = q / (rho * float(turn @ turn))
    for (change, turn, rho), weight in zip(pairs, reversed(weights), strict=True):
        q = q + (weight - rho * float(turn @ q)) * change
    return q

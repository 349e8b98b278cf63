"""Which of several candidates are worth having: those that no other one beats."""

from __future__ import annotations

import numpy as np


def front(costs: np.ndarray) -> np.ndarray:
    """Return bool [n]: whether no other row of `costs` float [n, aims], less is better, dominates this one.

    A row dominates another that it nowhere exceeds and somewhere undercuts, so that equal rows stay together.
    """
    one, other = costs[:, None], costs[None]
    dominated = (other <= one).all(axis=2) & (other < one).any(axis=2)
    return ~dominated.any(axis=1)

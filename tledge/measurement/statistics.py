"""How far to trust a median, without assuming any form of noise.

The number of values below the true median is binomial with p = 1/2, so the order statistics at its quantiles enclose
the median at a known rate. Source: Conover, Practical Nonparametric Statistics, 3rd ed. 1999, section 3.2.
"""

from __future__ import annotations

import math

import numpy as np

_Z = 2.5758  # the normal distribution holds 99 % within ± this
FEWEST = 8  # below this, not even the smallest and the largest value enclose the median that often


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 99 % interval of the median of `values` float [n]; of fewer than FEWEST values, their whole range."""
    ordered, count = np.sort(values), len(values)
    # One rank further out than the normal approximation makes up for what it lacks.
    first = max(0, math.floor(count / 2 - _Z * math.sqrt(count) / 2) - 1)
    return float(ordered[first]), float(ordered[count - 1 - first])

"""Observation of an activation → the range that its 256 steps shall cover.

A wide range rounds coarsely, a narrow one clips. All methods but `minmax` weigh the two on the histogram; whatever they
choose is cut to the smallest and the largest value seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tledge import native
from tledge.reference import BINS

Range = tuple[float, float]
_STEPS = 255


@dataclass(frozen=True, slots=True)
class Observation:
    """Histogram and moments of one tensor over any number of batches, in 32 KB. Formula: `tledge.reference.observe`.

    `counts` is int64 [4096], `summary` float64 [6].
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    summary: np.ndarray = field(default_factory=lambda: np.zeros(6))

    def add(self, x: np.ndarray) -> None:
        """Add a batch, float32 of any shape. Raises ValueError when it is empty or not finite."""
        native.observe(x, self.counts, self.summary)

    @property
    def width(self) -> float:
        """The width of a bin, a power of two."""
        return 2.0 ** self.summary[0]

    @property
    def low(self) -> float:
        """The smallest value."""
        return float(self.summary[1])

    @property
    def high(self) -> float:
        """The largest value."""
        return float(self.summary[2])

    def centred(self) -> np.ndarray:
        """Return the counts float64 [2 · reach] of as many bins on both sides of zero as the larger side fills."""
        reach = max(int(self.high // self.width) + 1, -int(self.low // self.width))
        return self.counts[BINS // 2 - reach : BINS // 2 + reach].astype(np.float64)


def minmax(seen: Observation) -> Range:
    """Return the smallest and the largest value: nothing is clipped."""
    return seen.low, seen.high


def percentile(seen: Observation, kept: float = 99.999) -> Range:
    """Return the range that holds `kept` per cent of the values, as many cut off below as above, in whole bins."""
    cumulative = np.cumsum(seen.centred())
    reach, cut = len(cumulative) // 2, (1 - kept / 100) / 2 * cumulative[-1]
    first = int(np.searchsorted(cumulative, cut, side="right"))
    last = int(np.searchsorted(cumulative, cumulative[-1] - cut))
    return _cut(seen, first - reach, last + 1 - reach)


def entropy(seen: Observation, levels: int = 128) -> Range:
    """Return the range, as wide on both sides of zero, after which the fewest bits are lost.

    Its bins are compared with what `levels` equal groups of them leave: the mass of a group, spread evenly over those
    of its bins that were filled. Of all widths the one of least Kullback-Leibler divergence is taken, the values beyond
    it counted in its first and last bin. The bins that no group is left for go to the last one.
    Source: Migacz, 8-bit Inference with TensorRT, GTC 2017; the exception for zero is that of NVIDIA's
    pytorch-quantization.
    """
    counts = seen.centred()
    reach = len(counts) // 2
    if reach < levels // 2:
        return minmax(seen)  # nothing but zeros
    # The zeros behind a Relu are exact in any range, but no group of bins could tell them from what lies beside them.
    counts[reach] = min(counts[reach], counts[reach + 1])
    total, halves = counts.sum(), np.arange(levels // 2, reach + 1)
    start, end = reach - halves, reach + halves
    bounds = start[:, None] + (2 * halves // levels)[:, None] * np.arange(levels + 1)
    bounds[:, -1] = end
    mass, filled = (np.diff(_running(each)[bounds]) for each in (counts, counts > 0))
    first, last, running = counts[start], counts[end - 1], _running(counts)
    below, above = running[start], total - running[end]
    filled[:, 0] += (first == 0) & (below > 0)
    filled[:, -1] += (last == 0) & (above > 0)
    truth = mass.copy()
    truth[:, 0] += below
    truth[:, -1] += above
    own = _running(_times_log(counts))
    own = own[end] - own[start] + _times_log(first + below) + _times_log(last + above)
    own -= _times_log(first) + _times_log(last)
    inside = mass.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossed = np.where(truth > 0, truth * np.log(mass / filled), 0).sum(axis=1)  # −∞: a bin that no group explains
        lost = np.where(inside > 0, (own - crossed) / total + np.log(inside / total), np.inf)
    best = int(halves[np.argmin(lost)])
    return _cut(seen, -best, best)


def mse(seen: Observation) -> Range:
    """Return the range of least squared error.

    A value that is rounded costs Δ² / 12, one that is clipped its squared distance. Values in the two bins beside zero
    count as exact: zero is a step, and they are less than half a step from it. Low and high are improved in turn until
    neither moves; the sum is convex in both.
    Source: Banner, Nahshan and Soudry, Post Training 4-bit Quantization of Convolutional Networks, 2019, section 3.
    """
    counts = seen.centred()
    reach = len(counts) // 2
    rounded = (counts.sum() - counts[reach - 1 : reach + 1].sum()) / 12 / _STEPS**2
    above, below = _clipped(counts[reach:]), _clipped(counts[:reach][::-1])
    width, low, high = np.arange(reach + 1), reach, reach
    while True:
        before = low, high
        high = int(np.argmin(rounded * (low + width) ** 2 + above))
        low = int(np.argmin(rounded * (high + width) ** 2 + below))
        if (low, high) == before:
            return _cut(seen, -low, high)


METHODS: dict[str, Callable[[Observation], Range]] = {
    "minmax": minmax,
    "entropy": entropy,
    "percentile": percentile,
    "mse": mse,
}


def _cut(seen: Observation, first: int, end: int) -> Range:
    """Return the edges `first` and `end`, in bins from zero, no further out than any value was."""
    return max(first * seen.width, seen.low), min(end * seen.width, seen.high)


def _running(values: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, 2, … of `values`."""
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _times_log(values: np.ndarray) -> np.ndarray:
    return values * np.log(np.where(values > 0, values, 1))


def _clipped(counts: np.ndarray) -> np.ndarray:
    """Return the squared error, in bins², of all that lies beyond each of the n + 1 edges of n bins on one side."""
    centres, edges = np.arange(len(counts)) + 0.5, np.arange(len(counts) + 1)
    number, total, squares = (_running((counts * centres**power)[::-1])[::-1] for power in (0, 1, 2))
    return squares - 2 * edges * total + edges**2 * number

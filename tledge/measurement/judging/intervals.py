"""How far to trust the ratio of two latencies that were measured in pairs.

A machine's pace changes from second to second, and a change hits both runs of a pair. So medians are not taken over
the whole measurement, where they would jump between a quiet and a busy half, but over blocks of a few pairs: each
block gives one ratio of medians, and their median is the ratio. Its interval is the percentile bootstrap's over blocks.
For a median the bootstrap needs no drawing: of n values drawn with replacement, the number that is at most the k-th
smallest is binomial. Source: Efron, Bootstrap Methods: Another Look at the Jackknife, Annals of Statistics 7 (1979),
section 3.

Two openings of the same file differ a little in speed for as long as they are open, since they lie elsewhere in memory
(Mytkowicz et al., Producing Wrong Data Without Doing Anything Obviously Wrong, ASPLOS 2009). No number of pairs
averages that away, only new openings do, and the interval allows for it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

BLOCK = 5  # pairs: medians of fewer are no medians, more last long enough for the pace to change within
FEWEST = 11  # blocks: of fewer, not even the smallest and the largest enclose the median at every look
OPENING_SD = 0.005  # of the logarithm of the ratio, seen with the same file opened twenty times, fp32 and int8
OWN_THREADS_SD = 0.3  # the same, where each of two sessions has threads of its own and a core is busy (see apart.py)
_BLOCKS_FROM = 100  # pairs; below, each pair is a block, since there are not blocks enough
_RESAMPLES = 2000
_CHUNK = 4_000_000


class Interval(NamedTuple):
    """A ratio, and what encloses it: `low` to `high`."""

    ratio: float
    low: float
    high: float


def of_medians(
    new: np.ndarray, old: np.ndarray, openings: int, error: float, opening_sd: float = OPENING_SD
) -> Interval:
    """Return the ratio of medians of `new` over `old`, float [pairs], which lies outside with probability `error`.

    The pairs are in the order in which they ran, in `openings` of both models, each of which moves the logarithm of
    the ratio by about `opening_sd`.
    """
    size = BLOCK if len(new) >= _BLOCKS_FROM else 1
    logs = np.sort(np.log(np.median(_blocks(new, size), axis=1) / np.median(_blocks(old, size), axis=1)))
    rank = _rank(len(logs), error / 2)
    return _widened(float(np.median(logs)), float(logs[rank]), float(logs[-1 - rank]), openings, error, opening_sd)


def of_quantiles(
    new: np.ndarray, old: np.ndarray, q: float, openings: int, error: float, opening_sd: float = OPENING_SD
) -> Interval:
    """Return the ratio of the `q` quantiles of `new` over `old`, as `of_medians` does of medians.

    A tail is made of rare events, so it is taken over all pairs; blocks of them are drawn again, since what slows one
    pair down mostly lasts for the next one too. The drawing starts from the same seed every time.
    """
    size = BLOCK if len(new) >= _BLOCKS_FROM else 1
    both = np.stack([_blocks(new, size), _blocks(old, size)])
    drawn = np.sort(np.concatenate([_drawn(both, q, rng_seed, count) for rng_seed, count in _portions(both[0].size)]))
    found = math.log(np.quantile(new, q) / np.quantile(old, q))
    low, high = np.quantile(drawn, [error / 2, 1 - error / 2])
    return _widened(found, min(low, found), max(high, found), openings, error, opening_sd)


def between(now: Interval, then: Interval, more: float = 0.0) -> Interval:
    """Return how `now` compares with `then`, measured apart; `more` widens it, as a share of the ratio.

    Two errors that know nothing of each other add as squares, what may shift both ends one way adds as it is.
    """
    centre = math.log(now.ratio / then.ratio)
    down = more + math.hypot(math.log(now.ratio / now.low), math.log(then.high / then.ratio))
    up = more + math.hypot(math.log(now.high / now.ratio), math.log(then.ratio / then.low))
    return Interval(math.exp(centre), math.exp(centre - down), math.exp(centre + up))


def normal_quantile(error: float) -> float:
    """Return how many standard deviations enclose a normal variable, but for the probability `error`."""
    low, high = 0.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erfc(middle / math.sqrt(2)) > error else (low, middle)
    return low


def _blocks(values: np.ndarray, size: int) -> np.ndarray:
    count = len(values) // size
    return values[: count * size].reshape(count, size)


def _rank(count: int, tail: float) -> int:
    """Return the largest rank from 0 below which the bootstrap puts at most `tail` of its medians; 0 at least."""
    rank, middle = 0, (count + 1) // 2
    while rank + 1 < middle and _at_least(middle, count, (rank + 1) / count) <= tail:
        rank += 1
    return rank


def _at_least(least: int, count: int, p: float) -> float:
    """Return the probability of `least` or more of `count` events of probability `p`, the binomial's upper tail."""
    k = np.arange(least, count + 1)
    choices = math.lgamma(count + 1) - _log_factorial(k) - _log_factorial(count - k)
    return float(np.exp(choices + k * math.log(p) + (count - k) * math.log1p(-p)).sum())


def _log_factorial(k: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, k.max() + 1)))])[k]


def _portions(size: int) -> list[tuple[int, int]]:
    """Return seeds and numbers of resamples that fit into memory together, for `size` values each."""
    each = max(1, _CHUNK // max(size, 1))
    return [(start, min(each, _RESAMPLES - start)) for start in range(0, _RESAMPLES, each)]


def _drawn(both: np.ndarray, q: float, seed: int, count: int) -> np.ndarray:
    """Return logarithms of the ratio of quantiles of `count` resamples of the blocks in `both`, [2, blocks, size]."""
    chosen = np.random.default_rng(seed).integers(0, both.shape[1], (count, both.shape[1]))
    new, old = (np.quantile(each[chosen].reshape(count, -1), q, axis=1) for each in both)
    return np.log(new / old)


def _widened(centre: float, low: float, high: float, openings: int, error: float, opening_sd: float) -> Interval:
    allowed = normal_quantile(error) * opening_sd / math.sqrt(openings)
    down, up = math.hypot(centre - low, allowed), math.hypot(high - centre, allowed)
    return Interval(math.exp(centre), math.exp(centre - down), math.exp(centre + up))

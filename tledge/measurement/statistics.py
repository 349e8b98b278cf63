"""Medians and how far to trust them. Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13."""

from __future__ import annotations

import numpy as np

CONFIDENCE = 0.99
_RESAMPLES = 1000


def median_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 99 % bootstrap interval of the median of `values` float [n]."""
    return _interval(np.median(_resample(values, np.random.default_rng(seed)), axis=1))


def ratio_interval(new: np.ndarray, old: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Return the 99 % bootstrap interval of median(new) / median(old); row i of both was measured in the same breath."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(new), size=(_RESAMPLES, len(new)))
    return _interval(np.median(new[picks], axis=1) / np.median(old[picks], axis=1))


def _resample(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values[rng.integers(len(values), size=(_RESAMPLES, len(values)))]


def _interval(estimates: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(estimates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
